"""A line whose transport is a list, in a time that passes only while everybody waits: each caller gets its own reply or an error."""

import asyncio
import contextlib
import random
import selectors
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from cachelib import Config, deadline
from cachelib.call import Call
from cachelib.events import Journal
from cachelib.line import MOST_BYTES_IN_FLIGHT, MOST_IN_FLIGHT, Line
from cachelib.wire import pack

pytestmark = pytest.mark.timeout(30)

CONFIG = Config(host="127.0.0.1", deadline_s=1.0)
JOURNAL = Journal([])
LONG_S = 1e6

# The line looks at the deadlines of patient calls so often.
LATE_S = 0.025

PUSH = b">2\r\n+invalidate\r\n*1\r\n$3\r\nkey\r\n"


class Leap(selectors.SelectSelector):
    """Moves the time instead of waiting."""

    now_s = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everybody waits for ever"
        self.now_s += max(0.0, timeout)
        return super().select(0)


class Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.leap = Leap()
        super().__init__(self.leap)

    def time(self) -> float:
        return self.leap.now_s


def run(main: Callable[[], Coroutine[Any, Any, None]], *, answered_in_a_turn: int = 256) -> None:
    problems: list[dict[str, Any]] = []
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner(loop_factory=Loop) as runner:
        loop = runner.get_loop()
        loop.set_exception_handler(lambda _, context: problems.append(context))
        for module in ("line", "call"):
            patch.setattr(f"cachelib.{module}.time", SimpleNamespace(monotonic=loop.time))
        patch.setattr("cachelib.line._ANSWERED_IN_A_TURN", answered_in_a_turn)
        runner.run(main())
    assert problems == []


class Bench:
    """A line and its transport; `told` is what `on_room` and `on_end` were told, in order."""

    def __init__(self, *, decode_responses: bool = False, silence_s: float = LONG_S) -> None:
        self.written: list[bytes] = []
        self.aborted = False
        self.told: list[Any] = []
        self.calls: list[Call] = []
        self.line = Line(
            decode_responses=decode_responses,
            silence_s=silence_s,
            slow_call_s=LONG_S,
            on_slow=self.told.append,
            on_room=lambda: self.told.append("room"),
            on_end=lambda line: self.told.append((line.open, [call.future.done() for call in self.calls])),
        )
        self.line.connection_made(self)

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return self.aborted

    def get_extra_info(self, name: str) -> "Bench":
        return self  # its own socket, too

    def setsockopt(self, *option: object) -> None:
        pass

    def abort(self, error: Exception | None = None) -> None:
        """End the connection, as asyncio does it: once, and the line is told in the next turn of the loop."""
        if not self.aborted:
            self.aborted = True
            asyncio.get_running_loop().call_soon(self.line.connection_lost, error)

    def send(self, word: str = "x", *, raw: bool = False, timeout_s: float | None = None, again: bool = False) -> asyncio.Future[Any]:
        with deadline(timeout_s) if timeout_s else contextlib.nullcontext():
            call = Call(CONFIG, JOURNAL, (("ECHO", word),))
        call.attempts, call.until_s = 1 + again, call.until_s - 0.5 * (again and call.patient)
        self.calls.append(call)
        return self.line.send(call, pack(call.commands[0]), raw)

    def feed(self, data: bytes, chunk: Callable[[], int] = lambda: 2**20) -> None:
        """Let data come, as asyncio does it: not after an abort."""
        while data and not self.aborted:
            length = chunk()
            self.line.data_received(data[:length])
            data = data[length:]

    async def outcomes(self) -> list[Any]:
        """Return what each call has got by now: a reply, an error, or None."""
        for _ in range(5 + len(self.calls)):
            await asyncio.sleep(0)
        return [outcome(call.future) for call in self.calls]

    async def kinds(self) -> list[type]:
        return list(map(type, await self.outcomes()))


def outcome(future: asyncio.Future[Any]) -> Any:
    if not future.done():
        return None
    return asyncio.CancelledError() if future.cancelled() else future.exception() or future.result()


# --- replies ---

