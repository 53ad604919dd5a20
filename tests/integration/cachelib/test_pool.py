"""The pool against a real server: its bound, its order, and that no connection is lost from it."""

import re
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from cachelib import OutcomeUnknown, PoolExhausted, Unavailable, deadline
from runbook.drills.faults import Proxy, refused
from runbook.targets.embedded import Embedded
from tests.integration.cachelib.background import Task, results
from tests.integration.cachelib.in_line import Line
from tests.timing import end_of

pytestmark = pytest.mark.timeout(60)


def test_thirty_threads_never_hold_more_connections_than_the_pool_allows(own_server: Embedded, connect_to: Any) -> None:
    client = connect_to(own_server, pool_size=4)
    observer = redis.Redis(port=own_server.config.port)
    observer.ping()
    before = observer.info("stats")["total_connections_received"]
    enough, served = threading.Event(), [0] * 30

    def call(number: int) -> None:
        while not enough.is_set():
            client.incr("k")
            served[number] += 1

    tasks = [Task(lambda number=number: call(number)) for number in range(30)]
    seen = [len(observer.client_list()) - 1 for _ in range(100)]
    enough.set()
    assert results(tasks) == [None] * 30
    assert max(seen) == 4
    assert observer.info("stats")["total_connections_received"] - before == 4
    assert sum(served) == int(observer.get("k"))
    observer.close()


def test_connections_are_handed_over_in_the_order_of_asking_and_to_those_who_wait_first(server: Embedded, connect_to: Any) -> None:
    """The releasing thread asks again at once: the connection is already that of the first who waits."""
    client = connect_to(server, pool_size=1, deadline_s=30.0)
    pool, order = client.connection_pool, []

    def borrow(number: int) -> None:
        connection = pool.get_connection()
        order.append(number)
        pool.release(connection)

    line = Line(client, [lambda number=number: borrow(number) for number in range(8)])
    line.release()
    borrow(8)
    assert line.outcomes() == [None] * 8
    assert order == list(range(9))


def test_exhausted_pool_says_so_at_the_deadline_and_works_again_later(server: Embedded, connect_to: Any) -> None:
    client = connect_to(server, pool_size=2, deadline_s=0.2)
    pool = client.connection_pool
    held = [pool.get_connection() for _ in range(2)]
    end = end_of(client.ping)
    assert (end.kind, end.is_at(0.2)) == (PoolExhausted, True)
    text = str(end.outcome)
    assert re.match(rf"all 2 connections to 127\.0\.0\.1:{server.config.port}/0 stayed in use for 0\.\d+ s: ", text)
    assert "raise REDIS_POOL_SIZE, or hold connections for a shorter time" in text
    for connection in held:
        pool.release(connection)
    assert client.ping()
    assert "0/2 in use, 0 waiting" in repr(pool)


def test_a_caller_that_gave_up_waiting_is_passed_over(server: Embedded, connect_to: Any) -> None:
    client = connect_to(server, pool_size=1)
    held = client.connection_pool.get_connection()
    with deadline(0.05), pytest.raises(PoolExhausted):
        client.ping()
    client.connection_pool.release(held)
    with deadline(5.0):
        assert client.ping()


def test_a_wait_that_was_interrupted_takes_no_connection_with_it(
    server: Embedded, connect_to: Any, eventually: Any, interrupted: Any
) -> None:
    """As when a notebook's cell is interrupted; the main thread waits, since it is the one that gets the signal."""

    client = connect_to(server, pool_size=1, deadline_s=20.0)
    pool = client.connection_pool
    held = pool.get_connection()

    def interrupt_the_wait(interrupt: Callable[[], None]) -> None:
        eventually(lambda: "1 waiting" in repr(pool))
        time.sleep(0.02)  # it queues first, and waits then
        interrupt()

    interrupted(client.ping, by=interrupt_the_wait)
    pool.release(held)
    with deadline(5.0):
        assert client.ping()
    assert "0/1 in use, 0 waiting" in repr(pool)


