"""Outages of real servers: how often they are tried, who fails and who does not, and what a caller is told."""

import contextlib
import dataclasses
import itertools
import re
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from cachelib import Disconnected, Event, PoolExhausted, Reconnected, Unavailable, deadline
from runbook.drills.faults import Proxy, delayed, refused, reset
from runbook.targets.embedded import Embedded
from tests.integration.cachelib.background import Task, ends_of, results
from tests.integration.cachelib.commands import SLOW_TO_LOAD, USES
from tests.integration.cachelib.turnstile import Turnstile
from tests.timing import end_of

pytestmark = pytest.mark.timeout(60)

DEADLINE_S = 0.2
LONG_S = 20.0
# The contract's bound on connection attempts of all callers together.
MOST_PER_S = 25

REPEATABLE: list[Callable[[Any], object]] = [
    lambda client: client.get("k"),
    lambda client: client.set("k", "v"),
    lambda client: client.hset("h", "field", "v"),
    lambda client: client.pipeline().set("k", "v").get("k").execute(),
]


def away(client: Any) -> bool:
    return "server away" in repr(client)


# --- no storm ---


def hold(client: Any, until: contextlib.ExitStack) -> list[Callable[[], Any]]:
    """Open single-connection clients and subscriptions, and return what each does next."""
    uses: list[Callable[[], Any]] = []
    for _ in range(3):
        single = until.enter_context(client.client())
        pubsub = until.enter_context(client.pubsub(ignore_subscribe_messages=True))
        single.ping()
        pubsub.subscribe("news")
        pubsub.get_message(timeout=1)
        uses += [lambda single=single: single.get("k"), lambda pubsub=pubsub: pubsub.get_message(timeout=LONG_S)]
    return uses


