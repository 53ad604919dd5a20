"""The pool against a real server: its bound, its order, and that no connection is lost from it."""

import dataclasses
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from cachelib import (
    Disconnected,
    Event,
    OutcomeUnknown,
    PoolExhausted,
    Reconnected,
    Refused,
    Retried,
    SlowCall,
    Unavailable,
    connect,
    deadline,
)
from runbook.targets.embedded import Embedded

pytestmark = pytest.mark.timeout(60)


def in_threads(count: int, run: Callable[[int], object]) -> list[threading.Thread]:
    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    return threads


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

    threads = in_threads(30, call)
    seen = [len(observer.client_list()) - 1 for _ in range(100)]
    enough.set()
    for thread in threads:
        thread.join()
    assert max(seen) == 4
    assert observer.info("stats")["total_connections_received"] - before == 4
    assert sum(served) == int(observer.get("k"))
    observer.close()


def test_connections_are_handed_over_in_the_order_of_asking(server: Embedded, connect_to: Any, eventually: Any) -> None:
    pool = connect_to(server, pool_size=1, deadline_s=30.0).connection_pool
    order: list[int] = []

    def borrow(number: int) -> None:
        connection = pool.get_connection()
        order.append(number)
        pool.release(connection)

    held = pool.get_connection()
    threads = []
    for number in range(8):
        threads += [threading.Thread(target=borrow, args=(number,))]
        threads[-1].start()
        eventually(lambda number=number: f"{number + 1} waiting" in repr(pool))
    pool.release(held)
    for thread in threads:
        thread.join()
    assert order == list(range(8))


def test_a_newcomer_does_not_overtake_those_who_wait(server: Embedded, connect_to: Any, eventually: Any) -> None:
    """The releasing thread asks again at once: the connection is the waiter's already."""
    pool = connect_to(server, pool_size=1, deadline_s=30.0).connection_pool
    order: list[str] = []

    def borrow() -> None:
        connection = pool.get_connection()
        order.append("waiter")
        pool.release(connection)

    held = pool.get_connection()
    waiter = threading.Thread(target=borrow)
    waiter.start()
    eventually(lambda: "1 waiting" in repr(pool))
    pool.release(held)
    held = pool.get_connection()
    order.append("newcomer")
    pool.release(held)
    waiter.join()
    assert order == ["waiter", "newcomer"]


def test_exhausted_pool_says_so_at_the_deadline_and_works_again_later(server: Embedded, connect_to: Any) -> None:
    client = connect_to(server, pool_size=2, deadline_s=0.2)
    pool = client.connection_pool
    held = [pool.get_connection() for _ in range(2)]
    started_s = time.monotonic()
    with pytest.raises(PoolExhausted) as caught:
        client.ping()
    assert 0.18 <= time.monotonic() - started_s < 0.7
    text = str(caught.value)
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


def test_connections_that_could_not_be_made_are_not_counted_as_in_use(own_server: Embedded, connect_to: Any) -> None:
    client = connect_to(own_server, pool_size=1, deadline_s=0.05)
    own_server.kill()
    for _ in range(3):
        with pytest.raises(Unavailable) as caught:
            client.ping()
        assert type(caught.value) is not PoolExhausted
    own_server.start()
    with deadline(5.0):
        assert client.ping()


def test_refused_connections_are_not_counted_as_in_use(server: Embedded, connect_to: Any) -> None:
    client = connect_to(server, pool_size=1, db=99)
    for _ in range(3):
        with pytest.raises(Refused):
            client.ping()
    assert "0/1 in use" in repr(client.connection_pool)


def test_closed_pool_connects_again(server: Embedded, connect_to: Any, direct: Any, eventually: Any) -> None:
    client = connect_to(server)
    client.ping()
    client.close()
    eventually(lambda: len(direct.client_list()) == 1)
    assert client.ping()


