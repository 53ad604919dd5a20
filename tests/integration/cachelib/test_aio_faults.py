"""The asyncio client while servers and networks fail: nothing is applied twice, nobody is late, and only one prober knocks."""

import asyncio
import contextlib
import dataclasses
import functools
import itertools
import os
import statistics
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

import cachelib
from cachelib import OutcomeUnknown, PoolExhausted, Unavailable
from runbook.drills.faults import (
    Proxy,
    black_hole,
    cutting_replies,
    delayed,
    half_open,
    losing_replies,
    refused,
    reset,
    withholding_replies,
)
from runbook.targets.embedded import Embedded
from tests.integration.cachelib.writes import WRITES as PLAIN_WRITES

pytestmark = pytest.mark.timeout(30)

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

# How late a failure may be on a noisy host, and how late the median of many.
SLACK_S, MEDIAN_SLACK_S = 0.5, 0.05
DEADLINE_S = 0.3
LONG_S = 10.0
# The contract's bound on connection attempts of all callers together.
MOST_PER_S = 25


@contextlib.asynccontextmanager
async def connected(server: Embedded, *, decode_responses: bool = False, **changes: Any) -> AsyncIterator[Any]:
    """Build a client for a server with some settings changed, closed after the block."""
    client = cachelib.connect_async(dataclasses.replace(server.config, **changes), decode_responses=decode_responses, observers=[])
    try:
        yield client
    finally:
        await client.aclose()


def run(main: Any, server: Embedded, *, loop_factory: LoopFactory | None = None, **changes: Any) -> None:
    """Run a function of a client as `asyncio.run` does."""

    async def connect_and_run() -> None:
        async with asyncio.timeout(20.0), connected(server, **changes) as client:
            await main(client)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(connect_and_run())


async def ended(attempt: Callable[[], Any]) -> tuple[Any, float]:
    """Return the reply or the error of an attempt, and after how many seconds."""
    began_s = time.monotonic()
    try:
        async with asyncio.timeout(LONG_S):
            outcome = await attempt()
    except Exception as error:
        outcome = error
    return outcome, time.monotonic() - began_s


async def warmed(client: Any) -> Any:
    """Make the first connections at leisure."""
    with cachelib.deadline(LONG_S):
        await asyncio.gather(client.ping(), client.pipeline().get("k").execute())
    return client


async def until(question: Callable[[], object]) -> None:
    """Wait until the answer is true."""
    async with asyncio.timeout(LONG_S):
        while not question():
            await asyncio.sleep(0.002)


# --- never twice ---


async def increment(pipe: Any) -> None:
    value = int(await pipe.get("w") or 0)
    pipe.multi()
    pipe.set("w", value + 1)


WRITES_ONCE = PLAIN_WRITES | {
    "EXEC after WATCH": (b"EXEC", lambda client, number: client.transaction(increment, "w"), lambda direct: int(direct.get("w") or 0)),
}

LOSSES: dict[str, Callable[..., Any]] = {
    "closed": losing_replies,
    "reset": lambda proxy, word: losing_replies(proxy, word, reset=True),
    "cut": lambda proxy, word: cutting_replies(proxy, word, 1),
    "withheld": withholding_replies,
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("word", "write", "applied"), WRITES_ONCE.values(), ids=WRITES_ONCE)
def test_write_whose_reply_is_lost_is_applied_once_and_its_outcome_unknown(
    word: bytes, write: Any, applied: Any, loss: str, server: Embedded, proxy: Proxy, direct: Any
) -> None:
    async def main(client: Any) -> None:
        await warmed(client)
        with LOSSES[loss](proxy, word) as lost:
            error, took_s = await ended(lambda: write(client, 1))
        assert (type(error), lost.replies, applied(direct)) == (OutcomeUnknown, 1, 1)
        assert took_s < (DEADLINE_S if loss == "withheld" else 0.0) + SLACK_S  # there is nothing to wait for

    run(main, server, port=proxy.port, deadline_s=DEADLINE_S if loss == "withheld" else LONG_S)