@pytest.mark.parametrize(
    "names", [["GET"], [*USES, "held"], *(pytest.param([name], marks=pytest.mark.nightly) for name in [*USES, "held"])], ids="-".join
)
def test_hundred_callers_try_a_missing_server_at_most_25_times_a_second(names: list[str], own_server: Embedded, open_client: Any) -> None:
    client = open_client(own_server, connected=True, deadline_s=1.2, pool_size=10)
    callers = [lambda use=USES[name]: use(client) for name in names if name != "held"]
    with contextlib.ExitStack() as until:
        held = hold(client, until) if "held" in names else []
        uses = held + [callers[number % len(callers)] for number in range(100 if callers else 0)]
        own_server.kill()
        turnstile = until.enter_context(Turnstile(own_server.config.port))
        began_s = time.monotonic()
        ends = ends_of(uses)
        took_s = time.monotonic() - began_s
    assert {end.kind for end in ends} <= {Unavailable, PoolExhausted}
    assert [end for end in ends if not end.is_by(1.2 + 0.1)] == []
    assert len(turnstile.times_s) <= MOST_PER_S * took_s + client.connection_pool.max_connections + len(held)
    # After the callers that were under way together, each attempt keeps its distance.
    late_s = [time_s for time_s in turnstile.times_s if time_s > began_s + 0.5]
    assert 3 <= len(late_s) <= MOST_PER_S * (took_s - 0.5)
    # The server sees an attempt later than it was made, by what the host takes.
    distances_s = sorted(later - earlier for earlier, later in itertools.pairwise(late_s))
    assert distances_s[len(distances_s) // 2] > 0.03


def test_callers_that_come_and_go_do_not_try_more_often(server: Embedded, open_client: Any) -> None:
    """Each has less time than the outage lasts, so the prober's part changes hands all the time."""
    with Turnstile() as turnstile:
        client = open_client(server, port=turnstile.port)
        began_s = time.monotonic()

        def keep_asking(number: int) -> None:
            while time.monotonic() < began_s + 1.0:
                with deadline(0.02 + 0.01 * number), pytest.raises(Unavailable):
                    client.get("k")

        assert results([Task(lambda number=number: keep_asking(number)) for number in range(20)]) == [None] * 20
        took_s = time.monotonic() - began_s
    assert len(turnstile.times_s) <= MOST_PER_S * took_s + client.connection_pool.max_connections


def test_callers_who_share_a_lost_connection_reconnect_it_once(server: Embedded, proxy: Proxy, open_client: Any) -> None:
    client = open_client(server, port=proxy.port, deadline_s=LONG_S, connected=True)
    with client.client() as single:
        single.ping()
        with reset(proxy):
            time.sleep(0.05)  # it ends, and so do the others
        made = client.pool_stats().made
        with delayed(proxy, 0.05):
            assert sorted(results([Task(lambda: single.incr("n")) for _ in range(10)])) == list(range(1, 11))
        assert client.pool_stats().made - made <= 2


# --- who fails, and who does not ---


def test_no_repeatable_call_fails_in_an_outage_shorter_than_the_deadline(own_server: Embedded, open_client: Any, eventually: Any) -> None:
    """A hundred callers that never stop, and a storm of kills."""
    events: list[Event] = []
    client = open_client(own_server, deadline_s=LONG_S, observers=[events.append])
    enough, counts = threading.Event(), [0] * 100

    def keep_asking(number: int) -> None:
        while not enough.is_set():
            REPEATABLE[number % 4](client)
            counts[number] += 1

    tasks = [Task(lambda number=number: keep_asking(number)) for number in range(100)]
    eventually(lambda: all(counts))
    for _ in range(3):
        own_server.kill()
        eventually(lambda: away(client))
        own_server.start()
        before = sum(counts)
        eventually(lambda before=before: sum(counts) > before + 500)
    enough.set()
    assert results(tasks) == [None] * 100
    stats = client.pool_stats()
    kinds = [type(event) for event in events if isinstance(event, Disconnected | Reconnected)]
    assert kinds[:2] == [Disconnected, Reconnected]
    assert kinds == kinds[:2] * (len(kinds) // 2)  # they alternate
    assert (stats.outages, stats.unknown, stats.in_use, stats.waiting) == (len(kinds) // 2, 0, 0, 0)
    assert stats.made == stats.lost + stats.idle


@pytest.mark.parametrize("connected", [False, True], ids=["never connected", "connected before"])
def test_call_issued_during_an_outage_shorter_than_the_deadline_succeeds(
    connected: bool, server: Embedded, proxy: Proxy, open_client: Any, eventually: Any
) -> None:
    """Nothing could be sent, so nothing can be applied twice, not even a write."""
    client = open_client(server, port=proxy.port, deadline_s=LONG_S, connected=connected)
    with refused(proxy):
        calls = {name: Task(lambda use=use: use(client)) for name, use in USES.items()}
        eventually(lambda: away(client))
    outcomes = {name: call.result() for name, call in calls.items()}
    assert [name for name, outcome in outcomes.items() if isinstance(outcome, Exception)] == []
    assert {outcomes["INCR"], *outcomes["MULTI"]} == {1, 2}


@pytest.mark.parametrize("name", USES)
def test_client_reconnects_after_a_kill_and_a_restart(name: str, own_server: Embedded, open_client: Any) -> None:
    client = open_client(own_server)
    USES[name](client)
    own_server.kill()
    own_server.start()
    USES[name](client)


@pytest.mark.parametrize("fault", [reset, refused])
@pytest.mark.parametrize("single", [False, True], ids=["shared", "single connection"])
def test_idle_connections_that_ended_are_replaced_unnoticed(
    single: bool, fault: Any, server: Embedded, proxy: Proxy, open_client: Any
) -> None:
    client = open_client(server, port=proxy.port, connected=True)
    user = client.client() if single else client
    user.ping()
    with fault(proxy):
        time.sleep(0.05)  # they end
    assert (user.incr("n"), user.pipeline().incr("n").execute()) == (1, [2])
    assert client.pool_stats().unknown == 0
    user.close()


def test_callers_in_a_long_outage_fail_at_their_own_deadlines(server: Embedded, proxy: Proxy, open_client: Any) -> None:
    client = open_client(server, port=proxy.port)
    deadlines_s = [0.2, 0.35, 0.5] * 5

    def ask(timeout_s: float) -> None:
        with deadline(timeout_s):
            client.get("k")

    with refused(proxy):
        ends = ends_of([lambda timeout_s=timeout_s: ask(timeout_s) for timeout_s in deadlines_s])
    for timeout_s, end in zip(deadlines_s, ends, strict=True):
        assert (end.kind, end.is_at(timeout_s)) == (Unavailable, True)
    assert client.pool_stats().waiting == 0


def test_stall_shorter_than_the_deadline_fails_nobody(server: Embedded, open_client: Any, paused: Any) -> None:
    client = open_client(server, deadline_s=LONG_S)
    with paused(server):
        tasks = [Task(lambda use=use: use(client)) for use in REPEATABLE * 10]
        time.sleep(0.2)  # the length of the stall
    end = end_of(lambda: results(tasks))
    assert [outcome for outcome in end.outcome if isinstance(outcome, Exception)] == []
    assert end.took_s < 10.0  # not their deadline


def test_loading_server_is_one_outage_for_all(start_server: Any, open_client: Any) -> None:
    server = start_server(*SLOW_TO_LOAD, "1500")
    client = open_client(server, deadline_s=30.0)
    client.mset({f"k{number}": b"v" * 500 for number in range(200)})
    client.save()
    server.kill()
    tasks = [Task(lambda number=number: client.incr("n") if number % 2 else client.strlen("k1")) for number in range(40)]
    server.start()
    outcomes = results(tasks)
    assert (outcomes[::2], sorted(outcomes[1::2])) == ([500] * 20, list(range(1, 21)))
    assert client.pool_stats().outages <= 2


def test_application_starts_while_redis_is_down_and_recovers_without_a_restart(server: Embedded, proxy: Proxy, open_client: Any) -> None:
    client = open_client(server, port=proxy.port, deadline_s=0.05)
    with refused(proxy):
        for _ in range(10):
            with pytest.raises(Unavailable):
                client.incr("n")
        assert away(client)
        assert client.pool_stats() == dataclasses.replace(client.pool_stats(), in_use=0, idle=0, waiting=0, made=0, lost=0, unknown=0)
    with deadline(LONG_S):
        assert client.incr("n") == 1
    assert not away(client)


# --- what a caller is told ---


def test_unavailable_says_since_when_whatever_was_asked_and_a_later_outage_has_a_since_of_its_own(
    server: Embedded, proxy: Proxy, open_client: Any
) -> None:
    client = open_client(server, port=proxy.port, deadline_s=DEADLINE_S)
    uses = USES | {"MONITOR": lambda client: client.monitor().__enter__(), "BLPOP for ever": lambda client: client.blpop("queue", 0)}
    outages: list[set[datetime]] = [set(), set()]
    for sinces in outages:
        before = datetime.now(UTC)
        with refused(proxy):
            ends = dict(zip(uses, ends_of([lambda use=use: use(client) for use in uses.values()]), strict=True))
        for name, end in ends.items():
            assert (name, end.kind, end.is_by(DEADLINE_S)) == (name, Unavailable, True)
            error = end.outcome
            assert before <= error.since <= datetime.now(UTC)
            assert error.since.utcoffset() == timedelta(0)
            # Refused, it is "away since"; on a host that stalls past the deadline it is "no reply, after the server went away at".
            assert error.since.isoformat(timespec="milliseconds") in str(error)
            assert "Is the server up and reachable" in str(error)
            sinces.add(error.since)
        with deadline(LONG_S):
            client.ping()
    ((first,), (second,)) = outages
    assert first < second


def test_unavailable_says_what_where_how_long_and_chains_the_cause(server: Embedded, proxy: Proxy, open_client: Any) -> None:
    client = open_client(server, port=proxy.port, deadline_s=DEADLINE_S)
    with refused(proxy), pytest.raises(Unavailable) as caught:
        client.set("account-of-bob", "v")
    text = str(caught.value)
    within = r"within 0\.\d+ s \(away since 20\S+, for 0\.\d+ s and \d+ connection attempts: "
    assert re.match(rf"SET got no answer from 127\.0\.0\.1:{proxy.port}/0 {within}", text)
    assert "refused" in text or "Connect call failed" in text
    assert "changed nothing" in text
    assert "bob" not in text
    assert isinstance(caught.value.__cause__, redis.ConnectionError | OSError)


def test_caller_let_through_too_late_is_told_since_when(
    server: Embedded, proxy: Proxy, direct: Any, open_client: Any, client_kind: str, eventually: Any
) -> None:
    """Its time went by in the outage, so that more connections would not have helped."""
    client = open_client(server, port=proxy.port, pool_size=1, deadline_s=10.0)

    def look() -> None:
        with deadline(0.8):
            client.get("k") if client_kind == "threads" else client.client_id()

    with refused(proxy):
        first = Task(lambda: client.blpop("queue", 30))  # will have the one connection
        eventually(lambda: away(client))
        late = Task(look)
        eventually(lambda: client.pool_stats().waiting >= 1 + (client_kind != "threads"))
    error = late.result()
    direct.rpush("queue", "go on")
    assert type(error) is PoolExhausted
    assert f"the server went away at {error.since.isoformat(timespec='milliseconds')}" in str(error)
    assert "REDIS_POOL_SIZE" not in str(error)
    assert first.result()
