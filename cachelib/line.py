"""One connection that many asyncio callers share: commands of one loop tick leave in one write, replies are matched in order."""

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import hiredis
import redis
from redis.connection import DefaultParser

from cachelib.call import Call, Closed
from cachelib.connection import forget_unsent

# How many commands may be unanswered, and how many bytes of them, before further callers wait.
MOST_IN_FLIGHT = 16_384
MOST_BYTES_IN_FLIGHT = 16 * 2**20

# How often deadlines are looked at, in seconds; a timer for each call would cost more than the call.
_TICK_S = 0.02

# How many replies are handed out in one turn of the loop. Each makes three objects that live until its task has run: a few hundred of them
# set off no garbage collection, thousands do, and those took a third of the time of 10,000 callers.
_ANSWERED_IN_A_TURN = 256

# How many calls of a lost connection are told so in one turn: all at once would keep others past their deadlines.
_FAILED_IN_A_TURN = 64

_NOT_ENOUGH = object()


class _Settled:
    def done(self) -> bool:
        return True


# In the place of the future of a call that has ended, and keeps its place on the line.
SETTLED: Any = _Settled()


class Line(asyncio.Protocol):
    """A connection and what is in flight on it.

    A caller who gives up leaves its place in the queue behind, so that its reply is dropped and everybody else's still fits.

    Args:
        decode_responses: whether replies are `str` instead of `bytes`.
        silence_s: after so many seconds without a byte while a reply is due, it is given up.
        slow_call_s: from how many seconds on a call is slow.
        on_slow: called with a slow call when its reply has come.
        on_room: called when replies have made room.
        on_end: called when the connection has ended, before the callers are told.

    Attributes:
        open: whether commands may be sent.
        loop: that it belongs to.
        in_flight: the calls whose reply is due, in the order in which they were sent; some have been given up by their callers.
        bytes_in_flight: how many bytes of commands they are.
        retirement: the timer of whoever replaces it for its age; ends with it.
    """

    def __init__(
        self,
        *,
        decode_responses: bool,
        silence_s: float,
        slow_call_s: float,
        on_slow: Callable[[Call], None],
        on_room: Callable[[], None],
        on_end: Callable[["Line"], None],
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.open = False
        self.retirement: asyncio.TimerHandle | None = None
        self._silence_s, self._slow_call_s = silence_s, slow_call_s
        self._on_slow, self._on_room, self._on_end = on_slow, on_room, on_end
        self._transport: Any = None
        decoding: dict[str, Any] = {"encoding": "utf-8", "errors": "strict"} if decode_responses else {}
        self._reader = hiredis.Reader(
            protocolError=redis.InvalidResponse, replyError=DefaultParser.parse_error, notEnoughData=_NOT_ENOUGH, **decoding
        )
        self.in_flight: deque[Call] = deque()
        self.bytes_in_flight = 0
        self._asked = 0  # how many of them were sent before the last bytes came, so that those may hold their replies
        self._unwritten: list[bytes] = []
        self._heard = True
        self._heard_s = 0.0
        self._ticking = self._answering = False
        self._draining = False
        self._why: Exception | None = None

    def room(self) -> int:
        """Return how many more commands may be sent without waiting."""
        return MOST_IN_FLIGHT - len(self.in_flight) if self.bytes_in_flight < MOST_BYTES_IN_FLIGHT else 0

    def send(self, call: Call, packed: bytes, raw: bool, future: asyncio.Future[Any] | None = None) -> asyncio.Future[Any]:
        """Send a command with all others of this loop tick.

        Args:
            call: is marked as sent; its deadline bounds the reply. One call has one command in flight.
            packed: the command as bytes of the protocol.
            raw: whether the reply stays `bytes`.
            future: takes the reply, of a caller who waits for it already and has a timer for its deadline.

        Returns:
            The reply to come, an error reply included; it fails with a `redis.ConnectionError` or `redis.TimeoutError`.
        """
        if future is None:
            future = self.loop.create_future()
            if not call.patient or call.attempts > 1:  # it may end before those ahead of it
                if (left_s := call.left_s()) <= 0:
                    future.set_exception(redis.TimeoutError("no time left to send it"))
                    return future
                timer = self.loop.call_later(left_s, _expire, future)
                future.add_done_callback(lambda _: timer.cancel())
        if not self._unwritten:
            self.loop.call_soon(self._flush)
        self._unwritten.append(packed)
        size = len(packed)
        self.bytes_in_flight += size
        call.future, call.raw, call.size, call.sent = future, raw, size, True
        self.in_flight.append(call)
        return future

    def drain(self) -> None:
        """Take no more commands, and close once the replies that are due have come."""
        self.open, self._draining = False, True
        if not self.in_flight:
            self.abort()

    def abort(self, why: Exception | None = None) -> None:
        """Close at once."""
        self.open = False
        self._why = self._why or why
        if self._transport is not None:
            if self.in_flight:
                forget_unsent(self._transport.get_extra_info("socket"))
            self._transport.abort()

    def connection_made(self, transport: Any) -> None:
        """Be told by asyncio that the connection is there."""
        self._transport, self.open = transport, True
        self._heard_s = time.monotonic()

    def connection_lost(self, error: Exception | None) -> None:
        """Fail what is in flight; each caller decides what follows."""
        self.open = False
        self._answer(len(self.in_flight))  # what had come before
        if self.retirement is not None:
            self.retirement.cancel()
        self._on_end(self)
        lost, self.in_flight = self.in_flight, deque()
        for call in itertools.islice(reversed(lost), len(self._unwritten)):  # they have not left
            call.unsent()
        self._asked = self.bytes_in_flight = 0
        if isinstance(self._why, Closed):
            self._fail(lost, Closed, str(self._why))
        else:
            self._fail(lost, redis.ConnectionError, f"connection lost: {self._why or error or 'the server closed the connection'}")

    def _fail(self, lost: deque[Call], kind: type[redis.ConnectionError], reason: str) -> None:
        """Fail calls, the oldest first."""
        for _ in range(min(_FAILED_IN_A_TURN, len(lost))):
            future = lost.popleft().future
            if not future.done():
                future.set_exception(kind(reason))
        if lost:
            self.loop.call_soon(self._fail, lost, kind, reason)

    def data_received(self, data: bytes) -> None:
        """Be told by asyncio what the server has sent."""
        self._heard = True
        self._reader.feed(data)
        self._asked = len(self.in_flight)
        if not self._answering:
            self._answer(_ANSWERED_IN_A_TURN)

    def _answer(self, most: int) -> None:
        """Match so many replies with callers, in order; the others follow in the next turn of the loop."""
        self._answering = False
        slow_s = time.monotonic() - self._slow_call_s
        in_flight, gets = self.in_flight, self._reader.gets
        answered = 0
        try:
            while self._asked:
                call = in_flight.popleft()
                try:
                    reply = gets(False) if call.raw else gets()
                except UnicodeDecodeError as error:  # it was read, and concerns its own caller only
                    reply = error
                except redis.InvalidResponse:
                    in_flight.appendleft(call)
                    raise
                if reply is _NOT_ENOUGH:
                    in_flight.appendleft(call)
                    break
                if reply.__class__ is hiredis.PushNotification:  # nobody asked for it
                    in_flight.appendleft(call)
                    continue
                answered += call.size
                most -= 1
                self._asked -= 1
                future = call.future
                if not future.done():
                    future.set_result(reply)
                    if call.began_s < slow_s and not isinstance(reply, Exception):
                        self._on_slow(call)
                if not most:
                    self._answering = True  # what comes meanwhile waits behind
                    self.loop.call_soon(self._answer, _ANSWERED_IN_A_TURN)
                    break
            else:
                self._check_silent()
        except redis.InvalidResponse as error:  # where the next reply begins can't be told
            self.abort(error)
        self.bytes_in_flight -= answered
        if self._draining and not in_flight:
            self.abort()
        self._on_room()

    def _check_silent(self) -> None:
        """Fail if there is a reply that nobody waits for: it would be taken for the next caller's."""
        reply = self._reader.gets(False)
        while reply.__class__ is hiredis.PushNotification:
            reply = self._reader.gets(False)
        if reply is not _NOT_ENOUGH:
            raise redis.InvalidResponse("a reply that no command asked for")

    def _flush(self) -> None:
        chunks = self._unwritten
        if self._transport.is_closing():
            return  # all of them are about to be told; uvloop would raise here
        self._transport.write(chunks[0] if len(chunks) == 1 else b"".join(chunks))
        chunks.clear()
        if not self._ticking:
            self._ticking = True
            self.loop.call_later(_TICK_S, self._tick)

    def _tick(self) -> None:
        """End calls whose deadline has passed, and a line that has gone silent."""
        self._ticking = False
        if not self.in_flight:
            return
        now_s = time.monotonic()
        for call in self.in_flight:
            if call.patient and call.until_s > now_s:
                break  # those behind it began later, or have a timer of their own
            if call.until_s <= now_s:
                _expire(call.future)
        if self._heard:
            self._heard, self._heard_s = False, now_s
        if now_s - max(self._heard_s, self.in_flight[0].began_s) >= self._silence_s:
            self.abort(redis.TimeoutError(f"silent for {self._silence_s:g} s"))
            return
        self._ticking = True
        self.loop.call_later(_TICK_S, self._tick)


def _expire(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(redis.TimeoutError("no reply by the deadline"))