@pytest.mark.parametrize("write", [write for _, write, _ in WRITES_ONCE.values()], ids=WRITES_ONCE)
def test_write_to_a_stalled_server_is_applied_once_or_was_not_sent(write: Any, server: Embedded, direct: Any, paused: Any) -> None:
    async def main(client: Any) -> None:
        await warmed(client)
        with paused(server):
            error, took_s = await ended(lambda: write(client, 1))
        direct.ping()
        applied = sum(applied(direct) for _, _, applied in WRITES_ONCE.values())
        assert (type(error), applied) in ((OutcomeUnknown, 1), (Unavailable, 0))
        assert 0.9 * DEADLINE_S <= took_s < DEADLINE_S + SLACK_S

    run(main, server, deadline_s=DEADLINE_S)


def test_in_a_storm_of_faults_the_server_holds_what_was_acknowledged_and_at_most_the_unknown(
    server: Embedded, proxy: Proxy, direct: Any, paused: Any, loop_factory: LoopFactory
) -> None:
    numbers, enough = itertools.count(), threading.Event()

    def break_things() -> None:
        for word, _, _ in WRITES_ONCE.values():
            for fault in (reset(proxy), losing_replies(proxy, word), half_open(proxy), refused(proxy)):
                with fault:
                    time.sleep(0.03)  # long enough to meet some commands
                time.sleep(0.02)
        with paused(server):
            time.sleep(0.5)  # longer than the deadline
        enough.set()

    async def main(client: Any) -> None:
        outcomes: Counter[tuple[str, str]] = Counter()

        async def work(name: str, write: Any) -> None:
            while not enough.is_set():
                try:
                    reply = await write(client, next(numbers))
                    assert reply is not None, "somebody has set the key that only we set: it was sent twice"
                    outcomes[name, "acknowledged"] += 1
                except OutcomeUnknown:
                    outcomes[name, "unknown"] += 1
                except Unavailable:
                    pass

        workers = [work(name, write) for name, (_, write, _) in WRITES_ONCE.items() for _ in range(3)]
        await asyncio.gather(asyncio.to_thread(break_things), *workers)
        for name, (_, _, applied) in WRITES_ONCE.items():
            done, unknown = outcomes[name, "acknowledged"], outcomes[name, "unknown"]
            assert 0 < done <= applied(direct) <= done + unknown, name
        assert client.pool_stats().unknown == sum(times for (_, what), times in outcomes.items() if what == "unknown")

    run(main, server, port=proxy.port, deadline_s=0.4, pool_size=20, loop_factory=loop_factory)


REPEATABLE = {
    "GET": (b"GET", lambda client: client.get("was"), b"here"),
    "SET": (b"SET", lambda client: client.set("k", "v"), True),
    "DEL": (b"DEL", lambda client: client.delete("was"), 0),  # the first execution deleted one key
    "MULTI": (b"EXEC", lambda client: client.pipeline().set("k", "v").get("was").execute(), [True, b"here"]),
    "pipeline": (b"MGET", lambda client: client.pipeline(transaction=False).mget("was").execute(), [[b"here"]]),
    "WATCH": (b"WATCH", lambda client: client.transaction(lambda pipe: pipe.get("was"), "was"), []),
}


@pytest.mark.parametrize("loss", ["closed", "reset"])
@pytest.mark.parametrize(("word", "command", "reply"), REPEATABLE.values(), ids=REPEATABLE)
def test_repeatable_command_whose_reply_is_lost_is_sent_again(
    word: bytes, command: Any, reply: Any, loss: str, server: Embedded, proxy: Proxy, direct: Any
) -> None:
    async def main(client: Any) -> None:
        direct.set("was", "here")
        await warmed(client)
        with LOSSES[loss](proxy, word) as lost:
            assert await command(client) == reply
        stats = client.pool_stats()
        assert (lost.replies, stats.retried, stats.lost, stats.made - stats.lost) == (1, 1, 1, stats.idle)

    run(main, server, port=proxy.port)