@pytest.mark.parametrize(
    "command",
    [
        lambda client: client.incr("k"),
        lambda client: client.pipeline().incr("k").execute(),
        lambda client: client.eval("return 1", 0),
    ],
    ids=["INCR", "MULTI", "EVAL"],
)
def test_connection_closed_by_the_server_is_replaced_unseen(
    command: Any, server: Embedded, connect_to: Any, direct: Any, eventually: Any
) -> None:
    client = connect_to(server)
    command(client)
    direct.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    eventually(lambda: len(direct.client_list()) == 1)
    command(client)


def test_connection_with_an_unread_reply_is_not_given_out(server: Embedded, connect_to: Any, direct: Any, eventually: Any) -> None:
    direct.set("other", "not mine")
    client = connect_to(server, pool_size=1)
    pool = client.connection_pool
    connection = pool.get_connection()
    connection.send_command("GET", "other")
    eventually(connection.can_read)
    pool.release(connection)
    assert client.get("mine") is None


def test_the_most_recently_used_connection_is_taken_first(server: Embedded, connect_to: Any) -> None:
    pool = connect_to(server).connection_pool
    first, second = pool.get_connection(), pool.get_connection()
    pool.release(first)
    pool.release(second)
    assert pool.get_connection() is second
    pool.release(second)


def test_releasing_twice_changes_nothing(server: Embedded, connect_to: Any) -> None:
    pool = connect_to(server, pool_size=2).connection_pool
    connection = pool.get_connection()
    pool.release(connection)
    pool.release(connection)
    assert "0/2 in use" in repr(pool)
    assert pool.get_connection() is not pool.get_connection()


def test_connections_that_could_not_be_made_are_not_counted_as_in_use(server: Embedded, proxy: Proxy, connect_to: Any) -> None:
    client = connect_to(server, port=proxy.port, pool_size=1, deadline_s=0.05)
    with refused(proxy):
        for _ in range(3):
            with pytest.raises(Unavailable) as caught:
                client.ping()
            assert type(caught.value) is not PoolExhausted
    with deadline(5.0):
        assert client.ping()


def test_closed_pool_connects_again(server: Embedded, connect_to: Any, direct: Any, eventually: Any) -> None:
    client = connect_to(server)
    client.ping()
    client.close()
    eventually(lambda: len(direct.client_list()) == 1)
    assert client.ping()


def test_repr_states_how_many_are_in_use_and_waiting(server: Embedded, connect_to: Any, eventually: Any) -> None:
    client = connect_to(server, pool_size=3, db=2)
    pool = client.connection_pool
    where = f"127.0.0.1:{server.config.port}/2"
    assert repr(pool) == f"<FairPool {where} 0/3 in use, 0 waiting>"
    held = [pool.get_connection() for _ in range(3)]
    tasks = [Task(client.ping) for _ in range(2)]
    eventually(lambda: "2 waiting" in repr(pool))
    assert repr(pool) == f"<FairPool {where} 3/3 in use, 2 waiting>"
    assert repr(client) == f"<cachelib.Client {pool!r}>"
    for connection in held:
        pool.release(connection)
    assert results(tasks) == [True, True]
    assert repr(pool) == f"<FairPool {where} 0/3 in use, 0 waiting>"


# --- what became of connections ---

COUNTS = ("size", "in_use", "idle", "waiting", "made", "lost", "retired", "unknown")


def counted(client: Any) -> dict[str, int]:
    stats = client.pool_stats()
    return {name: getattr(stats, name) for name in COUNTS}


def test_stats_count_what_is_in_use_idle_and_waiting(server: Embedded, connect_to: Any, eventually: Any) -> None:
    client = connect_to(server, pool_size=2)
    held = [client.connection_pool.get_connection() for _ in range(2)]
    assert counted(client) == {"size": 2, "in_use": 2, "idle": 0, "waiting": 0, "made": 2, "lost": 0, "retired": 0, "unknown": 0}
    waiters = [Task(client.ping) for _ in range(3)]
    eventually(lambda: client.pool_stats().waiting == 3)
    for connection in held:
        client.connection_pool.release(connection)
    assert results(waiters) == [True] * 3
    assert counted(client) == {"size": 2, "in_use": 0, "idle": 2, "waiting": 0, "made": 2, "lost": 0, "retired": 0, "unknown": 0}


