"""The line that all callers of an asyncio client share: connected by one prober, replaced when it is lost or old, with room for so many."""

import asyncio
import contextvars
import random
import ssl
import time
from collections import deque
from typing import Any

import redis

from cachelib.call import Call, Closed
from cachelib.config import Config
from cachelib.errors import Refused, Unavailable
from cachelib.events import Event, Journal
from cachelib.handshake import check_answer, greeting, tls_context, untrusted
from cachelib.line import MOST_IN_FLIGHT, Line
from cachelib.outage import Demotions, Outage
from cachelib.wire import pack

# So many callers who waited are let in at once: all of them would keep others past their deadlines.
_LET_IN_IN_A_TURN = 512


class _Waiter:
    """A call that waits for the line, or for room on it.

    Attributes:
        call: that waits.
        future: its reply, or what became of it.
        packed: its command; empty where it waits for the line to be there, and sends nothing on it.
        raw: whether its reply stays `bytes`.
        queued: whether it still waits.
        timer: ends it at its deadline, wherever it is then.
    """

    __slots__ = ("call", "future", "packed", "queued", "raw", "timer")

    timer: asyncio.TimerHandle

    def __init__(self, call: Call, packed: bytes, raw: bool) -> None:
        self.call, self.packed, self.raw, self.queued = call, packed, raw, True
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()