def test_connection_lost_in_flight_settles_each_caller_by_its_own_rule(
    server: Embedded, proxy: Proxy, direct: Any, loop_factory: LoopFactory
) -> None:
    async def main(client: Any) -> None:
        async def declared(attempt: Callable[[], Any]) -> Any:
            with cachelib.idempotent():
                return await attempt()

        await warmed(client)
        uses = [lambda: client.get("k"), lambda: client.incr("a"), lambda: declared(lambda: client.incr("b")), lambda: client.set("c", "v")]
        uses += [lambda: client.execute_command("GET"), lambda: client.rpush("l", "v"), lambda: client.ping()]
        with losing_replies(proxy, b"GET"):
            outcomes = [outcome for outcome, _ in await asyncio.gather(*map(ended, uses))]
        got = [type(outcome) if isinstance(outcome, Exception) else outcome for outcome in outcomes]
        assert got == [None, OutcomeUnknown, 2, True, redis.ResponseError, OutcomeUnknown, True]
        with losing_replies(proxy, b"EXEC"):
            assert await declared(client.pipeline().incr("m").execute) == [2]
        assert (direct.get("a"), direct.get("b"), direct.llen("l")) == ("1", "2", 1)

    run(main, server, port=proxy.port, loop_factory=loop_factory)


# --- nobody is late ---

OF_ALL_KINDS: dict[str, Any] = {
    "GET": lambda client: client.get("k"),
    "INCR": lambda client: client.incr("n"),
    "pipeline": lambda client: client.pipeline(transaction=False).get("k").execute(),
    "MULTI": lambda client: client.pipeline().incr("n").execute(),
    "WATCH": lambda client: client.transaction(lambda pipe: pipe.get("k"), "k"),
    "CLIENT ID": lambda client: client.client_id(),
}

SITUATIONS: dict[str, Callable[[Proxy], Any]] = {"refused": refused, "black hole": black_hole, "half open": half_open}


async def ask_all(client: Any, kinds: Any = OF_ALL_KINDS, times: int = 3) -> list[Any]:
    """Let callers of all kinds begin one after another; return their outcomes when all of them have ended in time."""

    async def begin(number: int, use: Any) -> tuple[Any, float]:
        await asyncio.sleep(number * 0.005)
        return await ended(lambda: use(client))

    ends = await asyncio.gather(*(begin(number, kinds[kind]) for number, kind in enumerate([*kinds] * times)))
    took_s = [took_s for _, took_s in ends]
    assert statistics.median(took_s) < DEADLINE_S + MEDIAN_SLACK_S
    assert max(took_s) < DEADLINE_S + SLACK_S
    assert client.pool_stats().waiting == 0
    return [outcome for outcome, _ in ends]


@pytest.mark.parametrize("connected_before", [True, False], ids=["connected", "never connected"])
@pytest.mark.parametrize("situation", [*SITUATIONS, "paused"])
def test_every_call_ends_at_its_deadline(situation: str, connected_before: bool, server: Embedded, proxy: Proxy, paused: Any) -> None:
    async def main(client: Any) -> None:
        if connected_before:
            await warmed(client)
        with paused(server) if situation == "paused" else SITUATIONS[situation](proxy):
            outcomes = await ask_all(client)
        assert {type(outcome) for outcome in outcomes if isinstance(outcome, Exception)} <= {Unavailable, OutcomeUnknown}
        if not connected_before and situation != "half open":
            assert [type(outcome) for outcome in outcomes] == [Unavailable] * len(outcomes)
        with cachelib.deadline(LONG_S):
            assert await client.get("k") is None

    run(main, server, port=proxy.port, deadline_s=DEADLINE_S, pool_size=30)


def test_every_call_to_a_loading_server_ends_at_its_deadline(start_server: Any) -> None:
    slow = ("--key-load-delay", "4000", "--loading-process-events-interval-bytes", "1024")
    server = start_server("--appendonly", "no", "--save", "", *slow)

    async def main(client: Any) -> None:
        with cachelib.deadline(LONG_S):
            await client.mset({f"k{number}": os.urandom(500) for number in range(500)})
            await client.save()
        server.kill()
        starting = asyncio.create_task(asyncio.to_thread(server.start))
        with redis.Redis(port=server.config.port, retry=Retry(NoBackoff(), 0)) as observer:
            while not isinstance((await ended(lambda: asyncio.to_thread(observer.get, "k")))[0], redis.BusyLoadingError):
                assert not starting.done()
            outcomes = await ask_all(client)
            assert not starting.done(), "it loaded too fast to say anything"
        assert [type(outcome) for outcome in outcomes] == [Unavailable] * len(outcomes)
        with cachelib.deadline(LONG_S):
            assert await asyncio.gather(client.incr("n"), client.pipeline().strlen("k1").execute()) == [1, [500]]
        await starting

    run(main, server, deadline_s=DEADLINE_S, pool_size=30)