REPLIES: dict[bytes, Any] = {
    b"-READONLY no\r\n": redis.ReadOnlyError("no"),
    b"+OK\r\n": b"OK",
    b":-7\r\n": -7,
    b"$4\r\n\r\n\r\n\r\n": b"\r\n\r\n",
    b"$-1\r\n": None,
    b"*2\r\n:1\r\n-ERR no\r\n": [1, redis.ResponseError("no")],
    b"*3\r\n*2\r\n:1\r\n$1\r\na\r\n*0\r\n_\r\n": [[1, b"a"], [], None],
    b"%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n#t\r\n": {b"a": 1, b"b": [True]},
    b"~2\r\n,1.5\r\n#f\r\n": [1.5, False],
    b",-inf\r\n": float("-inf"),
    b"(12345678901234567890123\r\n": b"12345678901234567890123",
    b"=7\r\ntxt:abc\r\n": b"abc",
    b"$7000\r\n" + b"v" * 7000 + b"\r\n": b"v" * 7000,
}

CHUNKS: dict[str, Callable[[], int]] = {
    "at once": lambda: 2**20,
    "byte by byte": lambda: 1,
    "in random chunks": lambda: random.choice((1, 2, 3, 7, 30, 5000)),
}


@pytest.mark.parametrize("pushes", [b"", PUSH], ids=["", "pushes between"])
@pytest.mark.parametrize("chunk", CHUNKS.values(), ids=CHUNKS)
def test_replies_of_every_type_reach_their_callers_in_order(chunk: Callable[[], int], pushes: bytes) -> None:
    async def main() -> None:
        bench = Bench()
        futures = [bench.send(str(number)) for number in range(len(REPLIES))]
        await asyncio.sleep(0)
        bench.feed(pushes + pushes.join(REPLIES) + pushes + pushes, chunk)
        assert repr([future.result() for future in futures]) == repr(list(REPLIES.values()))
        assert (len(bench.line.in_flight), bench.line.bytes_in_flight, bench.aborted) == (0, 0, False)

    run(main)


@pytest.mark.parametrize("chunk", CHUNKS.values(), ids=CHUNKS)
def test_raw_replies_stay_bytes_between_decoded_ones(chunk: Callable[[], int]) -> None:
    async def main() -> None:
        bench = Bench(decode_responses=True)
        futures = [bench.send(raw=number % 2 == 1) for number in range(6)]
        bench.feed(b"$3\r\n\xe2\x82\xac\r\n" * 2 + PUSH + b"*1\r\n$2\r\n\xc3\xa4\r\n" * 2 + b"+OK\r\n$2\r\n\xff\xfe\r\n", chunk)
        assert [future.result() for future in futures] == ["€", "€".encode(), ["ä"], ["ä".encode()], "OK", b"\xff\xfe"]

    run(main)


@pytest.mark.parametrize("reply", [b"$1\r\n\xff\r\n", b"*2\r\n%1\r\n$1\r\n\xff\r\n:1\r\n+a\r\n"], ids=["string", "nested"])
def test_reply_that_is_no_text_fails_its_own_caller_only(reply: bytes) -> None:
    async def main() -> None:
        bench = Bench(decode_responses=True)
        bench.send(), bench.send(), bench.send()
        bench.feed(b"+a\r\n" + reply + b"+c\r\n")
        first, second, third = await bench.outcomes()
        assert (first, type(second), third) == ("a", UnicodeDecodeError, "c")
        assert (bench.line.bytes_in_flight, bench.aborted) == (0, False)

    run(main)


def test_commands_of_one_turn_of_the_loop_leave_in_one_write() -> None:
    async def main() -> None:
        bench = Bench()
        bench.send("a"), bench.send("b")
        await asyncio.sleep(0)
        bench.send("c")
        await asyncio.sleep(0)
        assert bench.written == [pack(("ECHO", "a")) + pack(("ECHO", "b")), pack(("ECHO", "c"))]

    run(main)


