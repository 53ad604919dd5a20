"""More asked of the shared line than a server answers: a bounded part is in flight, the rest waits in order, nothing is left behind."""

import asyncio
import contextlib
import dataclasses
import gc
import re
import resource
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from cachelib import AsyncClient, Unavailable, connect_async, deadline
from cachelib.call import Call
from cachelib.line import MOST_BYTES_IN_FLIGHT, MOST_IN_FLIGHT, Line
from runbook.drills.faults import Proxy, refused
from runbook.targets.embedded import Embedded
from tests.timing import OVERSHOOT_S, end_of_async

pytestmark = pytest.mark.timeout(30)

LONG_S = 20.0
MEGABYTE = b"x" * 2**20
# So many SETs of a megabyte leave no room.
FILLING = MOST_BYTES_IN_FLIGHT // 2**20
STATM = Path("/proc/self/statm")


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run it, and fail if it leaves a task behind or an error that nobody has seen."""
    problems: list[dict[str, Any]] = []

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
        await main()
        until_s = time.monotonic() + 1.0
        while len(asyncio.all_tasks()) > 1 and time.monotonic() < until_s:
            await asyncio.sleep(0.01)
        gc.collect()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(watched())
    assert problems == []


@contextlib.asynccontextmanager
async def client_of(server: Embedded, *, cold: bool = False, **changes: Any) -> AsyncIterator[AsyncClient]:
    """Connect a client unless it is to be cold; no observer, since a log of thousands of failures would be what is measured."""
    client = connect_async(dataclasses.replace(server.config, **{"deadline_s": LONG_S, **changes}), observers=[])
    try:
        if not cold:
            with deadline(10.0):
                await client.ping()
        yield client
    finally:
        await client.aclose()


@contextlib.contextmanager
def awake() -> Iterator[None]:
    """Interrupt what keeps the loop from turning, again and again: no timer of the loop could."""

    def interrupt(*_: object) -> None:
        raise AssertionError("the loop does not turn")

    old = signal.signal(signal.SIGVTALRM, interrupt)
    signal.setitimer(signal.ITIMER_VIRTUAL, 6.0, 0.1)  # of processor time
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
        signal.signal(signal.SIGVTALRM, old)


@pytest.fixture
def peaks(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The most that was in flight at any time: commands, and bytes."""
    peaks, send = {"commands": 0, "bytes": 0}, Line.send

    def watched(line: Line, *args: Any) -> Any:
        future = send(line, *args)
        peaks["commands"] = max(peaks["commands"], len(line.in_flight))
        peaks["bytes"] = max(peaks["bytes"], line.bytes_in_flight)
        return future

    monkeypatch.setattr(Line, "send", watched)
    return peaks


async def until(question: Callable[[], object]) -> None:
    until_s = time.monotonic() + 20.0
    while not question():
        assert time.monotonic() < until_s
        await asyncio.sleep(0.005)


def start(calls: list[Awaitable[Any]]) -> list[asyncio.Task[Any]]:
    return [asyncio.ensure_future(call) for call in calls]


async def fill(client: AsyncClient) -> list[asyncio.Task[Any]]:
    """Leave no room on the line of a server that is paused."""
    tasks = start([client.set(f"full-{number}", MEGABYTE) for number in range(FILLING)])
    await asyncio.sleep(0.01)
    return tasks


async def wait(client: AsyncClient, calls: list[Awaitable[Any]]) -> list[asyncio.Task[Any]]:
    """Start calls that find no room."""
    before = client.pool_stats().waiting
    tasks = start(calls)
    await until(lambda: client.pool_stats().waiting == before + len(calls))
    return tasks


# --- how much is in flight ---


def test_stalled_server_is_owed_a_bounded_number_of_replies_and_serves_all_when_it_goes_on(
    server: Embedded, paused: Any, peaks: dict[str, int]
) -> None:
    async def main() -> None:
        async with client_of(server) as client:
            with paused(server):
                tasks = start([client.ping() for _ in range(MOST_IN_FLIGHT + 700)])
                await until(lambda: client.pool_stats().waiting == 700)
            assert set(await asyncio.gather(*tasks)) == {True}
            assert client.pool_stats().waiting == 0

    run(main)
    assert peaks["commands"] == MOST_IN_FLIGHT


def test_stalled_server_is_sent_a_bounded_number_of_bytes_and_serves_all_when_it_goes_on(
    server: Embedded, paused: Any, peaks: dict[str, int]
) -> None:
    async def main() -> None:
        async with client_of(server) as client:
            with paused(server):
                tasks = await fill(client) + await wait(client, [client.set("k", MEGABYTE) for _ in range(3 * FILLING)])
            assert set(await asyncio.gather(*tasks)) == {True}

    run(main)
    assert MOST_BYTES_IN_FLIGHT <= peaks["bytes"] < MOST_BYTES_IN_FLIGHT + 1.1 * len(MEGABYTE)