def test_every_call_ends_at_its_deadline_while_blocking_commands_hold_all_connections(server: Embedded, direct: Any) -> None:
    async def main(client: Any) -> None:
        poppers = [asyncio.create_task(client.blpop("queue", 30)) for _ in range(2)]
        await until(lambda: direct.info("clients")["blocked_clients"] == 2)
        kinds = {kind: use for kind, use in OF_ALL_KINDS.items() if kind not in ("GET", "INCR")}
        kinds |= {"BLPOP": lambda client: client.blpop("nothing", 0.1), "single": lambda client: client.client()}
        assert {type(outcome) for outcome in await ask_all(client, kinds)} == {PoolExhausted}
        assert await client.incr("n") == 1  # the line is everybody's
        await client.rpush("queue", *"ab")
        assert sorted(value for _, value in await asyncio.gather(*poppers)) == [b"a", b"b"]

    run(main, server, pool_size=2, deadline_s=DEADLINE_S)


def test_handshake_without_an_answer_ends_at_the_connect_timeout(server: Embedded, proxy: Proxy) -> None:
    """A connection is accepted and never hears a word, as behind a hung load balancer; the next one works."""

    async def main(client: Any) -> None:
        for use in (OF_ALL_KINDS["GET"], OF_ALL_KINDS["pipeline"]):
            with withholding_replies(proxy, b"HELLO") as withheld:
                outcome, took_s = await ended(functools.partial(use, client))
            assert (outcome in (None, [None]), withheld.replies) == (True, 1)
            assert took_s < 0.2 + SLACK_S

    run(main, server, port=proxy.port, deadline_s=2.0, connect_timeout_s=0.2)


# --- one prober ---


async def hold(client: Any) -> list[Any]:
    """Open single-connection clients and subscriptions; return what each does next."""
    uses: list[Any] = []
    for _ in range(4):
        single, pubsub = client.client(), client.pubsub(ignore_subscribe_messages=True)
        await single.ping()
        await pubsub.subscribe("news")
        await pubsub.get_message(timeout=1)
        uses += [lambda single=single: single.get("k"), lambda pubsub=pubsub: pubsub.get_message(timeout=LONG_S)]
    return uses


@pytest.mark.parametrize("kinds", [["GET"], ["pipeline"], ["CLIENT ID"], ["WATCH"], ["held"], [*OF_ALL_KINDS, "held"]], ids="-".join)
def test_hundred_tasks_try_a_missing_server_at_most_25_times_a_second(kinds: list[str], own_server: Embedded) -> None:
    async def main(client: Any) -> None:
        held = await hold(await warmed(client)) if "held" in kinds else []
        callers = [use for kind, use in OF_ALL_KINDS.items() if kind in kinds]
        uses = held + [lambda use=use: use(client) for use in (callers * 100)[:100]]
        own_server.kill()
        await asyncio.sleep(0.02)  # it is noticed, so that nothing is sent
        knocks_s: list[float] = []

        def turn_away(_: Any, writer: Any) -> None:
            knocks_s.append(time.monotonic())
            writer.close()

        async with await asyncio.start_server(turn_away, "127.0.0.1", own_server.config.port, backlog=512):
            began_s = time.monotonic()
            ends = await asyncio.gather(*map(ended, uses))
            took_s = time.monotonic() - began_s
        assert {type(outcome) for outcome, _ in ends} <= {Unavailable, PoolExhausted}
        assert max(took_s for _, took_s in ends) < 1.5 + SLACK_S
        late_s = [knock_s for knock_s in knocks_s if knock_s > began_s + 0.5]  # after those that were under way together
        assert len(knocks_s) <= MOST_PER_S * took_s + client.connection_pool.max_connections
        assert 3 <= len(late_s) <= MOST_PER_S * (took_s - 0.5)
        assert min(later - earlier for earlier, later in itertools.pairwise(late_s)) > 0.03

    run(main, own_server, deadline_s=1.5, pool_size=10)


