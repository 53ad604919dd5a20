"""Many tasks on one line while the network breaks: whoever gets a reply gets its own, and no write is applied twice."""

import asyncio
import contextlib
import dataclasses
import gc
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from cachelib import AsyncClient, OutcomeUnknown, Unavailable, connect_async, deadline
from runbook.drills.faults import Proxy, cutting_replies, delayed, half_open, losing_replies, refused, reset
from runbook.targets.embedded import Embedded
from tests.pairs import pairs
from tests.timing import end_of_async

pytestmark = pytest.mark.timeout(60)

WORKERS = 300
# Longer than any fault here lasts, so that what may be sent again succeeds.
LONG_S = 5.0


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run it, and fail if it leaves a task behind or an error that nobody has seen."""
    problems: list[dict[str, Any]] = []

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
        await main()
        until_s = time.monotonic() + 1.0
        while len(asyncio.all_tasks()) > 1 and time.monotonic() < until_s:
            await asyncio.sleep(0.001)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(watched())
    assert problems == []


@pytest.fixture
def proxy(server: Embedded) -> Iterator[Proxy]:
    with Proxy(server.config.port) as proxy:
        yield proxy
    gc.collect()  # what nobody has seen is told when it is collected


@contextlib.asynccontextmanager
async def client_behind(proxy: Proxy, server: Embedded, *, decode_responses: bool = False, **changes: Any) -> AsyncIterator[AsyncClient]:
    config = dataclasses.replace(server.config, **{"port": proxy.port, "deadline_s": LONG_S, **changes})
    client = connect_async(config, decode_responses=decode_responses, observers=[])
    try:
        yield client
    finally:
        await client.aclose()


async def outcome_of(call: Callable[..., Awaitable[Any]], *args: Any, timeout_s: float | None = None) -> Any:
    """Return a call's reply, or the error that it ended with."""
    try:
        with deadline(timeout_s) if timeout_s else contextlib.nullcontext():
            return await call(*args)
    except (redis.RedisError, asyncio.CancelledError) as error:
        return error


def word_of(number: int, size: int) -> str:
    return f"{number};" * size


def check_count(outcomes: list[Any], value: int) -> None:
    """Compare what INCRs of one key have been told with its value."""
    acknowledged = [outcome for outcome in outcomes if isinstance(outcome, int)]
    unknown = [outcome for outcome in outcomes if isinstance(outcome, OutcomeUnknown | asyncio.CancelledError)]
    assert {type(outcome) for outcome in outcomes} <= {int, OutcomeUnknown, asyncio.CancelledError, Unavailable}
    assert len(set(acknowledged)) == len(acknowledged)  # no two got one reply
    assert max(acknowledged, default=0) <= value
    assert len(acknowledged) <= value <= len(acknowledged) + len(unknown)


# --- whatever happens ---

SIZES = st.sampled_from([1, 1, 30, 5000, 50_000])
TIMEOUTS_S = st.sampled_from([None, None, None, 0.0005, 0.003, 0.01])


