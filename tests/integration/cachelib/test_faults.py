"""Faults under threads: each command is applied once or its caller knows that it may have been, and nobody is late."""

import itertools
import os
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from cachelib import OutcomeUnknown, Unavailable, deadline
from runbook.drills.faults import Proxy, black_hole, half_open, losing_replies, refused, reset
from runbook.targets.embedded import Embedded
from tests.integration.cachelib.writes import WRITES as PLAIN_WRITES

pytestmark = pytest.mark.timeout(60)

# How late a failure may be on a noisy host, and how late the median of many.
SLACK_S, MEDIAN_SLACK_S = 0.5, 0.05
DEADLINE_S = 0.3


def in_threads(calls: list[Callable[[], Any]], spacing_s: float = 0.0) -> list[tuple[Any, float]]:
    """Make calls, each in its thread; return the reply or the error of each, and how long it took, in seconds."""
    ends: list[Any] = [None] * len(calls)

    def make(number: int) -> None:
        began_s = time.monotonic()
        try:
            outcome = calls[number]()
        except redis.RedisError as error:
            outcome = error
        ends[number] = outcome, time.monotonic() - began_s

    threads = [threading.Thread(target=make, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
        time.sleep(spacing_s)
    for thread in threads:
        thread.join()
    return ends


def increment(pipe: Any) -> None:
    value = int(pipe.get("w") or 0)
    pipe.multi()
    pipe.set("w", value + 1)


WRITES = PLAIN_WRITES | {
    "EXEC after WATCH": (b"EXEC", lambda client, number: client.transaction(increment, "w"), lambda direct: int(direct.get("w") or 0)),
}


# --- never twice ---


@pytest.mark.parametrize(("write", "applied"), [(write, applied) for _, write, applied in WRITES.values()], ids=WRITES)
def test_write_to_a_stalled_server_is_applied_once_or_was_not_sent(
    write: Any, applied: Any, server: Embedded, connect_to: Any, direct: Any, paused: Any
) -> None:
    client = connect_to(server, connected=True, deadline_s=DEADLINE_S)
    with paused(server):
        [(error, took_s)] = in_threads([lambda: write(client, 1)])
    direct.ping()
    assert (type(error), applied(direct)) in ((OutcomeUnknown, 1), (Unavailable, 0))
    assert 0.9 * DEADLINE_S <= took_s < DEADLINE_S + SLACK_S


def test_in_a_storm_of_faults_the_server_holds_what_was_acknowledged_and_at_most_the_unknown(
    server: Embedded, proxy: Proxy, connect_to: Any, direct: Any, paused: Any
) -> None:
    client = connect_to(server, port=proxy.port, deadline_s=0.4, pool_size=4)
    numbers, enough = itertools.count(), threading.Event()
    outcomes: Counter[tuple[str, str]] = Counter()

    def work(name: str, write: Any) -> None:
        mine: Counter[tuple[str, str]] = Counter()
        while not enough.is_set():
            try:
                reply = write(client, next(numbers))
                assert reply is not None, "somebody has set the key that only we set: it was sent twice"
                mine[name, "acknowledged"] += 1
            except OutcomeUnknown:
                mine[name, "unknown"] += 1
            except Unavailable:
                pass
        outcomes.update(mine)

    def break_things() -> None:
        for word, _, _ in WRITES.values():
            for fault in (reset(proxy), losing_replies(proxy, word), half_open(proxy), refused(proxy)):
                with fault:
                    time.sleep(0.05)  # long enough to meet some commands
                time.sleep(0.05)
        with paused(server):
            time.sleep(0.5)  # longer than the deadline
        enough.set()

    workers = [lambda name=name, write=write: work(name, write) for name, (_, write, _) in WRITES.items() for _ in range(3)]
    in_threads([break_things, *workers])
    for name, (_, _, applied) in WRITES.items():
        done, unknown = outcomes[name, "acknowledged"], outcomes[name, "unknown"]
        assert 0 < done <= applied(direct) <= done + unknown, name
    assert client.pool_stats().unknown == sum(times for (_, what), times in outcomes.items() if what == "unknown")


# --- nobody is late ---

OF_ALL_KINDS: dict[str, Callable[[Any], Any]] = {
    "GET": lambda client: client.get("k"),
    "INCR": lambda client: client.incr("n"),
    "pipeline": lambda client: client.pipeline(transaction=False).get("k").execute(),
    "MULTI": lambda client: client.pipeline().incr("n").execute(),
    "WATCH": lambda client: client.transaction(lambda pipe: pipe.get("k"), "k"),
    "CLIENT ID": lambda client: client.client_id(),
    "SUBSCRIBE": lambda client: client.pubsub().subscribe("news"),
}


def ask_all(client: Any, times: int = 3) -> list[Any]:
    """Let callers of all kinds begin one after another; return their outcomes when all of them have ended in time."""
    ends = in_threads([lambda use=use: use(client) for use in [*OF_ALL_KINDS.values()] * times], spacing_s=0.005)
    took_s = [took_s for _, took_s in ends]
    assert statistics.median(took_s) < DEADLINE_S + MEDIAN_SLACK_S
    assert max(took_s) < DEADLINE_S + SLACK_S
    assert client.pool_stats().waiting == 0
    return [outcome for outcome, _ in ends]


@pytest.mark.parametrize("connected", [True, False], ids=["connected", "never connected"])
@pytest.mark.parametrize("situation", [refused, black_hole, half_open, "paused"], ids=lambda value: getattr(value, "__name__", value))
def test_every_call_ends_at_its_deadline(
    situation: Any, connected: bool, server: Embedded, proxy: Proxy, connect_to: Any, paused: Any
) -> None:
    client = connect_to(server, port=proxy.port, connected=connected, deadline_s=DEADLINE_S, pool_size=40)
    if connected:
        client.pipeline().get("k").execute()
    with paused(server) if situation == "paused" else situation(proxy):
        outcomes = ask_all(client)
    failures = {type(outcome) for outcome in outcomes if isinstance(outcome, Exception)}
    assert failures <= {Unavailable, OutcomeUnknown}
    if not connected and situation is not half_open:
        assert failures == {Unavailable}
    with deadline(10.0):
        assert client.get("k") is None


def test_every_call_to_a_loading_server_ends_at_its_deadline(start_server: Any, connect_to: Any) -> None:
    slow = ("--key-load-delay", "4000", "--loading-process-events-interval-bytes", "1024")
    server = start_server("--appendonly", "no", "--save", "", *slow)
    client = connect_to(server, deadline_s=DEADLINE_S, pool_size=40)
    with deadline(10.0):
        client.mset({f"k{number}": os.urandom(500) for number in range(500)})
        client.save()
    server.kill()
    asked: list[list[Any]] = []

    def ask() -> None:
        with redis.Redis(port=server.config.port, retry=Retry(NoBackoff(), 0)) as observer:
            while not isinstance(in_threads([lambda: observer.get("k")])[0][0], redis.BusyLoadingError):
                pass
        asked.append(ask_all(client))
        assert not started.is_set(), "it loaded too fast to say anything"

    started = threading.Event()
    asking = threading.Thread(target=ask)
    asking.start()
    server.start()  # it ends with the thread that starts it
    started.set()
    asking.join()
    assert {type(outcome) for outcome in asked[0]} == {Unavailable}
    with deadline(10.0):
        assert client.incr("n") == 1