def test_application_starts_while_redis_is_down_and_recovers_without_a_restart(server: Embedded, proxy: Proxy) -> None:
    async def main(client: Any) -> None:
        with refused(proxy):
            for _ in range(3):
                outcomes = [outcome for outcome, _ in await asyncio.gather(*(ended(lambda: client.incr("n")) for _ in range(20)))]
                assert {type(outcome) for outcome in outcomes} == {Unavailable}
            assert repr(client).endswith("server away>>")
            waiting = [asyncio.create_task(use(client)) for use in OF_ALL_KINDS.values()]
            await asyncio.sleep(0.05)
        assert [reply for reply in await asyncio.gather(*waiting) if isinstance(reply, Exception)] == []
        assert not repr(client).endswith("server away>>")

    run(main, server, port=proxy.port, deadline_s=DEADLINE_S)


def test_unavailable_says_since_when_whatever_was_asked(server: Embedded, proxy: Proxy) -> None:
    async def main(client: Any) -> None:
        kinds = OF_ALL_KINDS | {"BLPOP": lambda client: client.blpop("queue", 1), "single": lambda client: client.client()}
        kinds |= {"pubsub": lambda client: client.pubsub().subscribe("news"), "monitor": lambda client: client.monitor().connect()}
        outages: list[set[Any]] = [set(), set()]
        for sinces in outages:
            with refused(proxy):
                for kind, use in kinds.items():
                    error, _ = await ended(functools.partial(use, client))
                    assert (kind, type(error)) == (kind, Unavailable)
                    # Refused, it is "away since"; on a host that stalls past the deadline it is "no reply, after the server went away at".
                    assert error.since.isoformat(timespec="milliseconds") in str(error)
                    sinces.add(error.since)
            with cachelib.deadline(LONG_S):
                await client.ping()
        ((first,), (second,)) = outages
        assert first < second

    run(main, server, port=proxy.port, deadline_s=0.1)


BUSY = "local from = redis.call('TIME')[1]; repeat until redis.call('TIME')[1] - from >= 2"


def test_caller_let_in_too_late_is_told_since_when(server: Embedded, proxy: Proxy) -> None:
    async def main(client: Any) -> None:
        with refused(proxy):
            first = [asyncio.create_task(client.eval(BUSY, 0)), asyncio.create_task(client.blpop("queue", 4))]
            await asyncio.sleep(0.05)
            with cachelib.deadline(0.8):
                late = [asyncio.create_task(ended(lambda: client.get("k"))), asyncio.create_task(ended(lambda: client.blpop("queue", 1)))]
            await asyncio.sleep(0.05)
        (unanswered, _), (exhausted, _) = await asyncio.gather(*late)
        assert (type(unanswered), type(exhausted)) == (Unavailable, PoolExhausted)
        assert unanswered.since == exhausted.since
        for error in (unanswered, exhausted):
            assert f"the server went away at {error.since.isoformat(timespec='milliseconds')}" in str(error)
        await asyncio.gather(*first)

    run(main, server, port=proxy.port, deadline_s=LONG_S, pool_size=1)


@pytest.mark.parametrize("use", [OF_ALL_KINDS["GET"], OF_ALL_KINDS["pipeline"]], ids=["GET", "pipeline"])
def test_prober_goes_on_after_the_deadline_of_the_caller_who_set_it_off(use: Any, server: Embedded, proxy: Proxy) -> None:
    async def main(client: Any) -> None:
        with refused(proxy):
            await ended(lambda: client.get("k"))
            await asyncio.sleep(0.1)  # nobody waits, so nobody probes
            with cachelib.deadline(0.2):
                first = asyncio.create_task(ended(lambda: use(client)))
            await asyncio.sleep(0.1)
            second = asyncio.create_task(client.get("k"))
            assert type((await first)[0]) is Unavailable
            await asyncio.sleep(0.1)
        assert await second is None

    run(main, server, port=proxy.port, deadline_s=0.6)