class Multiplexer:
    """Hands callers the line in the order in which they came, and reconnects it while anybody waits.

    Args:
        config: where to connect, and the bounds.
        journal: is told of outages.
        decode_responses: whether replies are `str` instead of `bytes`.

    Attributes:
        demotions: say whether this line, or a connection beside it, is given up.
        made, lost, retired: how many lines were connected, ended by the server or the network, and replaced for their age.
    """

    def __init__(self, config: Config, journal: Journal, *, decode_responses: bool) -> None:
        self._config, self._journal, self._decode_responses = config, journal, decode_responses
        self.made = self.lost = self.retired = 0
        self.demotions = Demotions()
        self._outage = Outage(config)
        self._line: Line | None = None
        self._draining: set[Line] = set()
        self._waiters: deque[_Waiter] = deque()
        self._gone = 0  # of the waiters, those who have given up
        self._prober: asyncio.Task[None] | None = None

    @property
    def away(self) -> bool:
        """Whether the server is away."""
        return self._outage.since is not None

    @property
    def connected(self) -> bool:
        """Whether there is a line."""
        return self._line is not None

    @property
    def busy(self) -> bool:
        """Whether a reply is due."""
        return self._line is not None and bool(self._line.in_flight)

    @property
    def waiting(self) -> int:
        """How many callers wait for the line."""
        return sum(not waiter.future.done() for waiter in self._waiters)

    def send(self, call: Call, packed: bytes, raw: bool) -> asyncio.Future[Any]:
        """Send a command at once if the line has room, else when those who came before have been let in.

        Args:
            call: is marked as sent when it is; its deadline bounds the whole.
            packed: the command as bytes of the protocol.
            raw: whether the reply stays `bytes`.

        Returns:
            The reply to come, an error reply included. It fails with `Refused`; `Away`, where the server is away until the deadline;
            `Unavailable`, where it does not answer fast enough; redis.ConnectionError or redis.TimeoutError, where the reply was lost.
        """
        line = self._line
        if line is not None and line.open and not self._waiters and line.room() > 0:
            return line.send(call, packed, raw)
        return self._queue_up(call, packed, raw)

    async def connected_for(self, call: Call) -> None:
        """Return once the line is there; raise as `send` where it is not by the deadline."""
        await self._queue_up(call, b"", False)

    def note_outage(self, call: Call) -> None:
        """Note on a call since when the server is away, or was while the call waited."""
        self._outage.note(call)

    def demote(self) -> None:
        """Give the line up whose server was a master once, or loads its data."""
        if self.demotions.due():
            self.lost += self._line is not None
            self._replace()

    def close(self) -> None:
        """End the lines, all calls on them, and everybody's waiting."""
        closed = Closed("the client was closed")
        if self._prober is not None:
            self._prober.cancel()
            self._prober = None
        for line in (self._line, *self._draining):
            if line is not None:
                line.abort(closed)
        self._line = None
        self._fail_waiters(closed)

    def _replace(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            self._draining.add(line)
            line.drain()

    def _queue_up(self, call: Call, packed: bytes, raw: bool) -> asyncio.Future[Any]:
        waiter = _Waiter(call, packed, raw)
        waiter.timer = waiter.future.get_loop().call_later(max(0.0, call.left_s()), self._expire, waiter)
        waiter.future.add_done_callback(lambda _: self._left(waiter))
        self._waiters.append(waiter)
        self._let_in()
        return waiter.future

    def _expire(self, waiter: _Waiter) -> None:
        if waiter.future.done():
            return
        call = waiter.call
        self._outage.note(call)
        error: redis.RedisError
        if not waiter.queued:
            error = redis.TimeoutError("no reply by the deadline")
        elif self.away:
            error = self._outage.away()
        elif self._line is None:
            error = redis.TimeoutError("not connected by the deadline")
        else:
            error = Unavailable(
                f"{call.name} found no room on the line to {self._config.endpoint} within {time.monotonic() - call.began_s:.3g} s, and "
                f"changed nothing: up to {MOST_IN_FLIGHT} commands are unanswered. Send less, or find out what makes the server slow.",
                call.since,
            )
        waiter.future.set_exception(error)

    def _left(self, waiter: _Waiter) -> None:
        """Forget one who has a reply, or has given up; those in the middle of the queue when they are many."""
        waiter.timer.cancel()
        if waiter.queued:
            self._gone += 1
            if self._gone > 100 and self._gone > len(self._waiters) / 2:
                self._waiters = deque(other for other in self._waiters if not other.future.done())
                self._gone = 0
            self._let_in()

    def _let_in(self) -> None:
        """Let waiters in while there is room; where there is no line, see that somebody connects."""
        waiters, line = self._waiters, self._line
        while waiters and waiters[0].future.done():
            waiters.popleft()
            self._gone -= 1
        if not waiters:
            return
        if line is None:
            if self._prober is None:
                # Not in the context of the caller, whose deadline is not that of the others.
                self._prober = asyncio.get_running_loop().create_task(self._probe(), context=contextvars.Context())
            return
        if not line.open:
            return  # it has just ended, and is about to tell
        for _ in range(_LET_IN_IN_A_TURN):
            if not waiters or line.room() <= 0:
                return
            waiter = waiters.popleft()
            if waiter.future.done():
                self._gone -= 1
                continue
            waiter.queued = False
            if waiter.packed:
                line.send(waiter.call, waiter.packed, waiter.raw, waiter.future)
            else:
                waiter.future.set_result(None)
        if not line.in_flight:  # no reply will call us again
            line.loop.call_soon(self._let_in)

    async def _probe(self) -> None:
        """Connect, with growing waits, while anybody waits for it."""
        try:
            while self.waiting:
                if self.away:
                    await asyncio.sleep(max(0.0, self._outage.next_s - time.monotonic()))
                try:
                    line = await self._connect()
                except Refused as error:
                    self._tell(self._outage.over())  # it is there
                    self._fail_waiters(error)
                except Exception as error:  # whatever it is, those who wait are told of it, and at their deadlines
                    self._tell(self._outage.failed(error))
                else:
                    self._line = line
                    self.made += 1
                    self._tell(self._outage.over())
                    break
        finally:
            if self._prober is asyncio.current_task():
                self._prober = None
            self._let_in()

    async def _connect(self) -> Line:
        loop, config = asyncio.get_running_loop(), self._config
        line = Line(
            decode_responses=self._decode_responses,
            silence_s=config.deadline_s,
            slow_call_s=config.slow_call_s,
            on_slow=Call.succeeded,
            on_room=self._let_in,
            on_end=self._ended,
        )
        try:
            async with asyncio.timeout(config.connect_timeout_s):
                await loop.create_connection(lambda: line, config.host, config.port, ssl=tls_context(config) if config.tls else None)
                commands = greeting(config)
                calls = [Call(config, self._journal, ()) for _ in commands]
                sent = [line.send(call, pack(command), False) for call, command in zip(calls, commands, strict=True)]
                # Each: the first may say why the server has ended the connection before the others.
                answers = await asyncio.gather(*sent, return_exceptions=True)
        except BaseException as error:
            line.abort()
            if isinstance(error, ssl.SSLCertVerificationError):
                raise untrusted(config, error) from error
            if isinstance(error, TimeoutError):
                raise redis.TimeoutError(f"not connected within {config.connect_timeout_s:g} s") from error
            raise
        try:
            for command, answer in zip(commands, answers, strict=True):
                check_answer(config, command, answer)
            if not line.open:  # its end was told before anybody knew of it
                raise redis.ConnectionError("the connection ended after its greeting")
        except redis.RedisError:
            line.abort()
            raise
        line.retirement = loop.call_later(config.connection_max_age_s * random.uniform(0.9, 1.0), self._retire, line)
        return line

    def _ended(self, line: Line) -> None:
        self._draining.discard(line)
        if line is self._line:
            self._line = None
            self.lost += 1
            self._let_in()

    def _retire(self, line: Line) -> None:
        if line is self._line:
            self.retired += 1
            self._replace()
            self._let_in()

    def _fail_waiters(self, error: redis.RedisError) -> None:
        waiters, self._waiters = self._waiters, deque()
        self._gone = 0
        for waiter in waiters:
            waiter.queued = False
            if not waiter.future.done():
                waiter.future.set_exception(type(error)(str(error)))

    def _tell(self, event: Event | None) -> None:
        if event is not None:
            self._journal.tell(event)
