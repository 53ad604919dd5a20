"""A client that was made before a fork: the child has connections, waiters and an outage of its own."""

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from cachelib import Unavailable, deadline
from runbook.drills.faults import Proxy, refused
from runbook.targets.embedded import Embedded
from tests.integration.cachelib.background import Task, results

pytestmark = pytest.mark.timeout(60)


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


def test_forked_child_works_while_a_thread_of_its_parent_waits(server: Embedded, connect_to: Any, eventually: Any) -> None:
    client = connect_to(server, pool_size=1, deadline_s=20.0)
    held = client.connection_pool.get_connection()
    waiters = [Task(lambda: client.incr("n")) for _ in range(3)]
    eventually(lambda: client.pool_stats().waiting == 3)
    seen = in_a_fork(lambda: (client.incr("n"), client.pool_stats().waiting, client.pool_stats().in_use, client.incr("n")))
    assert seen == "(1, 0, 0, 2)"
    assert client.pool_stats().waiting == 3
    client.connection_pool.release(held)
    assert sorted(results(waiters)) == [3, 4, 5]


def test_forked_child_has_an_outage_of_its_own(server: Embedded, proxy: Proxy, connect_to: Any, eventually: Any) -> None:
    """Its parent's prober is a thread that the child has not."""
    client = connect_to(server, port=proxy.port, deadline_s=20.0)

    def in_the_child() -> object:
        try:
            with deadline(0.2):
                client.ping()
        except Unavailable as error:
            return type(error).__name__, error.since is not None, client.pool_stats().waiting

    with refused(proxy):
        waiters = [Task(lambda: client.incr("n")) for _ in range(3)]
        eventually(lambda: client.pool_stats().waiting == 2)
        assert in_a_fork(in_the_child) == "('Unavailable', True, 0)"
    assert sorted(results(waiters)) == [1, 2, 3]
    assert in_a_fork(client.ping) == "True"


def test_child_forked_while_another_thread_counts_an_event_can_count_its_own(server: Embedded, connect_to: Any) -> None:
    client = connect_to(server, deadline_s=1.0, slow_call_s=0.000001)
    entered, enough = threading.Event(), threading.Event()

    def hold() -> None:
        with client.connection_pool.journal._lock:
            entered.set()
            enough.wait(20.0)

    holder = Task(hold)
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
    holder.result()
    assert told == b"done"