def test_stats_count_connections_that_the_server_ended(server: Embedded, connect_to: Any, direct: Any, eventually: Any) -> None:
    client = connect_to(server, pool_size=2)
    for round_ in range(1, 4):
        client.ping()
        direct.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        eventually(lambda: len(direct.client_list()) == 1)
        client.ping()
        stats = client.pool_stats()
        assert (stats.made, stats.lost, stats.retired, stats.idle) == (round_ + 1, round_, 0, 1)


def test_stats_count_unknown_outcomes_and_the_connection_given_up_for_one(server: Embedded, connect_to: Any, paused: Any) -> None:
    client = connect_to(server, connected=True)
    with paused(server), deadline(0.1), pytest.raises(OutcomeUnknown):
        client.incr("n")
    assert counted(client) == {"size": 10, "in_use": 0, "idle": 0, "waiting": 0, "made": 1, "lost": 1, "retired": 0, "unknown": 1}


def test_connections_closed_by_the_caller_are_neither_lost_nor_retired(server: Embedded, connect_to: Any) -> None:
    client = connect_to(server, connected=True, connection_max_age_s=0.2)
    client.close()
    time.sleep(0.25)  # its age
    client.ping()
    assert counted(client) == {"size": 10, "in_use": 0, "idle": 1, "waiting": 0, "made": 2, "lost": 0, "retired": 0, "unknown": 0}


def test_idle_connections_given_up_after_a_silence_are_counted_as_lost(server: Embedded, connect_to: Any, paused: Any) -> None:
    """The peer of all of them may have vanished, and a connection is counted once."""
    client = connect_to(server, connect_timeout_s=0.1, deadline_s=0.3)
    with deadline(10.0):
        held = [client.connection_pool.get_connection() for _ in range(3)]
    for connection in held:
        client.connection_pool.release(connection)
    with paused(server), pytest.raises(Unavailable):
        client.get("k")
    with deadline(10.0):
        held = [client.connection_pool.get_connection() for _ in range(3)]
    stats = client.pool_stats()
    assert stats.made == stats.in_use + stats.idle + stats.lost
    for connection in held:
        client.connection_pool.release(connection)


def test_connection_is_replaced_at_its_age_unseen(server: Embedded, connect_to: Any) -> None:
    client = connect_to(server, pool_size=1, connection_max_age_s=0.1)
    ids, began_s = set(), time.monotonic()
    while client.pool_stats().retired < 3:
        ids.add(client.incr("n") and client.eval("return redis.call('INCR', 'n')", 0) and client.client_id())
    assert time.monotonic() - began_s >= 3 * 0.09
    stats = client.pool_stats()
    assert (stats.made, stats.lost, stats.unknown, len(ids) >= 3) == (4, 0, 0, True)


def test_connection_in_use_is_not_replaced_under_its_caller(server: Embedded, connect_to: Any) -> None:
    client = connect_to(server, pool_size=1, connection_max_age_s=0.05)
    with client.pipeline() as pipe:
        pipe.watch("k")
        time.sleep(0.1)  # twice its age
        pipe.multi()
        pipe.set("k", "v")
        assert pipe.execute() == [True]
    assert client.pool_stats().retired == 0
    client.ping()
    assert client.pool_stats().retired == 1


def test_connections_made_at_once_do_not_end_at_once(server: Embedded, connect_to: Any) -> None:
    client = connect_to(server, pool_size=30, connection_max_age_s=1000.0)
    before_s = time.monotonic()
    held = [client.connection_pool.get_connection() for _ in range(30)]
    ages_s = sorted(connection._retire_s - before_s for connection in held)
    assert 900 <= ages_s[0] < ages_s[-1] < 1000 + (time.monotonic() - before_s)
    assert ages_s[-1] - ages_s[0] > 30
    for connection in held:
        client.connection_pool.release(connection)
