"""Subscriptions and MONITOR: messages arrive however late, and again after an outage."""

import contextlib
import time
from typing import Any

import pytest
import redis

from cachelib import Unavailable, deadline
from runbook.drills.faults import Proxy, refused
from runbook.targets.embedded import Embedded
from tests.integration.cachelib.background import Task
from tests.timing import end_of

pytestmark = pytest.mark.timeout(60)

LONG_S = 10.0


def subscribed(client: Any, *channels: str) -> Any:
    """Return a subscription whose confirmations have been read."""
    pubsub = client.pubsub(ignore_subscribe_messages=True)
    pubsub.subscribe(*channels)
    for _ in channels:
        assert pubsub.get_message(timeout=LONG_S) is None
    return pubsub


def next_message(pubsub: Any) -> Any:
    while (message := pubsub.get_message(ignore_subscribe_messages=True, timeout=LONG_S)) is None:
        pass
    return message


def test_messages_of_channels_patterns_and_handlers_arrive(server: Embedded, open_client: Any) -> None:
    client, heard = open_client(server), []
    with client.pubsub() as pubsub:
        pubsub.subscribe("news", handled=heard.append)
        pubsub.psubscribe("new?")
        assert [pubsub.get_message(timeout=LONG_S)["type"] for _ in range(3)] == ["subscribe", "subscribe", "psubscribe"]
        assert [client.publish("handled", "hello"), client.publish("news", "hello")] == [1, 2]
        messages = [next_message(pubsub) for _ in range(2)]
        assert [(message["type"], message["data"]) for message in messages] == [("message", b"hello"), ("pmessage", b"hello")]
        assert [message["data"] for message in heard] == [b"hello"]
    assert client.pool_stats().in_use == 0


def test_subscriber_waits_longer_than_the_deadline_without_an_error(server: Embedded, direct: Any, open_client: Any) -> None:
    client = open_client(server, deadline_s=0.2, connected=True)
    with deadline(LONG_S):
        pubsub = subscribed(client, "news")
    with pubsub:
        assert pubsub.get_message(timeout=0.3) is None
        hearing = Task(lambda: pubsub.get_message(timeout=None))
        time.sleep(0.3)  # past the deadline
        direct.publish("news", "late")
        assert hearing.result()["data"] == b"late"


def test_subscriptions_of_all_kinds_are_made_again_after_each_kill(own_server: Embedded, open_client: Any, eventually: Any) -> None:
    """Without an error: listening on is enough to be subscribed again."""
    client = open_client(own_server, deadline_s=20.0)
    with subscribed(client, "news") as pubsub:
        pubsub.psubscribe("sport.*")
        for _ in range(2):
            own_server.kill()
            hearing = Task(lambda: next_message(pubsub))
            own_server.start()
            eventually(lambda: client.publish("sport.chess", "draw"))
            assert hearing.result()["data"] == b"draw"
            assert client.publish("news", "hello") == 1
            assert next_message(pubsub)["data"] == b"hello"


def test_subscriber_to_a_missing_server_is_told_at_the_deadline_and_hears_later(
    server: Embedded, proxy: Proxy, open_client: Any, direct: Any, eventually: Any
) -> None:
    client = open_client(server, port=proxy.port, deadline_s=0.3)
    with subscribed(client, "news") as pubsub:
        with refused(proxy):
            for _ in range(2):
                end = end_of(lambda: pubsub.get_message(timeout=0.1))
                assert (end.kind, end.is_by(0.4)) == (Unavailable, True)
                assert "Is the server up" in str(end.outcome)
            assert end.outcome.since is not None

        def hear() -> Any:
            with contextlib.suppress(Unavailable):
                direct.publish("news", "hello")
                return pubsub.get_message(timeout=0.1)

        assert eventually(hear)["data"] == b"hello"


def test_thread_that_subscribes_meanwhile_does_not_hold_up_the_return(
    server: Embedded, proxy: Proxy, connect_to: Any, direct: Any, eventually: Any
) -> None:
    """It holds a lock of redis-py's while it waits; the reader, who is the prober, needs that lock to subscribe again."""
    client = connect_to(server, port=proxy.port, deadline_s=20.0)
    with subscribed(client, "news") as pubsub:
        with refused(proxy):
            reader = Task(lambda: pubsub.get_message(timeout=0.2))
            eventually(lambda: "server away" in repr(client))
            subscriber = Task(lambda: pubsub.subscribe("weather"))
            eventually(lambda: client.pool_stats().waiting == 1)
        end = end_of(lambda: (reader.result(), subscriber.result()))
        assert end.outcome == (None, None)
        assert end.is_by(1.0)
        eventually(lambda: direct.pubsub_numsub("news", "weather") == [("news", 1), ("weather", 1)])


def test_monitor_sees_commands_and_waits_as_long_as_configured_after_a_short_call(server: Embedded, open_client: Any, direct: Any) -> None:
    client = open_client(server, pool_size=2, connected=True)
    with deadline(0.3):
        client.pipeline().get("k").execute()
    with client.monitor() as monitor:
        direct.set("k", "v")
        while "SET k v" not in monitor.next_command()["command"]:
            pass
        seen = Task(monitor.next_command)
        time.sleep(0.4)  # longer than that call had left
        direct.set("k", "w")
        assert not isinstance(seen.result(), Exception)
    assert client.pool_stats().in_use == 0
    assert client.pipeline().get("k").execute() == [b"w"]


@pytest.mark.parametrize("use", ["subscribe", "monitor"])
def test_refusal_is_told_to_whoever_subscribes(use: str, server: Embedded, open_client: Any) -> None:
    client = open_client(server, db=99)
    with pytest.raises(redis.AuthenticationError):
        client.pubsub().subscribe("news") if use == "subscribe" else client.monitor().__enter__()
