"""What only the asyncio client has: loops, tasks, their cancellation, and one line that all commands share."""

import asyncio
import contextlib
import dataclasses
import gc
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import redis

import cachelib
from cachelib import OutcomeUnknown, PoolExhausted, Refused, Unavailable, deadline
from runbook.drills.faults import Proxy, delayed, losing_replies, refused
from runbook.targets.embedded import Embedded

pytestmark = pytest.mark.timeout(30)

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

LONG_S = 10.0


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


async def warmed(client: Any) -> Any:
    """Make the first connections at leisure."""
    with deadline(LONG_S):
        await asyncio.gather(client.ping(), client.pipeline().get("k").execute())
    return client


async def until(question: Callable[[], object]) -> None:
    """Wait until the answer is true."""
    async with asyncio.timeout(LONG_S):
        while not question():
            await asyncio.sleep(0.002)


# --- one line ---


def test_commands_of_one_turn_of_the_loop_leave_in_one_write(server: Embedded, direct: Any, loop_factory: LoopFactory) -> None:
    async def main(client: Any) -> None:
        await client.ping()
        before = direct.info("stats")["total_reads_processed"]
        assert await asyncio.gather(*(client.rpush("l", number) for number in range(200))) == list(range(1, 201))
        assert direct.info("stats")["total_reads_processed"] - before == 2  # the other one is that of INFO
        assert client.pool_stats().made == 1
        assert direct.lrange("l", 0, -1) == [str(number) for number in range(200)]  # in the order of asking

    run(main, server, loop_factory=loop_factory)


def test_connection_lost_in_flight_settles_each_caller_by_its_own_rule(
    server: Embedded, proxy: Proxy, direct: Any, loop_factory: LoopFactory
) -> None:
    async def main(client: Any) -> None:
        async def declared(attempt: Callable[[], Any]) -> Any:
            with cachelib.idempotent():
                return await attempt()

        await warmed(client)
        uses = [client.get("k"), client.incr("a"), declared(lambda: client.incr("b")), client.set("c", "v")]
        uses += [client.execute_command("GET"), client.rpush("l", "v"), client.ping()]
        with losing_replies(proxy, b"GET"):
            outcomes = await asyncio.gather(*uses, return_exceptions=True)
        got = [type(outcome) if isinstance(outcome, Exception) else outcome for outcome in outcomes]
        assert got == [None, OutcomeUnknown, 2, True, redis.ResponseError, OutcomeUnknown, True]
        assert (direct.get("a"), direct.get("b"), direct.llen("l")) == ("1", "2", 1)

    run(main, server, port=proxy.port, loop_factory=loop_factory)


def test_callers_who_are_refused_together_cost_one_attempt(server: Embedded, direct: Any) -> None:
    async def main(client: Any) -> None:
        before = direct.info("stats")["total_connections_received"]
        outcomes = await asyncio.gather(*(client.incr("n") for _ in range(100)), return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {Refused}
        assert direct.info("stats")["total_connections_received"] - before == 1

    run(main, server, db=99)


def test_reply_that_can_not_be_decoded_leaves_those_around_it_alone(server: Embedded) -> None:
    async def main(client: Any) -> None:
        with redis.Redis(port=server.config.port) as writer:
            writer.set("binary", b"\xff\xfe")
        outcomes = await asyncio.gather(client.incr("n"), client.get("binary"), client.incr("n"), return_exceptions=True)
        assert (type(outcomes.pop(1)), outcomes) == (UnicodeDecodeError, [1, 2])

    run(main, server, decode_responses=True)


# --- loops ---


def test_client_is_used_and_closed_in_one_loop_after_another(
    own_server: Embedded, admin: Any, loop_factory: LoopFactory, eventually: Any
) -> None:
    client: Any = cachelib.connect_async(own_server.config)

    async def use() -> None:
        await asyncio.gather(client.pipeline().incr("n").execute(), client.incr("n"), client.blpop("nothing", 0.01))

    for main in (use, use, use, client.aclose, use):
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main())
        gc.collect()
        eventually(lambda: len(admin.client_list()) <= 1 + 3)  # ours and the last loop's
    stats = client.pool_stats()
    assert (int(admin.get("n")), stats.in_use, stats.waiting, stats.unknown) == (8, 0, 0, 0)


