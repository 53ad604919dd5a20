"""The pool against a real server: its bound, its order, and that no connection is lost from it."""

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from redis.client import Pipeline
from redis.connection import Connection, ConnectionPool, SSLConnection

from cachelib import PoolExhausted, Refused, Unavailable, deadline
from runbook.targets.embedded import Embedded

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def direct(server: Embedded) -> Iterator[Any]:
    """redis-py's own client, to ask the server what it sees."""
    with redis.Redis(port=server.config.port, decode_responses=True) as client:
        yield client


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


def test_a_wait_that_was_interrupted_takes_no_connection_with_it(server: Embedded, connect_to: Any, eventually: Any) -> None:
    """As when a notebook's cell is interrupted; the main thread waits, since it is the one that gets the signal."""

    class Interrupted(BaseException):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupted

    client = connect_to(server, pool_size=1, deadline_s=20.0)
    pool = client.connection_pool
    held = pool.get_connection()

    def interrupt_the_wait() -> None:
        eventually(lambda: "1 waiting" in repr(pool))
        time.sleep(0.02)  # it queues first, and waits then
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, interrupt)
    helper = threading.Thread(target=interrupt_the_wait)
    try:
        helper.start()
        with pytest.raises(Interrupted):
            client.ping()
    finally:
        helper.join()
        signal.signal(signal.SIGUSR1, before)
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


# --- what the pool and the client rely on in redis-py ---


def test_redis_py_is_the_version_whose_private_names_we_use() -> None:
    assert redis.__version__.startswith("8.1.")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("_available_connections", list),
        ("_in_use_connections", set),
        ("_created_connections", int),
        ("_lock", type(threading.RLock())),
        ("_checkpid", Callable),
        ("make_connection", Callable),
        ("reset", Callable),
        ("connection_kwargs", dict),
    ],
)
def test_redis_pys_pool_has_the_attribute_that_ours_uses(name: str, kind: type) -> None:
    assert isinstance(getattr(ConnectionPool(), name), kind)


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (redis.Redis, "_execute_command"),
        (redis.Redis, "_send_command_parse_response"),
        (Pipeline, "_execute_transaction"),
        (Pipeline, "_execute_pipeline"),
        (Pipeline, "immediate_execute_command"),
        (Pipeline, "_disconnect_raise_on_watching"),
        (Pipeline, "_disconnect_reset_raise_on_watching"),
        (Connection, "_connect"),
        (Connection, "can_read"),
        (Connection, "should_reconnect"),
        (Connection, "socket_connect_timeout"),
        (SSLConnection, "_wrap_socket_with_ssl"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_redis_py_has_the_method_that_we_override_or_call(owner: type, name: str) -> None:
    assert hasattr(owner, name)


def test_redis_pys_connection_knows_whether_it_is_connected_and_should_not_stay_so() -> None:
    connection = Connection()
    assert connection.is_connected is False
    assert connection.should_reconnect() is False