def test_callers_who_waited_for_the_first_connection_find_the_same_bounds(server: Embedded, peaks: dict[str, int]) -> None:
    async def main() -> None:
        async with client_of(server, cold=True) as client:
            await asyncio.gather(*(client.ping() for _ in range(MOST_IN_FLIGHT + 4000)))
        async with client_of(server, cold=True) as client:
            await asyncio.gather(*(client.set("k", MEGABYTE) for _ in range(3 * FILLING)))

    run(main)
    assert peaks["commands"] <= MOST_IN_FLIGHT
    assert peaks["bytes"] < MOST_BYTES_IN_FLIGHT + 1.1 * len(MEGABYTE)


def test_ten_thousand_callers_at_once_are_served(server: Embedded) -> None:
    async def main() -> None:
        async with client_of(server, cold=True) as client:
            words = [b"word-%d" % number for number in range(10_000)]
            assert await asyncio.gather(*(client.echo(word) for word in words)) == words
            assert client.pool_stats().made == 1

    run(main)


@pytest.mark.no_cover  # the load would not be what it is meant to be
@pytest.mark.skipif(not STATM.exists(), reason="the kernel tells a process's memory in another way")
@pytest.mark.parametrize(("asking", "rounds", "deadline_s"), [(1000, 6, 0.3), pytest.param(3000, 12, 0.5, marks=pytest.mark.nightly)])
def test_memory_does_not_grow_while_a_stalled_server_is_asked_for_ever(
    asking: int, rounds: int, deadline_s: float, server: Embedded, paused: Any
) -> None:
    ended = 0

    async def main() -> None:
        async def ask(client: AsyncClient, number: int) -> None:
            nonlocal ended
            while not over:
                try:  # what `pytest.raises` makes of an error is a circle, which only the garbage collector ends
                    await client.set(f"k{number}", b"x" * 1000)
                except redis.RedisError:
                    ended += 1

        over = False
        async with client_of(server, deadline_s=deadline_s) as client:
            with paused(server):
                tasks = [asyncio.create_task(ask(client, number)) for number in range(asking)]
                await until(lambda: ended > rounds // 3 * asking)
                before, before_bytes = ended, rss_bytes()
                await until(lambda: ended > rounds * asking)
                over, grown_bytes, count = True, rss_bytes() - before_bytes, ended - before
                await asyncio.gather(*tasks)
        assert grown_bytes < 300 * count, "each of them held 1,000 bytes and more"

    run(main)
    assert living(Call) < 100


def living(kind: type) -> int:
    gc.collect()
    return sum(isinstance(each, kind) for each in gc.get_objects())


def rss_bytes() -> int:
    return int(STATM.read_text().split()[1]) * resource.getpagesize()


# --- those who wait ---


def test_caller_who_finds_no_room_by_its_deadline_is_told_what_to_do(server: Embedded, paused: Any) -> None:
    async def main() -> None:
        async with client_of(server) as client:
            with paused(server):
                filling = await fill(client)
                with deadline(0.3):
                    end = await end_of_async(client.incr("k"))
                assert client.pool_stats().waiting == 0
            assert set(await asyncio.gather(*filling)) == {True}
            assert await client.get("k") is None
        assert (end.kind, end.is_at(0.3)) == (Unavailable, True)
        text = str(end.outcome)
        assert re.search(rf"INCRBY found no room on the line to 127\.0\.0\.1:{server.config.port}/0 within 0\.[23]\d* s, ", text)
        assert "changed nothing" in text
        assert "Send less, or find out what makes the server slow." in text

    run(main)


def test_waiting_callers_are_let_in_in_the_order_in_which_they_came_and_cancelled_ones_not_at_all(server: Embedded, paused: Any) -> None:
    async def main() -> None:
        async with client_of(server) as client:
            with paused(server):
                filling = await fill(client)
                waiting = await wait(client, [client.rpush("order", number) for number in range(1500)])
                for given_up in waiting[::3]:
                    given_up.cancel()
                await asyncio.sleep(0)
                await until(lambda: client.pool_stats().waiting == 1000)
            await asyncio.gather(*filling, *waiting, return_exceptions=True)
            order = await client.lrange("order", 0, -1)
            assert list(map(int, order)) == [number for number in range(1500) if number % 3]

    run(main)


def test_those_who_come_later_do_not_overtake_those_who_wait(server: Embedded, paused: Any) -> None:
    async def main() -> None:
        async def come_again(client: AsyncClient, number: int) -> None:
            await client.set(f"full-{number}", MEGABYTE)
            await client.rpush("order", "late")

        async with client_of(server) as client:
            with paused(server):
                filling = start([come_again(client, number) for number in range(FILLING)])
                await asyncio.sleep(0.01)
                waiting = await wait(client, [client.rpush("order", number) for number in range(50)])
            await asyncio.gather(*filling, *waiting)
            assert await client.lrange("order", 0, -1) == [b"%d" % number for number in range(50)] + [b"late"] * FILLING

    run(main)


def test_caller_who_was_let_in_late_still_ends_at_its_deadline(server: Embedded) -> None:
    """While others who have all their time left go on sending, and the server stalls again."""

    async def main() -> None:
        async def come_again(client: AsyncClient, number: int) -> None:
            await client.set(f"full-{number}", MEGABYTE)
            server.pause()
            with contextlib.suppress(redis.RedisError):
                await client.get("k")

        async with client_of(server, deadline_s=1.0) as client:
            try:
                server.pause()
                filling = start([come_again(client, number) for number in range(FILLING)])
                await asyncio.sleep(0.01)
                (waiting,) = await wait(client, [end_of_async(client.get("k"))])
                await asyncio.sleep(0.5)
                server.resume()
                end = await waiting
                await asyncio.gather(*filling, return_exceptions=True)
            finally:
                server.resume()
        assert (end.kind, end.is_at(1.0)) == (Unavailable, True)

    run(main)


def test_callers_who_gave_up_behind_one_who_waits_on_are_forgotten(server: Embedded, paused: Any) -> None:
    async def main() -> None:
        async with client_of(server) as client:
            with paused(server):
                filling = await fill(client)
                (patient,) = await wait(client, [client.ping()])
                for _ in range(10):
                    for task in (given_up := await wait(client, [client.ping() for _ in range(500)])):
                        task.cancel()
                    await asyncio.gather(*given_up, return_exceptions=True)
                    del given_up, task
                assert client.pool_stats().waiting == 1
                assert living(asyncio.Future) < 2500  # all of the 5000 would be more
            await asyncio.gather(patient, *filling)

    run(main)


def test_callers_who_try_again_at_once_when_a_stalled_line_is_given_up_do_not_stop_the_loop(server: Embedded, paused: Any) -> None:
    async def main() -> None:
        async with client_of(server, deadline_s=0.3) as client:

            async def keep_trying(late_s: float) -> None:
                await asyncio.sleep(late_s)
                for _ in range(3):
                    with pytest.raises(Unavailable):
                        await client.get("k")

            with paused(server):
                end = await end_of_async(asyncio.gather(*(keep_trying(number / 200) for number in range(50))))
            assert end.is_by(3 * 0.3 + 0.25 + 3 * OVERSHOOT_S)

    with awake():
        run(main)


# --- the client is closed ---


async def close_under(client: AsyncClient, tasks: list[asyncio.Task[Any]], server: Embedded) -> list[Any]:
    """Close a client whose calls have not ended, and return how they end; the server comes back then, and must not be called again."""
    made = client.pool_stats().made
    await client.aclose()
    await asyncio.wait(tasks, timeout=1.0)
    ended = [task for task in tasks if task.done()]
    server.resume()
    for task in tasks:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert len(ended) == len(tasks), f"{len(tasks) - len(ended)} calls went on"
    await asyncio.sleep(0.1)
    assert (client.pool_stats().made, client.pool_stats().in_use, client.pool_stats().idle) == (made, 0, 0)
    return outcomes


@pytest.mark.parametrize("retired", [False, True], ids=["", "on a line that is being replaced"])
def test_calls_under_way_end_at_once_when_the_client_is_closed(retired: bool, server: Embedded) -> None:
    async def main() -> None:
        async with client_of(server, connection_max_age_s=0.3 if retired else LONG_S) as client:
            server.pause()
            try:
                tasks = start([client.get("k"), client.incr("k")])
                await until(lambda: client.pool_stats().retired == retired)
                await asyncio.sleep(0.05)
                read, written = await close_under(client, tasks, server)
            finally:
                server.resume()
        assert (type(read).__name__, type(written).__name__) == ("Unavailable", "OutcomeUnknown")

    run(main)


def test_callers_who_wait_for_room_end_at_once_when_the_client_is_closed(server: Embedded) -> None:
    async def main() -> None:
        async with client_of(server) as client:
            server.pause()
            try:
                filling = await fill(client)
                waiting = await wait(client, [client.incr("k") for _ in range(100)])
                outcomes = await close_under(client, waiting, server)
                await asyncio.gather(*filling, return_exceptions=True)
            finally:
                server.resume()
        assert {type(outcome) for outcome in outcomes} == {Unavailable}

    run(main)


@pytest.mark.parametrize("away", [False, True], ids=["the first", "in an outage"])
def test_callers_who_wait_for_a_connection_end_at_once_when_the_client_is_closed(away: bool, server: Embedded) -> None:
    async def main() -> None:
        with Proxy(server.config.port) as proxy, refused(proxy) if away else contextlib.nullcontext():
            async with client_of(server, cold=True, port=proxy.port if away else server.config.port) as client:
                server.pause()
                try:
                    tasks = start([client.incr("k") for _ in range(100)])
                    await asyncio.sleep(0.1)
                    outcomes = await close_under(client, tasks, server)
                finally:
                    server.resume()
        assert {type(outcome) for outcome in outcomes} == {Unavailable}

    run(main)


def test_lost_lines_are_not_kept(server: Embedded) -> None:
    async def main() -> None:
        async with client_of(server) as client:
            with redis.Redis(port=server.config.port) as admin:
                for _ in range(5):
                    admin.client_kill_filter(_type="normal", skipme=True)
                    await client.ping()
            await until(lambda: client.pool_stats().lost >= 4 and living(Line) == 1)

    run(main)
