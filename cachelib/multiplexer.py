"""The line that all callers of an asyncio client share: connected by one prober, replaced when it is lost or old, with room for so many."""

import asyncio
import random
import ssl
import time
from collections import deque

import redis

from cachelib.call import Call
from cachelib.config import Config
from cachelib.errors import Refused, Unavailable
from cachelib.events import Event, Journal
from cachelib.handshake import check_answer, greeting, untrusted
from cachelib.line import MOST_BYTES_IN_FLIGHT, MOST_IN_FLIGHT, Line
from cachelib.outage import DEMOTION_PACE_S, Outage
from cachelib.wire import pack

# A thousand callers let in at once would keep others past their deadlines.
_LET_IN_IN_A_TURN = 512


class Multiplexer:
    """Hands callers the line in the order in which they came, and reconnects it while anybody waits.

    Args:
        config: where to connect, and the bounds.
        journal: is told of outages.
        decode_responses: whether replies are `str` instead of `bytes`.

    Attributes:
        made, lost, retired: how many lines were connected, ended by the server or the network, and replaced for their age.
    """

    def __init__(self, config: Config, journal: Journal, *, decode_responses: bool) -> None:
        self._config, self._journal, self._decode_responses = config, journal, decode_responses
        self.made = self.lost = self.retired = 0
        self._demoted_s = 0.0
        self._outage = Outage(config)
        self._line: Line | None = None
        self._waiters: deque[asyncio.Future[None]] = deque()
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
        return sum(not waiter.done() for waiter in self._waiters)

    def ready(self) -> Line | None:
        """Return the line if a caller may use it at once."""
        line = self._line
        if (
            line is None
            or self._waiters
            or not line.open
            or len(line.in_flight) >= MOST_IN_FLIGHT
            or line.bytes_in_flight >= MOST_BYTES_IN_FLIGHT
            or line.loop is not asyncio.get_running_loop()
        ):
            return None
        return line

    async def admit(self, call: Call) -> Line:
        """Return the line once it is there and has room, in order.

        Raises:
            Away: the server is away until the call's deadline.
            Unavailable: it does not answer fast enough.
            Refused: it refused the login or the database.
        """
        while True:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            self._let_in()
            try:
                async with asyncio.timeout(max(0.0, call.left_s())):
                    await waiter
            except TimeoutError:
                if self.away:
                    raise self._outage.away() from None
                if self._line is None:
                    raise redis.TimeoutError("not connected by the deadline") from None
                raise Unavailable(
                    f"{call.name} found no room on the line to {self._config.endpoint} within {time.monotonic() - call.began_s:.3g} s, and "
                    f"changed nothing: up to {MOST_IN_FLIGHT} commands are unanswered. Send less, or find out what makes the server slow."
                ) from None
            finally:
                self._let_in()  # this one may have left the queue
            if self._line is not None and self._line.open:
                return self._line

    def demote(self, line: Line) -> None:
        """Give a line up whose server was a master once, or loads its data; not more often than a new one may be worth it."""
        now_s = time.monotonic()
        if line is self._line and now_s - self._demoted_s >= DEMOTION_PACE_S:
            self._demoted_s = now_s
            self._line = None
            line.drain()

    def close(self) -> None:
        """End the line and everybody's waiting."""
        if self._prober is not None:
            self._prober.cancel()
        line, self._line = self._line, None
        if line is not None:
            line.abort(redis.ConnectionError("the client was closed"))
        self._fail_waiters(redis.ConnectionError("the client was closed"))

    def _let_in(self) -> None:
        """Let waiters in while there is room; where there is no line, see that somebody connects."""
        waiters, line = self._waiters, self._line
        while waiters and waiters[0].done():
            waiters.popleft()
        if not waiters:
            return
        if line is None:
            if self._prober is None:
                self._prober = asyncio.get_running_loop().create_task(self._probe())
            return
        room = min(line.room(), _LET_IN_IN_A_TURN)
        while waiters and room > 0:
            waiter = waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                room -= 1
        if waiters and not line.in_flight:  # no reply will call us again
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
                except (redis.RedisError, OSError) as error:
                    self._tell(self._outage.failed(error))
                else:
                    self._line = line
                    self.made += 1
                    self._tell(self._outage.over())
                    break
        finally:
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
                await loop.create_connection(lambda: line, config.host, config.port, ssl=_tls_context(config))
                commands = greeting(config)
                calls = [Call(config, self._journal, ()) for _ in commands]
                sent = [line.send(call, pack(command), False) for call, command in zip(calls, commands, strict=True)]
                answers = await asyncio.gather(*sent)
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
        except redis.RedisError:
            line.abort()
            raise
        loop.call_later(config.connection_max_age_s * random.uniform(0.9, 1.0), self._retire, line)
        return line

    def _ended(self, line: Line) -> None:
        if line is self._line:
            self._line = None
            self.lost += 1
            self._let_in()

    def _retire(self, line: Line) -> None:
        if line is self._line:
            self._line = None
            self.retired += 1
            line.drain()
            self._let_in()

    def _fail_waiters(self, error: redis.RedisError) -> None:
        waiters, self._waiters = self._waiters, deque()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(type(error)(str(error)))

    def _tell(self, event: Event | None) -> None:
        if event is not None:
            self._journal.tell(event)


def _tls_context(config: Config) -> ssl.SSLContext | None:
    if not config.tls:
        return None
    context = ssl.create_default_context(cafile=str(config.tls_ca_file) if config.tls_ca_file else None)
    if config.tls_cert_file and config.tls_key_file:
        context.load_cert_chain(config.tls_cert_file, config.tls_key_file)
    return context