def test_callers_who_gave_up_keep_their_place_and_take_up_room_until_their_reply_has_come() -> None:
    async def main() -> None:
        bench = Bench()
        futures = [bench.send(word) for word in "012345"]
        size = len(pack(("ECHO", "0")))
        for given_up in futures[::2]:
            given_up.cancel()
        assert (bench.line.bytes_in_flight, bench.line.room(), bench.told) == (6 * size, MOST_IN_FLIGHT - 6, [])
        bench.feed(b"+0\r\n+1\r\n+2\r\n")
        assert (bench.line.bytes_in_flight, bench.line.room(), bench.told) == (3 * size, MOST_IN_FLIGHT - 3, ["room"])
        bench.send("x" * MOST_BYTES_IN_FLIGHT).cancel()
        assert bench.line.room() == 0
        bench.feed(b"+3\r\n+4\r\n+5\r\n+x\r\n")
        assert (bench.line.bytes_in_flight, bench.line.room()) == (0, MOST_IN_FLIGHT)
        assert [future.result() for future in futures[1::2]] == [b"1", b"3", b"5"]

    run(main)


# --- what ends a line ---

NOBODYS = {"reply": b"+stray\r\n", "after pushes": PUSH + PUSH + b":1\r\n", "no text": b"$1\r\n\xff\r\n"}
GARBAGE = {"no type": b"?\r\n", "HTTP": b"HTTP/1.1 400 Bad Request\r\n", "no integer": b":x\r\n"}


@pytest.mark.parametrize("data", NOBODYS.values(), ids=NOBODYS)
@pytest.mark.parametrize("decode_responses", [False, True], ids=["bytes", "text"])
@pytest.mark.parametrize("replies", [b"", b"+a\r\n+b\r\n"], ids=["idle", "after the last reply"])
def test_reply_that_nobody_asked_for_ends_the_line_and_harms_no_call(replies: bytes, decode_responses: bool, data: bytes) -> None:
    async def main() -> None:
        bench = Bench(decode_responses=decode_responses)
        futures = [bench.send() for _ in replies.split()]
        bench.feed(replies + data)
        assert (bench.aborted, bench.line.open, bench.line.bytes_in_flight) == (True, False, 0)
        assert [future.result() for future in futures] == (["a", "b"] if decode_responses else [b"a", b"b"])[: len(futures)]

    run(main)


def test_reply_that_nobody_asked_for_is_not_that_of_a_command_sent_after_it_came() -> None:
    async def main() -> None:
        bench = Bench()
        for _ in range(300):
            bench.send().add_done_callback(lambda _: bench.send() if bench.line.open else None)
        bench.feed(b"+own\r\n" * 300 + b"+stray\r\n")
        outcomes = await bench.outcomes()
        assert (bench.aborted, outcomes[:300]) == (True, [b"own"] * 300)
        assert {type(outcome) for outcome in outcomes[300:]} <= {redis.ConnectionError}

    run(main)


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_protocol_error_ends_the_line_and_fails_all_whose_reply_had_not_come(garbage: bytes) -> None:
    async def main() -> None:
        bench = Bench()
        bench.send(), bench.send(), bench.send(), bench.send()
        bench.feed(b"+a\r\n" + garbage)
        assert (bench.aborted, bench.line.open) == (True, False)
        assert await bench.kinds() == [bytes] + [redis.ConnectionError] * 3
        assert bench.line.bytes_in_flight == 0

    run(main)


def test_lost_connection_fails_all_whose_reply_had_not_come_the_oldest_first_and_after_the_owner_was_told() -> None:
    async def main() -> None:
        bench, ended = Bench(), []
        for number in range(900):
            bench.send().add_done_callback(lambda _, number=number: ended.append(number))  # type: ignore[misc]
        bench.calls[700].future.cancel()
        await asyncio.sleep(0)
        bench.feed(b"+r\r\n" * 600 + b"$5\r\nhal")
        bench.abort(OSError("cable cut"))
        outcomes = await bench.outcomes()
        assert [told for told in bench.told if told != "room"] == [(False, [n < 600 or n == 700 for n in range(900)])]
        assert outcomes[:600] == [b"r"] * 600
        assert {str(error) for error in outcomes[600:700] + outcomes[701:]} == {"connection lost: cable cut"}
        assert ended == [700, *range(700), *range(701, 900)]
        assert (len(bench.line.in_flight), bench.line.bytes_in_flight, bench.line.open) == (0, 0, False)

    run(main)