class MatchingMachine(RuleBasedStateMachine):
    """`words` are what each task asked to hear again, and by when; `counting` are those that increment one counter."""

    server: Embedded
    proxy: Proxy
    direct: Any

    @initialize(decode_responses=st.booleans())
    def begin(self, decode_responses: bool) -> None:
        self.decode_responses = decode_responses
        self.words: dict[asyncio.Task[Any], tuple[str, float | None]] = {}
        self.counting: list[asyncio.Task[Any]] = []
        self.problems: list[dict[str, Any]] = []
        self.faults = contextlib.ExitStack()
        self.direct.delete("n")
        self.runner = asyncio.Runner()
        self.runner.get_loop().set_exception_handler(lambda _, context: self.problems.append(context))
        self.connection = client_behind(self.proxy, self.server, decode_responses=decode_responses)
        self.client = self.runner.run(self.connection.__aenter__())

    def teardown(self) -> None:
        if not hasattr(self, "client"):
            return
        self.faults.close()
        self.runner.run(self.end())
        self.runner.close()
        assert self.problems == []

    async def end(self) -> None:
        await asyncio.gather(*self.words, *self.counting, return_exceptions=True)
        self.every_reply_is_that_of_its_own_call()
        counted = await asyncio.gather(*self.counting, return_exceptions=True)
        check_count(counted, int(self.direct.get("n") or 0))
        await self.connection.__aexit__(None, None, None)
        until_s = time.monotonic() + 1.0
        while len(asyncio.all_tasks()) > 1 and time.monotonic() < until_s:
            await asyncio.sleep(0.001)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    # --- what callers do ---

    @rule(many=st.integers(1, 30), size=SIZES, timeout_s=TIMEOUTS_S)
    def echo(self, many: int, size: int, timeout_s: float | None) -> None:
        for _ in range(many):
            word = word_of(len(self.words), size)
            self.words[self.start(outcome_of(self.client.echo, word, timeout_s=timeout_s))] = word, timeout_s

    @rule(many=st.integers(1, 30), timeout_s=TIMEOUTS_S)
    def count(self, many: int, timeout_s: float | None) -> None:
        self.counting += [self.start(outcome_of(self.client.incr, "n", timeout_s=timeout_s)) for _ in range(many)]

    @rule(number=st.integers(0, 20))
    def cancel(self, number: int) -> None:
        running = [task for task in [*self.words, *self.counting] if not task.done()]
        for task in running[number :: 1 + number]:
            task.cancel()

    @rule(seconds=st.sampled_from([0.0, 0.0, 0.0005, 0.002, 0.01]))
    def wait(self, seconds: float) -> None:
        self.runner.run(asyncio.sleep(seconds))

    # --- what becomes of the network ---

    @rule(how=st.sampled_from([reset, refused]))
    def disconnect(self, how: Any) -> None:
        with how(self.proxy):
            self.wait(0.002)

    @rule()
    def kill(self) -> None:
        self.direct.client_kill_filter(_type="normal", skipme=True)

    @rule(word=st.sampled_from([b"ECHO", b"INCR"]), after_bytes=st.sampled_from([0, 1, 3, 10, 2000, 70_000]), by_reset=st.booleans())
    def cut(self, word: bytes, after_bytes: int, by_reset: bool) -> None:
        self.faults.enter_context(cutting_replies(self.proxy, word, after_bytes, reset=by_reset))

    # --- what holds at any time ---

    @invariant()
    def every_reply_is_that_of_its_own_call(self) -> None:
        for task, (word, timeout_s) in getattr(self, "words", {}).items():
            if not task.done() or task.cancelled():
                continue
            got = task.result()
            if isinstance(got, redis.RedisError):
                assert type(got) is Unavailable
                assert timeout_s is not None
            elif not isinstance(got, asyncio.CancelledError):
                assert got == (word if self.decode_responses else word.encode())

    def start(self, doing: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return self.runner.get_loop().create_task(doing)


@pytest.mark.no_cover
@pytest.mark.parametrize("examples", [25, pytest.param(300, marks=[pytest.mark.nightly, pytest.mark.timeout(300)])])
def test_every_reply_is_that_of_its_own_call_and_every_write_is_applied_as_told(
    examples: int, server: Embedded, proxy: Proxy, direct: Any
) -> None:
    machine = type("Matching", (MatchingMachine,), {"server": server, "proxy": proxy, "direct": direct})
    phases = (Phase.explicit, Phase.generate)  # the network does not repeat itself, so a failure can't be made smaller
    machine.TestCase.settings = settings(
        max_examples=examples, stateful_step_count=40, phases=phases, suppress_health_check=list(HealthCheck)
    )
    machine.TestCase().runTest()


@pytest.mark.no_cover
@pytest.mark.parametrize("turns_each", [10, pytest.param(100, marks=pytest.mark.nightly)])
def test_hundreds_of_tasks_get_their_own_replies_while_connections_end_again_and_again(
    turns_each: int, server: Embedded, proxy: Proxy, direct: Any
) -> None:
    chance = random.Random(20)

    async def main() -> None:
        async with client_behind(proxy, server) as client:

            async def work(number: int) -> list[Any]:
                nonlocal turns, unknown
                counted: list[Any] = []
                while len(counted) < turns_each or not unknown:  # until a fault has met a write
                    turn, turns = len(counted), turns + 1
                    word = word_of(1000 * number + turn, chance.choice((1, 10, 300)))
                    assert await client.echo(word) == word.encode()
                    await client.set(f"own-{number}", word)
                    assert await client.get(f"own-{number}") == word.encode()
                    counted.append(await outcome_of(client.incr, "n"))
                    unknown = unknown or isinstance(counted[-1], OutcomeUnknown)
                return counted

            async def give_up(number: int) -> None:
                while not over.is_set():
                    task = asyncio.create_task(outcome_of(client.echo, word_of(number, 1000)))
                    await asyncio.sleep(chance.uniform(0.0, 0.004))
                    task.cancel()

            async def break_lines() -> None:
                while not over.is_set():
                    with chance.choice((reset, refused))(proxy):
                        await asyncio.sleep(0.003)
                    with cutting_replies(proxy, chance.choice((b"ECHO", b"INCR", b"INCR", b"GET")), chance.choice((0, 3, 40)), times=2):
                        await asyncio.sleep(chance.uniform(0.01, 0.06))
                    # On a slow host, faults without a pause would meet some call again and again until its deadline.
                    calm_from = turns
                    while turns < calm_from + WORKERS // 2 and not over.is_set():
                        await asyncio.sleep(0.001)

            turns, unknown = 0, False
            over = asyncio.Event()
            others = [asyncio.create_task(doing) for doing in (break_lines(), *map(give_up, range(20)))]
            counted = await asyncio.gather(*(work(number) for number in range(WORKERS)))
            over.set()
            await asyncio.gather(*others)
            outcomes = [outcome for each in counted for outcome in each]
            assert client.pool_stats().lost >= 3
            check_count(outcomes, int(direct.get("n")))

    run(main)


# --- one fault at a time ---


@pytest.mark.parametrize(
    ("after_bytes", "by_reset"), pairs([(0, True), (1, False), (9, True), (1_000_000, False)], [0, 1, 9, 1_000_000], [False, True])
)
def test_callers_behind_a_reply_that_was_cut_get_their_own(after_bytes: int, by_reset: bool, server: Embedded, proxy: Proxy) -> None:
    async def main() -> None:
        async with client_behind(proxy, server) as client:
            await client.ping()
            words = [word_of(number, 1) for number in range(200)]
            words[50] = "cut" * 1_000_000
            with cutting_replies(proxy, b"cut", after_bytes, reset=by_reset) as cut:
                replies = await asyncio.gather(*(client.echo(word) for word in words))
            assert replies == [word.encode() for word in words]
            assert (cut.replies, client.pool_stats().lost, client.pool_stats().made) == (1, 1, 2)

    run(main)


def test_late_replies_of_callers_who_gave_up_reach_nobody(server: Embedded, proxy: Proxy) -> None:
    async def main() -> None:
        async with client_behind(proxy, server) as client:
            await client.ping()
            with delayed(proxy, 0.2):
                words = [word_of(number, 1) for number in range(600)]
                tasks = [
                    asyncio.create_task(outcome_of(client.echo, word, timeout_s=0.1 if number % 3 == 1 else None))
                    for number, word in enumerate(words)
                ]
                await asyncio.sleep(0.05)
                for task in tasks[2::3]:
                    task.cancel()
                outcomes = await asyncio.gather(*tasks)
            assert outcomes[::3] == [word.encode() for word in words[::3]]
            assert {type(outcome) for outcome in outcomes[1::3]} == {Unavailable}
            assert {type(outcome) for outcome in outcomes[2::3]} == {asyncio.CancelledError}
            assert client.pool_stats().made == 1

    run(main)


def test_writes_whose_replies_are_lost_are_applied_once_and_their_outcome_is_unknown(server: Embedded, proxy: Proxy, direct: Any) -> None:
    async def main() -> None:
        async with client_behind(proxy, server) as client:
            await client.ping()
            with losing_replies(proxy, b"lost") as lost:
                before = [asyncio.create_task(outcome_of(client.incr, "n")) for _ in range(100)]
                written = asyncio.create_task(outcome_of(client.rpush, "lost", "v"))
                behind = [asyncio.create_task(outcome_of(client.incr, "n")) for _ in range(100)]
                assert type(await written) is OutcomeUnknown
                assert lost.replies == 1
            outcomes = await asyncio.gather(*before, *behind)
            assert outcomes[:100] == list(range(1, 101))
            assert {type(outcome) for outcome in outcomes[100:]} == {OutcomeUnknown}
            assert (direct.llen("lost"), direct.get("n")) == (1, "200")
            assert await client.incr("n") == 201
            assert client.pool_stats().unknown == 101

    run(main)


def test_line_that_went_silent_is_replaced_and_its_callers_end_at_their_deadline(server: Embedded, proxy: Proxy, direct: Any) -> None:
    async def main() -> None:
        async with client_behind(proxy, server, deadline_s=0.4) as client:
            await client.ping()
            with half_open(proxy):
                end = await end_of_async(asyncio.gather(outcome_of(client.echo, "x"), outcome_of(client.incr, "n")))
                assert list(map(type, end.outcome)) == [Unavailable, OutcomeUnknown]
                assert end.is_at(0.4)
                async with asyncio.timeout(10.0):
                    while not client.pool_stats().lost:  # the line is given up
                        await asyncio.sleep(0.002)
                words = [word_of(number, 1) for number in range(100)]
                assert await asyncio.gather(*(client.echo(word) for word in words)) == [word.encode() for word in words]
                assert await client.incr("n") == 1
            assert (client.pool_stats().made, client.pool_stats().lost) == (2, 1)

    run(main)
