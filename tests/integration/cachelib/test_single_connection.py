"""`client.client()`: one connection that its users share, and that nobody else gets in the state in which they leave it."""

import time
from typing import Any

import pytest

from cachelib import OutcomeUnknown, Refused, Unavailable
from runbook.drills.faults import Proxy, refused
from runbook.targets.embedded import Embedded
from tests.integration.cachelib.background import Task, results
from tests.timing import end_of

pytestmark = pytest.mark.timeout(60)


def test_it_keeps_one_connection_whose_state_is_nobody_elses_later(server: Embedded, open_client: Any) -> None:
    client = open_client(server, pool_size=1)
    with client.client() as single:
        assert len({single.client_id() for _ in range(5)}) == 1
        single.select(3)
        assert single.set("k", "v")
        assert client.pool_stats().in_use == 1
    assert client.pool_stats().in_use == 0
    assert client.client_info()["db"] == 0
    assert client.get("k") is None


@pytest.mark.parametrize("rounds", [5, pytest.param(100, marks=pytest.mark.nightly)])
def test_it_gives_each_caller_its_own_reply_however_often_the_connection_is_lost(
    rounds: int, own_server: Embedded, admin: Any, open_client: Any
) -> None:
    """Whoever finds it lost reconnects it while nobody else uses it."""
    with open_client(own_server, deadline_s=20.0).client() as single:
        asking = [Task(lambda n=n: [single.echo(f"{n} {i}") == b"%d %d" % (n, i) for i in range(20 * rounds)]) for n in range(8)]
        for _ in range(rounds):
            admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            time.sleep(0.01)
        assert results(asking) == [[True] * 20 * rounds] * 8


def test_reply_to_a_call_under_way_on_a_connection_that_is_closed_is_nobody_elses(
    server: Embedded, open_client: Any, direct: Any, eventually: Any
) -> None:
    client = open_client(server, pool_size=1)
    for _ in range(5):
        single = client.client()
        popping = Task(lambda single=single: single.blpop("nothing", 10))
        eventually(lambda: direct.info("clients")["blocked_clients"])
        asking = [
            Task(lambda n=n: [client.pipeline(transaction=False).echo(f"{n}").execute() == [b"%d" % n] for _ in range(20)])
            for n in range(8)
        ]
        eventually(lambda: client.pool_stats().waiting == 8)
        single.close()
        assert results(asking) == [[True] * 20] * 8
        assert isinstance(popping.result(), OutcomeUnknown)
    stats = client.pool_stats()
    assert (stats.in_use, stats.made) == (0, stats.idle + stats.lost + stats.retired)


def test_closing_it_waits_for_nobody(server: Embedded, connect_to: Any, direct: Any, eventually: Any) -> None:
    """Not for the thread that waits for its connection, either, and that would block for ever once it had it."""
    client = connect_to(server, pool_size=2)
    single = client.client()
    popping = [Task(lambda: single.blpop("queue", 0)) for _ in range(2)]
    eventually(lambda: direct.info("clients")["blocked_clients"] == 1)
    time.sleep(0.05)  # the second one waits
    assert end_of(single.close).is_by(0.1)
    direct.rpush("queue", "a", "b")
    assert sorted(type(outcome).__name__ for outcome in results(popping)) == ["OutcomeUnknown", "tuple"]
    assert client.pool_stats().in_use == 0


def test_thread_waits_for_a_shared_connection_until_its_deadline(server: Embedded, direct: Any, connect_to: Any, eventually: Any) -> None:
    with connect_to(server, deadline_s=0.2).client() as single:
        blocking = Task(lambda: single.blpop("nothing", 0.5))
        eventually(lambda: direct.info("clients")["blocked_clients"])
        end = end_of(lambda: single.get("k"))
        assert (end.kind, end.is_at(0.2)) == (Unavailable, True)
        assert "another thread kept the connection" in str(end.outcome)
        assert blocking.result() is None


def test_call_that_can_not_connect_has_certainly_sent_nothing(server: Embedded, proxy: Proxy, open_client: Any) -> None:
    client = open_client(server, port=proxy.port, deadline_s=0.2)
    with client.client() as single:
        single.ping()
        with refused(proxy):
            time.sleep(0.02)  # its connection ends
            for use in (lambda: single.get("k"), lambda: single.incr("n")):
                with pytest.raises(Unavailable):
                    use()
    assert client.pool_stats().unknown == 0


def test_reconnection_that_is_refused_says_so(own_server: Embedded, admin: Any, open_client: Any) -> None:
    with open_client(own_server, deadline_s=10.0).client() as single:
        single.ping()
        admin.config_set("requirepass", "S3cr3t-hunter2")
        admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        end = end_of(lambda: single.get("k"))
    assert (end.kind, end.is_by(0.5)) == (Refused, True)