def test_command_that_has_not_left_when_the_connection_is_lost_was_not_sent_in_this_attempt() -> None:
    async def main() -> None:
        bench = Bench()
        earlier = Call(CONFIG, JOURNAL, (("ECHO", "earlier"),))
        earlier.sent = True
        earlier.after(redis.ConnectionError("an attempt before"))
        bench.send("left")
        await asyncio.sleep(0)
        bench.send("not")
        bench.line.send(earlier, pack(earlier.commands[0]), False)
        bench.line.connection_lost(None)
        assert [call.sent for call in [*bench.calls, earlier]] == [True, False, True]
        assert {str(error) for error in await bench.outcomes()} == {"connection lost: the server closed the connection"}
        assert isinstance(earlier.future.exception(), redis.ConnectionError)

    run(main)


def test_draining_line_takes_no_more_and_closes_after_the_last_reply_even_if_nobody_waits_for_it() -> None:
    async def main() -> None:
        idle, bench = Bench(), Bench()
        bench.send(), bench.send().cancel()
        idle.line.drain()
        bench.line.drain()
        assert (idle.aborted, bench.aborted, idle.line.open, bench.line.open) == (True, False, False, False)
        bench.feed(PUSH + b"+a\r\n$1\r\n")
        assert not bench.aborted
        bench.feed(b"b\r\n")
        assert (bench.aborted, bench.line.bytes_in_flight) == (True, 0)
        assert await bench.kinds() == [bytes, asyncio.CancelledError]

    run(main)


# --- time ---


def test_call_that_ends_before_those_ahead_of_it_ends_at_its_deadline_alone() -> None:
    async def main() -> None:
        bench = Bench()
        bench.send(timeout_s=LONG_S), bench.send(timeout_s=0.5), bench.send(timeout_s=0.1), bench.send(timeout_s=LONG_S)
        await asyncio.sleep(0.099)
        assert await bench.outcomes() == [None] * 4
        await asyncio.sleep(0.002)
        assert await bench.kinds() == [type(None), type(None), redis.TimeoutError, type(None)]
        await asyncio.sleep(0.4)
        bench.feed(b"+a\r\n+b\r\n+c\r\n+d\r\n")
        assert repr(await bench.outcomes()) == repr([b"a", redis.TimeoutError(), redis.TimeoutError(), b"d"])

    run(main)


@pytest.mark.parametrize("draining", [False, True], ids=["", "draining"])
def test_line_that_is_silent_while_a_reply_is_due_is_given_up(draining: bool) -> None:
    async def main() -> None:
        bench = Bench(silence_s=0.5)
        for data in (b"+idle\r\n", b"+a\r\n"):
            await asyncio.sleep(10.0)  # nothing is due, so it may be silent
            bench.send(timeout_s=LONG_S)
            for byte in data:
                await asyncio.sleep(0.45)
                bench.feed(bytes([byte]))
        bench.send(timeout_s=LONG_S)
        if draining:
            bench.line.drain()
        await asyncio.sleep(0.45)
        assert not bench.aborted
        await asyncio.sleep(0.05 + 2 * LATE_S)
        *replies, error = await bench.outcomes()
        assert (bench.aborted, replies, str(error)) == (True, [b"idle", b"a"], "connection lost: silent for 0.5 s")

    run(main)


# --- all at once, against a model ---


def reply_of(number: int, size: int, *, text: bool) -> tuple[bytes, Any]:
    """Return a reply that no other call gets, and its value."""
    word = f"{number}{'é' * size}"
    data = word.encode()
    bulk, value = b"$%d\r\n%s\r\n" % (len(data), data), word if text else data
    forms: tuple[tuple[bytes, Any], ...] = (
        (bulk, value),
        (b"-ERR %s\r\n" % data, word),
        (b"*2\r\n_\r\n" + bulk, [None, value]),
        (b"%1\r\n" + bulk + b"*1\r\n:%d\r\n" % number, {value: [number]}),
    )
    return forms[(number + size) % len(forms)]


