"""What observers are told of retries, unknown outcomes, outages and slow calls, and what `pool_stats` counts of it."""

import time
from typing import Any

import pytest
import redis

from cachelib import Disconnected, Event, OutcomeLost, OutcomeUnknown, Reconnected, Retried, SlowCall
from runbook.drills.faults import Proxy, delayed, losing_replies, refused
from runbook.targets.embedded import Embedded
from tests.integration.cachelib.background import Task, results
from tests.timing import end_of

pytestmark = pytest.mark.timeout(60)


def fail(event: Event) -> None:
    raise LookupError("an observer's own fault")


@pytest.fixture
def events() -> list[Any]:
    """What an observer is told, in order."""
    return []


def test_retries_and_unknown_outcomes(server: Embedded, proxy: Proxy, open_client: Any, events: list[Any]) -> None:
    client = open_client(server, port=proxy.port, connected=True, slow_call_s=100.0, observers=[fail, events.append])
    for use in (lambda: client.get("k"), client.pipeline(transaction=False).get("k").execute):
        with losing_replies(proxy, b"GET"):
            use()
    for use in (lambda: client.incr("account-of-bob"), client.pipeline(transaction=False).incr("account-of-bob").execute):
        with losing_replies(proxy, b"INCRBY"), pytest.raises(OutcomeUnknown):
            use()
    told = [(type(event), event.command) for event in events]
    assert told == [*[(Retried, "GET")] * 2, *[(OutcomeLost, "INCRBY")] * 2]
    assert [(event.attempt, 0 <= event.wait_s <= 0.001) for event in events[:2]] == [(1, True)] * 2
    assert {event.endpoint for event in events} == {f"127.0.0.1:{proxy.port}/0"}
    assert "bob" not in repr(events)
    assert (client.pool_stats().retried, client.pool_stats().unknown) == (2, 2)


def test_outage_is_told_once_and_so_is_its_end(
    server: Embedded, proxy: Proxy, open_client: Any, events: list[Any], eventually: Any
) -> None:
    client = open_client(server, port=proxy.port, deadline_s=20.0, slow_call_s=100.0, observers=[fail, events.append])
    client.ping()
    with refused(proxy):
        calls = [Task(lambda: client.get("k")) for _ in range(20)]
        eventually(lambda: events)
        time.sleep(0.1)  # the length of the outage
    assert results(calls) == [None] * 20
    told = [event for event in events if isinstance(event, Disconnected | Reconnected)]
    assert [type(event) for event in told] == [Disconnected, Reconnected]
    assert told[1].away_s > 0.1
    assert told[1].attempts >= 1
    assert client.pool_stats().outages == 1


def test_slow_calls_that_succeed(server: Embedded, proxy: Proxy, open_client: Any, events: list[Any]) -> None:
    """Of every kind; not those that are quick, that fail or that ask the server to block."""
    client = open_client(server, port=proxy.port, connected=True, slow_call_s=0.15, observers=[fail, events.append])
    # A call may be slow because the host is.
    for use, blocks_s in ((lambda: client.get("k"), 0.0), (lambda: client.blpop("nothing", 0.2), 0.2)):
        end = end_of(use)
        assert bool(events) == (end.took_s - blocks_s > 0.15)
        events.clear()
    with delayed(proxy, 0.2):
        client.get("k")
        client.pipeline().get("a").get("b").execute()
        client.config_get("save")
        client.execute_command("get", "k")
        with pytest.raises(redis.ResponseError):
            client.execute_command("GET")
    told = [(type(event), event.command) for event in events]
    assert told == [(SlowCall, name) for name in ("GET", "a batch of 2 commands", "CONFIG GET", "GET")]
    assert all(event.duration_s >= 0.2 for event in events)
    assert events[0].endpoint == f"127.0.0.1:{proxy.port}/0"
    assert client.pool_stats().slow >= 4