def test_client_closed_while_it_connects_can_be_used_again(server: Embedded) -> None:
    async def main(client: Any) -> None:
        pending = asyncio.create_task(client.get("k"))
        await asyncio.sleep(0)
        await client.aclose()
        await asyncio.gather(pending, return_exceptions=True)
        assert await client.get("k") is None

    run(main, server, deadline_s=1.0)


# --- tasks ---


def test_repr_and_pool_stats_count_connections_and_callers(own_server: Embedded) -> None:
    def shown(in_use: str, waiting: int, state: str = "") -> str:
        return f"<cachelib.AsyncClient <AsyncPool {own_server.config.endpoint} {in_use} in use, {waiting} waiting{state}>>"

    async def main(client: Any) -> None:
        nothing = client.pool_stats()
        await client.ping()
        poppers = [asyncio.create_task(client.blpop("queue", 30)) for _ in range(2)]
        waiting = asyncio.create_task(client.client_id())
        await until(lambda: client.pool_stats().made == 3)
        assert client.pool_stats() == dataclasses.replace(nothing, in_use=2, idle=1, waiting=1, made=3)
        assert repr(client) == shown("2/3", 1)
        await client.rpush("queue", "a", "b")
        await asyncio.gather(*poppers, waiting)
        assert client.pool_stats() == dataclasses.replace(nothing, idle=3, made=3)
        await client.shutdown(nosave=True)
        with pytest.raises(Unavailable), deadline(0.2):
            await client.get("k")
        assert repr(client) == shown("0/3", 0, ", server away")

    run(main, own_server, pool_size=2, deadline_s=LONG_S, slow_call_s=LONG_S)


def test_deadline_bounds_what_a_task_does_and_the_tasks_that_it_starts(server: Embedded, paused: Any) -> None:
    async def main(client: Any) -> None:
        await warmed(client)

        async def took_s(attempt: Any) -> float:
            began_s = time.monotonic()
            with pytest.raises(Unavailable):
                await attempt
            return time.monotonic() - began_s

        with paused(server):
            unbound = asyncio.create_task(took_s(client.get("k")))
            await asyncio.sleep(0)
            with deadline(0.2):
                bound = [asyncio.create_task(took_s(use)) for use in (client.get("k"), client.pipeline().get("k").execute())]
                bound_s = [await took_s(client.get("k")), *await asyncio.gather(*bound)]
            assert min(bound_s) >= 0.18
            assert not unbound.done()
            assert await unbound >= 0.72
        assert max(bound_s) < 0.8

    run(main, server, deadline_s=0.8)


def test_exhausted_pool_is_the_reason_even_where_the_loop_turns_too_late(server: Embedded) -> None:
    async def main(client: Any) -> None:
        popper = asyncio.create_task(client.blpop("queue", 0))
        await until(lambda: client.pool_stats().in_use == 1)
        with deadline(0.1):
            late = asyncio.create_task(client.client_id())
        await until(lambda: client.pool_stats().waiting == 1)
        time.sleep(0.2)  # as on a host that stalls
        with pytest.raises(PoolExhausted):
            await late
        await client.rpush("queue", "go on")
        await popper

    run(main, server, pool_size=1, deadline_s=LONG_S)


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


def test_cancelled_transaction_gives_its_connection_back(server: Embedded) -> None:
    """Cancelled while the server does not answer to the UNWATCH."""

    async def main(client: Any) -> None:
        async def watch() -> None:
            async with client.pipeline() as pipe:
                await pipe.watch("k")
                server.pause()

        await client.ping()
        try:
            task = asyncio.create_task(watch())
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        finally:
            server.resume()
        assert client.pool_stats().in_use == 0
        assert await client.pipeline().incr("n").execute() == [1]

    run(main, server, pool_size=1)