class Model(Bench):
    """A server's stream of replies, and what each call should have got of it: `fates` are kinds of outcomes, None while it is due."""

    def __init__(self, *, decode_responses: bool) -> None:
        super().__init__(decode_responses=decode_responses)
        self.decodes, self.stream, self.fed = decode_responses, b"", 0
        self.ends: list[int] = []
        self.values: list[Any] = []
        self.fates: list[Any] = []

    def settle(self, fate: Any, *, until: int = 2**40) -> None:
        """Note what becomes of all that are due, or of those whose reply ends no later."""
        self.fates = [fate if old is None and end <= until else old for old, end in zip(self.fates, self.ends, strict=True)]

    def do_send(self, size: int, raw: bool, timeout_s: float | None, again: bool) -> None:
        if self.line.open:
            data, value = reply_of(len(self.calls), size, text=self.decodes and not raw)
            self.send(raw=raw, timeout_s=timeout_s, again=again)
            self.stream += PUSH * (size == 1) + data
            self.ends.append(len(self.stream))
            self.values.append(value)
            self.fates.append(None)

    def do_cancel(self, number: int) -> None:
        if self.calls and self.calls[number % len(self.calls)].future.cancel():
            self.fates[number % len(self.calls)] = asyncio.CancelledError

    def do_feed(self, length: int) -> None:
        chunk = self.stream[self.fed : self.fed + length]
        self.fed += len(chunk)
        self.feed(chunk)
        self.settle("own", until=self.fed)

    def do_feed_to_an_end(self, number: int) -> None:
        ends = [end for end in self.ends if end >= self.fed] or [self.fed]
        self.do_feed(ends[number % len(ends)] - self.fed)

    async def do_wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        now_s = asyncio.get_running_loop().time()
        for number, call in enumerate(self.calls):
            late_s = now_s - call.until_s
            # Within a tick after its deadline a patient call may have ended or not.
            if self.fates[number] is None and (late_s > LATE_S or (late_s > -1e-6 and call.future.done())):
                self.fates[number] = redis.TimeoutError

    def do_lose(self, number: int) -> None:
        self.do_feed_to_an_end(number)
        self.abort()
        self.settle(redis.ConnectionError)

    def do_stray(self) -> None:
        self.feed(self.stream[self.fed :] + b"+stray\r\n")
        self.settle("own")

    def do_garbage(self, number: int) -> None:
        self.do_feed_to_an_end(number)
        self.feed(b"?\r\n")
        self.settle(redis.ConnectionError)

    async def check(self) -> None:
        for got, value, fate in zip(await self.outcomes(), self.values, self.fates, strict=True):
            if fate == "own":
                assert (str(got) if type(got) is redis.ResponseError else got) == value
            else:
                assert type(got) is (fate or type(None))
        unanswered = [] if self.aborted else [call for call, end in zip(self.calls, self.ends, strict=True) if end > self.fed]
        assert list(self.line.in_flight) == unanswered
        assert self.line.bytes_in_flight == sum(call.size for call in unanswered)
        assert self.line.open is not self.aborted


NUMBERS = st.integers(0, 30)
ACTIONS = st.one_of(
    st.tuples(st.just("send"), st.sampled_from([0, 1, 20, 2000]), st.booleans(), st.sampled_from([None, 0.05, 0.4]), st.booleans()),
    st.tuples(st.just("feed"), st.sampled_from([1, 2, 5, 13, 60, 1000])),
    st.tuples(st.sampled_from(["feed_to_an_end", "cancel"]), NUMBERS),
    st.tuples(st.just("wait"), st.sampled_from([0.001, 0.03, 0.2, 0.6])),
)
ENDS = st.one_of(st.tuples(st.just("stray")), st.tuples(st.sampled_from(["lose", "garbage"]), NUMBERS))


@settings(max_examples=150)
@given(st.lists(ACTIONS, min_size=15, max_size=50), ENDS, st.booleans())
def test_each_call_gets_its_own_reply_or_what_follows_from_the_loss_of_it(actions: list[Any], end: Any, decode_responses: bool) -> None:
    async def main() -> None:
        model = Model(decode_responses=decode_responses)
        for name, *arguments in [*actions, end, ("wait", 4.0)]:
            if doing := getattr(model, f"do_{name}")(*arguments):
                await doing
            if name not in ("send", "feed"):  # so that some things happen in one turn
                await model.check()
        assert None not in model.fates

    run(main, answered_in_a_turn=3)