def test_subscriber_to_a_missing_server_is_told_at_the_deadline_and_hears_later(server: Embedded, proxy: Proxy, direct: Any) -> None:
    async def main(client: Any) -> None:
        async with client.pubsub(ignore_subscribe_messages=True) as pubsub:
            await pubsub.subscribe("news")
            assert await pubsub.get_message(timeout=1) is None
            with refused(proxy):
                for _ in range(2):
                    error, took_s = await ended(lambda: pubsub.get_message(timeout=0.1))
                    assert (type(error), took_s < DEADLINE_S + 0.1 + SLACK_S) == (Unavailable, True)
            assert await pubsub.get_message(timeout=0.1) is None
            assert direct.publish("news", "hello") == 1
            assert (await pubsub.get_message(timeout=1))["data"] == b"hello"

    run(main, server, port=proxy.port, deadline_s=DEADLINE_S)


@pytest.mark.parametrize(
    "writes",
    [
        [lambda client: client.incr("n")],
        [lambda client: client.pipeline().incr("n").execute()],
        [lambda client: client.pipeline().get("k").incr("n").execute()],
        [lambda client: client.pipeline(transaction=False).incr("n").set("k", "v").execute()],
        [lambda client: client.incr("n"), lambda client: client.pipeline().incr("n").execute()],
    ],
    ids=["INCR", "MULTI INCR", "MULTI GET INCR", "batch of INCR and SET", "INCR beside MULTI INCR"],
)
def test_connection_to_a_demoted_master_counts_as_lost_and_writes_wait_for_the_next(writes: Any, start_server: Any) -> None:
    server, master = start_server("--appendonly", "no"), start_server("--appendonly", "no")

    async def main(client: Any) -> None:
        await warmed(client)
        with redis.Redis(port=server.config.port) as admin:
            admin.execute_command("REPLICAOF", "127.0.0.1", master.config.port)
            before = client.pool_stats()
            tasks = [asyncio.create_task(writes[number % len(writes)](client)) for number in range(10)]
            await asyncio.sleep(0.3)  # the length of the demotion
            during = client.pool_stats()
            admin.execute_command("REPLICAOF", "NO", "ONE")
            await asyncio.gather(*tasks)
            assert admin.get("n") == b"10"
        assert during.lost > before.lost
        assert before.made < during.made <= before.made + 10 + MOST_PER_S * 0.5
        assert client.pool_stats().unknown == 0

    run(main, server, deadline_s=LONG_S)


def test_old_connections_are_replaced_and_nobody_notices(server: Embedded) -> None:
    async def main(client: Any) -> None:
        until_s = time.monotonic() + 1.2
        counts = [0, 0]

        async def ask(number: int) -> None:
            while time.monotonic() < until_s:
                assert await (client.pipeline().incr("m").execute() if number % 4 == 0 else client.incr("n"))
                counts[number % 4 == 0] += 1
                await asyncio.sleep(0.001)

        await asyncio.gather(*(ask(number) for number in range(20)))
        stats = client.pool_stats()
        assert [int(value) for value in await client.mget("n", "m")] == counts
        assert (stats.lost, stats.unknown, stats.retried) == (0, 0, 0)
        assert stats.retired >= 3 * 2
        assert stats.made == stats.retired + stats.idle

    run(main, server, deadline_s=LONG_S, connection_max_age_s=0.3)


def test_connections_made_together_do_not_end_together(server: Embedded) -> None:
    async def main(client: Any) -> None:
        before = set(await asyncio.gather(*(client.client_id() for _ in range(12))))
        await asyncio.sleep(0.96)
        after = set(await asyncio.gather(*(client.client_id() for _ in range(12))))
        assert before - after

    run(main, server, connection_max_age_s=1.0, pool_size=12)


@pytest.mark.parametrize("fault", [reset, refused])
@pytest.mark.parametrize("single", [False, True], ids=["shared", "single connection"])
def test_idle_connections_that_ended_are_replaced_unnoticed(
    single: bool, fault: Any, server: Embedded, proxy: Proxy, loop_factory: LoopFactory
) -> None:
    async def main(client: Any) -> None:
        user = client.client() if single else client
        await warmed(user)
        with fault(proxy):
            await asyncio.sleep(0.05)  # they end
        assert await user.incr("n") == 1
        assert await user.pipeline().incr("n").execute() == [2]
        assert client.pool_stats().unknown == 0
        await user.aclose()

    run(main, server, port=proxy.port, loop_factory=loop_factory)


