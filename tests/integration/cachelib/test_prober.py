"""The one caller who tries a missing server: its part never gets lost, whatever becomes of that caller."""

from collections.abc import Callable
from typing import Any

import pytest
import redis

from cachelib import PoolExhausted, Unavailable, deadline
from runbook.drills.faults import Proxy, refused
from runbook.targets.embedded import Embedded
from tests.integration.cachelib.background import Task, results
from tests.integration.cachelib.commands import USES
from tests.timing import end_of

pytestmark = pytest.mark.timeout(60)

DEADLINE_S = 0.2
LONG_S = 20.0


@pytest.mark.parametrize("name", ["GET", "pipeline"])
def test_probing_goes_on_after_the_deadline_of_the_caller_who_set_it_off(
    name: str, server: Embedded, proxy: Proxy, open_client: Any, eventually: Any
) -> None:
    client = open_client(server, port=proxy.port, deadline_s=LONG_S)

    def hurried() -> Any:
        with deadline(0.15):
            return USES[name](client)

    with refused(proxy):
        first = Task(hurried)
        eventually(lambda: "server away" in repr(client))
        second = Task(lambda: client.get("k"))
        assert type(first.result()) is Unavailable
    end = end_of(second.result)
    assert end.outcome is None
    assert end.is_by(0.2)


def test_interrupted_prober_leaves_its_part_to_the_next(
    server: Embedded, proxy: Proxy, connect_to: Any, eventually: Any, interrupted: Any
) -> None:
    """As when the cell of a notebook is interrupted; the main thread gets the signal, and is the prober."""
    client = connect_to(server, port=proxy.port, deadline_s=LONG_S)
    waiters: list[Task] = []

    def follow_and_interrupt(interrupt: Callable[[], None]) -> None:
        eventually(lambda: client.connection_pool._gate.closed)
        waiters.extend(Task(lambda: client.incr("n")) for _ in range(5))
        eventually(lambda: client.pool_stats().waiting == 5)
        interrupt()

    with refused(proxy):
        interrupted(lambda: client.incr("n"), by=follow_and_interrupt)
    assert sorted(results(waiters)) == [1, 2, 3, 4, 5]
    assert max(waiter.took_s for waiter in waiters) < 15.0


def test_prober_that_finds_the_pool_exhausted_leaves_its_part_to_the_next(server: Embedded, proxy: Proxy, connect_to: Any) -> None:
    """The only connection is a subscriber's, so a reader becomes the prober and has nothing to probe with."""
    client = connect_to(server, port=proxy.port, pool_size=1, deadline_s=DEADLINE_S)
    with client.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.subscribe("news")
        assert pubsub.get_message(timeout=5) is None
        with refused(proxy):
            with pytest.raises(Unavailable):
                pubsub.get_message(timeout=0.1)
            with pytest.raises(PoolExhausted):
                client.get("k")
        with deadline(5.0):
            pubsub.get_message(timeout=0.1)
    assert client.get("k") is None


def test_connection_that_still_works_is_used_while_no_other_can_be_made(start_server: Any, connect_to: Any, eventually: Any) -> None:
    """As when the server has reached `maxclients`: those who are connected are served."""
    server = start_server("--maxclients", "3", "--appendonly", "no")
    client = connect_to(server, deadline_s=0.3)
    with redis.Redis(port=server.config.port) as other, redis.Redis(port=server.config.port) as another:
        other.ping(), another.ping(), client.ping()
        popper = Task(lambda: client.blpop("queue", 5))
        eventually(lambda: other.info("clients")["blocked_clients"])
        with pytest.raises(Unavailable, match="max number of clients"):
            client.get("k")
        other.rpush("queue", "go on")
        assert popper.result() == (b"queue", b"go on")
        assert [client.get("k") for _ in range(5)] == [None] * 5


def test_stall_that_made_one_connection_fail_is_over_for_all_when_the_server_goes_on(
    server: Embedded, connect_to: Any, paused: Any, eventually: Any
) -> None:
    """One caller's reply arrives late on a connection that still works; another could not connect meanwhile."""
    client = connect_to(server, connected=True, deadline_s=5.0)
    with paused(server):
        late = Task(lambda: client.get("k"))
        eventually(lambda: client.pool_stats().in_use == 1)
        with deadline(0.1), pytest.raises(Unavailable):
            client.get("k")
    assert late.result() is None
    for _ in range(5):
        with deadline(2.0):
            assert client.get("k") is None