def test_caller_in_a_hurry_who_is_the_first_to_miss_the_server_does_not_hurry_the_others(server: Embedded, proxy: Proxy) -> None:
    async def main(client: Any) -> None:
        async def hurry() -> None:
            with deadline(0.05):
                await client.ping()

        with refused(proxy):
            hurried = asyncio.create_task(hurry())
            await asyncio.sleep(0)
            patient = [asyncio.create_task(client.echo(str(number))) for number in range(10)]
            with pytest.raises(Unavailable):
                await hurried
        began_s = time.monotonic()
        assert await asyncio.gather(*patient) == [b"%d" % number for number in range(10)]
        assert time.monotonic() - began_s < 1.5  # half of their deadline

    run(main, server, port=proxy.port, deadline_s=3.0)


BUSY = "local from = redis.call('TIME'); repeat local now = redis.call('TIME') until (now[1] - from[1]) * 1e6 + now[2] - from[2] >= 8e5"


def test_caller_let_in_too_late_to_be_answered_is_told_since_when(server: Embedded, proxy: Proxy) -> None:
    async def main(client: Any) -> None:
        with refused(proxy):
            first = asyncio.create_task(client.eval(BUSY, 0))
            await asyncio.sleep(0.05)
            with deadline(0.5):
                late = asyncio.create_task(client.get("k"))
            await asyncio.sleep(0.05)
        with pytest.raises(Unavailable) as caught:
            await late
        assert caught.value.since is not None
        assert f"the server went away at {caught.value.since.isoformat(timespec='milliseconds')}" in str(caught.value)
        await first

    run(main, server, port=proxy.port, deadline_s=LONG_S)


def test_closed_single_connection_client_keeps_no_connection(server: Embedded, direct: Any) -> None:
    """Not for a call that was under way and is made again, nor for one that waited for its turn."""

    async def main(client: Any) -> None:
        single = client.client()
        reading = [asyncio.create_task(single.xread({"s": "0"}, block=300)) for _ in range(2)]
        await until(lambda: direct.info("clients")["blocked_clients"] == 1)
        await single.aclose()
        assert await asyncio.gather(*reading) == [[], []]
        assert single.connection is None
        assert client.pool_stats().in_use == 0
        assert await client.pipeline().echo("mine").execute() == [b"mine"]

    run(main, server, pool_size=2)


# --- age ---


def test_old_connections_are_replaced_and_nobody_notices(server: Embedded) -> None:
    async def main(client: Any) -> None:
        counts = [0, 0]

        async def ask(number: int) -> None:
            while client.pool_stats().retired < 6:
                assert await (client.pipeline().incr("m").execute() if number % 4 == 0 else client.incr("n"))
                counts[number % 4 == 0] += 1
                await asyncio.sleep(0.001)

        await asyncio.gather(*(ask(number) for number in range(20)))
        stats = client.pool_stats()
        assert [int(value) for value in await client.mget("n", "m")] == counts
        assert (stats.lost, stats.unknown, stats.retried) == (0, 0, 0)
        assert stats.made == stats.retired + stats.idle

    run(main, server, deadline_s=LONG_S, connection_max_age_s=0.1)


def test_connections_made_together_do_not_end_together(server: Embedded) -> None:
    async def main(client: Any) -> None:
        before_s = time.monotonic()
        singles = [client.client() for _ in range(12)]
        await asyncio.gather(*(single.ping() for single in singles))
        ages_s = sorted(single.connection.retire_s - before_s for single in singles)
        assert 900 <= ages_s[0] < ages_s[-1] < 1000 + time.monotonic() - before_s
        assert ages_s[-1] - ages_s[0] > 20
        await asyncio.gather(*(single.aclose() for single in singles))

    run(main, server, connection_max_age_s=1000.0, pool_size=12)