def in_a_fork(run: Callable[[], object]) -> str:
    """Run a function in a forked child and return what it printed of the result."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writer, repr(run()).encode())
        except BaseException as error:
            os.write(writer, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as output:
        text = output.read().decode()
    os.waitpid(child, 0)
    return text


def test_forked_child_makes_connections_of_its_own(server: Embedded, connect_to: Any) -> None:
    client = connect_to(server)
    mine = client.client_id()
    childs = int(in_a_fork(client.client_id))
    assert childs != mine
    assert client.client_id() == mine


def test_forked_child_inherits_no_connection_in_use(server: Embedded, connect_to: Any) -> None:
    client = connect_to(server, pool_size=1, deadline_s=2.0)
    held = client.connection_pool.get_connection()
    assert in_a_fork(client.ping) == "True"
    assert "1/1 in use" in repr(client.connection_pool)
    client.connection_pool.release(held)
    assert client.ping()


def test_repr_states_how_many_are_in_use_and_waiting(server: Embedded, connect_to: Any, eventually: Any) -> None:
    client = connect_to(server, pool_size=3, db=2)
    pool = client.connection_pool
    where = f"127.0.0.1:{server.config.port}/2"
    assert repr(pool) == f"<FairPool {where} 0/3 in use, 0 waiting>"
    held = [pool.get_connection() for _ in range(3)]
    threads = in_threads(2, lambda _: client.ping())
    eventually(lambda: "2 waiting" in repr(pool))
    assert repr(pool) == f"<FairPool {where} 3/3 in use, 2 waiting>"
    assert repr(client) == f"<cachelib.Client {pool!r}>"
    for connection in held:
        pool.release(connection)
    for thread in threads:
        thread.join()
    assert repr(pool) == f"<FairPool {where} 0/3 in use, 0 waiting>"


def test_forked_child_works_while_a_thread_of_its_parent_waits(server: Embedded, connect_to: Any, eventually: Any) -> None:
    client = connect_to(server, pool_size=1, deadline_s=20.0)
    held = client.connection_pool.get_connection()
    replies: list[int] = []
    waiters = in_threads(3, lambda _: replies.append(client.incr("n")))
    eventually(lambda: client.pool_stats().waiting == 3)
    seen = in_a_fork(lambda: (client.incr("n"), client.pool_stats().waiting, client.pool_stats().in_use, client.incr("n")))
    assert seen == "(1, 0, 0, 2)"
    assert client.pool_stats().waiting == 3
    client.connection_pool.release(held)
    for waiter in waiters:
        waiter.join()
    assert sorted(replies) == [3, 4, 5]


def test_forked_child_has_an_outage_of_its_own(own_server: Embedded, connect_to: Any, eventually: Any) -> None:
    """Its parent's prober is a thread that the child has not."""
    client = connect_to(own_server, deadline_s=20.0)
    own_server.kill()
    replies: list[int] = []
    waiters = in_threads(3, lambda _: replies.append(client.incr("n")))
    eventually(lambda: client.pool_stats().waiting == 2)

    def in_the_child() -> object:
        try:
            with deadline(0.2):
                client.ping()
        except Unavailable as error:
            return type(error).__name__, error.since is not None, client.pool_stats().waiting

    assert in_a_fork(in_the_child) == "('Unavailable', True, 0)"
    own_server.start()
    for waiter in waiters:
        waiter.join()
    assert sorted(replies) == [1, 2, 3]
    assert in_a_fork(client.ping) == "True"


def test_child_forked_while_another_thread_counts_an_event_can_count_its_own(server: Embedded, connect_to: Any) -> None:
    client = connect_to(server, deadline_s=1.0, slow_call_s=0.000001)
    entered, enough = threading.Event(), threading.Event()

    def hold() -> None:
        with client.connection_pool.journal._lock:
            entered.set()
            enough.wait(20.0)

    holder = threading.Thread(target=hold)
    holder.start()
    entered.wait(20.0)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(2)  # ends a child that hangs
        client.ping()  # is slow, which is told to the journal
        os.write(writer, b"done")
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as output:
        told = output.read()
    os.waitpid(child, 0)
    enough.set()
    holder.join()
    assert told == b"done"


# --- what became of connections ---

COUNTS = ("size", "in_use", "idle", "waiting", "made", "lost", "retired", "unknown")


def counted(client: Any) -> dict[str, int]:
    stats = client.pool_stats()
    return {name: getattr(stats, name) for name in COUNTS}


def test_stats_of_a_client_that_has_done_nothing(server: Embedded, connect_to: Any) -> None:
    assert set(counted(connect_to(server, pool_size=7)).items()) == {("size", 7), *((name, 0) for name in COUNTS[1:])}