def test_tasks_that_share_a_lost_connection_reconnect_it_once(server: Embedded, proxy: Proxy) -> None:
    async def main(client: Any) -> None:
        await warmed(client)
        async with client.client() as single:
            await single.ping()
            with reset(proxy):
                await asyncio.sleep(0.05)  # it ends, and the line too
            made = client.pool_stats().made
            with delayed(proxy, 0.05):
                assert sorted(await asyncio.gather(*(single.incr("n") for _ in range(10)))) == list(range(1, 11))
            assert client.pool_stats().made - made <= 2

    run(main, server, port=proxy.port, deadline_s=LONG_S)


def test_cancelled_callers_disturb_nobody(server: Embedded, proxy: Proxy, loop_factory: LoopFactory) -> None:
    async def main(client: Any) -> None:
        await warmed(client)
        with delayed(proxy, 0.1):
            tasks = [asyncio.create_task(client.echo(f"{number}")) for number in range(300)]
            tasks += [asyncio.create_task(client.pipeline().get("k").execute()), asyncio.create_task(client.blpop("queue", 0))]
            await asyncio.sleep(0.05)
            for task in tasks[1::3]:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        for number, outcome in enumerate(outcomes[:300]):
            assert isinstance(outcome, asyncio.CancelledError) if number % 3 == 1 else outcome == f"{number}".encode()
        assert (outcomes[300], type(outcomes[301])) == ([None], asyncio.CancelledError)
        assert await client.rpush("queue", "v") == 1
        assert await client.blpop("queue", 1)
        stats = client.pool_stats()
        assert (stats.in_use, stats.waiting, stats.unknown) == (0, 0, 0)

    run(main, server, port=proxy.port, loop_factory=loop_factory)


def test_those_who_wait_and_are_cancelled_leave_their_place_to_others(server: Embedded, proxy: Proxy, direct: Any) -> None:
    async def main(client: Any) -> None:
        popper = asyncio.create_task(client.blpop("queue", 0))
        await until(lambda: direct.info("clients")["blocked_clients"] == 1)
        exhausted = [asyncio.create_task(client.client_id()) for _ in range(6)]
        await until(lambda: client.pool_stats().waiting == 6)
        with refused(proxy):
            away = [asyncio.create_task(client.get("k")) for _ in range(6)]
            await until(lambda: client.pool_stats().waiting >= 12)
            for task in exhausted[::2] + away[::2]:
                task.cancel()
            await asyncio.wait(exhausted[::2] + away[::2])
        assert await asyncio.gather(*away[1::2]) == [None] * 3
        await asyncio.gather(popper, return_exceptions=True)
        assert all(await asyncio.gather(*exhausted[1::2]))
        assert (client.pool_stats().in_use, client.pool_stats().waiting) == (0, 0)

    run(main, server, port=proxy.port, pool_size=1, deadline_s=LONG_S)


def test_client_closed_while_it_connects_can_be_used_again(server: Embedded) -> None:
    async def main(client: Any) -> None:
        pending = asyncio.create_task(client.get("k"))
        await asyncio.sleep(0)
        await client.aclose()
        await asyncio.gather(pending, return_exceptions=True)
        assert await client.get("k") is None

    run(main, server, deadline_s=1.0)


def test_reply_that_can_not_be_decoded_concerns_its_own_caller_only(server: Embedded) -> None:
    async def main(client: Any) -> None:
        with redis.Redis(port=server.config.port) as writer:
            writer.set("binary", b"\xff\xfe")
        keys = ["n", "binary", "n", "n"]
        outcomes = await asyncio.gather(*(client.incr("n") if key == "n" else client.get(key) for key in keys), return_exceptions=True)
        assert (type(outcomes.pop(1)), outcomes) == (UnicodeDecodeError, [1, 2, 3])
        for use in (lambda: client.pipeline().get("binary").execute(), lambda: client.execute_command("get", "binary")):
            assert type((await ended(use))[0]) is UnicodeDecodeError
        assert await client.pipeline().incr("n").execute() == [4]
        assert (client.pool_stats().unknown, client.pool_stats().in_use) == (0, 0)

    run(main, server, decode_responses=True)