def test_stats_count_what_is_in_use_idle_and_waiting(server: Embedded, connect_to: Any, eventually: Any) -> None:
    client = connect_to(server, pool_size=2)
    held = [client.connection_pool.get_connection() for _ in range(2)]
    assert counted(client) == {"size": 2, "in_use": 2, "idle": 0, "waiting": 0, "made": 2, "lost": 0, "retired": 0, "unknown": 0}
    waiters = in_threads(3, lambda _: client.ping())
    eventually(lambda: client.pool_stats().waiting == 3)
    for connection in held:
        client.connection_pool.release(connection)
    for waiter in waiters:
        waiter.join()
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
    ids = set()
    until_s = time.monotonic() + 0.55
    while time.monotonic() < until_s:
        ids.add(client.incr("n") and client.eval("return redis.call('INCR', 'n')", 0) and client.client_id())
    stats = client.pool_stats()
    assert 2 <= len(ids) <= 7
    assert (stats.made, stats.retired, stats.lost, stats.unknown) == (stats.retired + 1, stats.made - 1, 0, 0)
    assert stats.retired >= 2


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


# --- events ---


@pytest.fixture
def watch(own_server: Embedded) -> Iterator[Any]:
    """Build a client whose events are the second item."""
    clients = []

    def build(**changes: Any) -> tuple[Any, list[Event]]:
        events: list[Event] = []
        clients.append(connect(dataclasses.replace(own_server.config, **changes), observers=[events.append]))
        return clients[-1], events

    yield build
    for client in clients:
        client.close()


def test_slow_call_is_told_and_a_quick_one_is_not(own_server: Embedded, watch: Any, paused: Any, eventually: Any) -> None:
    client, events = watch(slow_call_s=0.2, deadline_s=20.0)
    client.get("k")
    assert events == []
    with paused(own_server):
        (reader,) = in_threads(1, lambda _: client.get("k"))
        time.sleep(0.25)  # the length of the stall
    reader.join()
    (event,) = events
    assert (type(event), event.command, event.endpoint) == (SlowCall, "GET", f"127.0.0.1:{own_server.config.port}/0")
    assert event.duration_s > 0.2
    assert client.pool_stats().slow == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.pipeline().get("k").execute(),
        lambda client: client.config_get("save"),
        lambda client: client.execute_command("get", "k"),
    ],
    ids=["pipeline", "CONFIG GET", "in lower case"],
)
def test_slow_call_of_every_kind_is_told(call: Any, own_server: Embedded, watch: Any, paused: Any) -> None:
    client, events = watch(slow_call_s=0.1, deadline_s=20.0)
    client.ping()
    events.clear()
    with paused(own_server):
        (caller,) = in_threads(1, lambda _: call(client))
        time.sleep(0.15)  # the length of the stall
    caller.join()
    assert [type(event) for event in events] == [SlowCall]


def test_outage_is_told_once_and_so_is_its_end(own_server: Embedded, watch: Any) -> None:
    client, events = watch(deadline_s=20.0, slow_call_s=100.0)
    client.ping()
    own_server.kill()
    readers = in_threads(20, lambda _: client.get("k"))
    own_server.start()
    for reader in readers:
        reader.join()
    assert [type(event) for event in events if isinstance(event, Disconnected | Reconnected)] == [Disconnected, Reconnected]
    assert client.pool_stats().outages == 1


def test_retry_is_told(own_server: Embedded, watch: Any, eventually: Any) -> None:
    client, events = watch(deadline_s=20.0)
    client.ping()
    own_server.pause()
    (reader,) = in_threads(1, lambda _: client.get("k"))
    eventually(lambda: client.pool_stats().in_use)
    time.sleep(0.05)  # it is sent
    own_server.kill()
    own_server.start()
    reader.join()
    retried = next(event for event in events if isinstance(event, Retried))
    assert (retried.command, retried.attempt) == ("GET", 1)
    assert 0 <= retried.wait_s <= 0.001
    assert client.pool_stats().retried == sum(isinstance(event, Retried) for event in events)


def test_observer_that_fails_harms_no_call(own_server: Embedded) -> None:
    def fail(event: Event) -> None:
        raise LookupError

    config = dataclasses.replace(own_server.config, slow_call_s=0.000001)
    own_server.kill()
    with connect(config, observers=[fail]) as client:
        with deadline(0.1), pytest.raises(Unavailable):
            client.ping()
        own_server.start()
        with deadline(10.0):
            assert client.ping()
