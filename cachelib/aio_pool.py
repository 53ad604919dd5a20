"""Connections of their own for asyncio callers that can't share one: blocking commands, subscriptions, WATCH, pipelines."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import redis
from redis.asyncio.connection import Connection, ConnectionPool, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from cachelib.call import Call, current_call, under_way
from cachelib.config import Config
from cachelib.connection import common_options, forget_unsent
from cachelib.errors import PoolExhausted
from cachelib.events import Journal
from cachelib.handshake import check_answer, greeting, tls_context
from cachelib.multiplexer import Multiplexer
from cachelib.stats import PoolStats, events_counted
from cachelib.wire import pack

T = TypeVar("T")

# So many seconds after its deadline a whole attempt is cancelled.
_SLACK_S = 0.005


async def run(call: Call, attempt: Callable[[], Awaitable[T]]) -> T:
    """Run attempts as `call.run` does; one that is not over when the reply is due is cancelled.

    Raises:
        CacheError: as `Call.after` says.
    """
    with under_way(call):
        while True:
            try:
                # Waiting for a connection and making one end by themselves, and say why.
                async with asyncio.timeout(left_s(call.reply_until_s + _SLACK_S)):
                    reply = await attempt()
                break
            except TimeoutError as late:
                # In a loop that turns too late, the wait for a connection is cancelled before it ends by itself, and leaves its reason.
                reason = late.__cause__ and late.__cause__.__cause__
                wait_s = call.after(reason if isinstance(reason, PoolExhausted) else redis.TimeoutError("no reply by the deadline"))
            except (redis.RedisError, OSError) as error:
                wait_s = call.after(error)
            await asyncio.sleep(wait_s)
    call.succeeded()
    return reply


def left_s(until_s: float) -> float | None:
    """Return the seconds left as `asyncio.timeout` takes them: None for ever."""
    return None if until_s == float("inf") else max(0.0, until_s - time.monotonic())


class AsyncConnection(Connection):
    """A TCP connection that marks the call under way as sent when a command leaves.

    Args:
        config: where to.
        options: of redis-py's connection.

    Attributes:
        up: whether the pool counts it as connected.
        retire_s: when it is replaced, on the clock of `time.monotonic`.
    """

    def __init__(self, *, config: Config, **options: Any) -> None:
        self.config = config
        self.greeting = True
        self.up = False
        self.retire_s = float("inf")
        super().__init__(redis_connect_func=_introduce, **options)

    async def disconnect(self, nowait: bool = False, *args: Any, **options: Any) -> None:
        """End the connection; one that is given up, which is what redis-py does not wait for, delivers nothing any more."""
        if nowait and self._writer is not None:
            forget_unsent(self._writer.get_extra_info("socket"))
            self._writer.transport.abort()
        await super().disconnect(nowait, *args, **options)

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send bytes of the protocol, as redis-py does."""
        if not self.is_connected:
            await self.connect_check_health(check_health=False)
        if (call := current_call()) and not self.greeting:
            if call.left_s() <= 0:
                raise redis.TimeoutError("no time left to send it")
            call.sent = True
        try:
            await super().send_packed_command(command, check_health)
        except RuntimeError as error:  # so says uvloop where a transport has been closed
            await self.disconnect(nowait=True)
            raise redis.ConnectionError(str(error)) from error


class AsyncSSLConnection(AsyncConnection, SSLConnection):
    """A TLS connection."""

    def _connection_arguments(self) -> Any:
        return {**super(SSLConnection, self)._connection_arguments(), "ssl": tls_context(self.config)}


async def _introduce(connection: AsyncConnection) -> None:
    """Open the session in one round trip.

    Raises:
        Refused: the server refused the login or the database.
        redis.ConnectionError: it does not serve.
    """
    commands = greeting(connection.config)
    connection.greeting = True
    connection._parser.on_connect(connection)
    await connection.send_packed_command(b"".join(map(pack, commands)), check_health=False)
    for command in commands:
        try:
            answer: Any = await connection.read_response()
        except (redis.ResponseError, redis.AuthenticationError) as error:
            answer = error
        check_answer(connection.config, command, answer)
    connection.greeting = False


class AsyncPool(ConnectionPool):
    """At most `pool_size` connections for single callers, in the order in which they came, beside the line that all share.

    Args:
        config: where to connect, and the bounds.
        journal: is told of outages.
        decode_responses: whether replies are `str` instead of `bytes`.

    Attributes:
        multiplexer: the line of the event loop that runs; a client may be used in one loop after another.
    """

    def __init__(self, config: Config, journal: Journal, *, decode_responses: bool = False) -> None:
        self.config, self.journal, self._decode_responses = config, journal, decode_responses
        self._made = self._lost = self._retired = self._waiting = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        super().__init__(
            connection_class=AsyncSSLConnection if config.tls else AsyncConnection,
            max_connections=config.pool_size,
            socket_timeout=None,  # `run` bounds each attempt as a whole
            decode_responses=decode_responses,
            retry=Retry(NoBackoff(), 0),  # retries are decided in one place, `Call.after`
            **common_options(config),
        )
        self.reset()

    def __repr__(self) -> str:
        stats = self.stats()
        away = ", server away" if self.multiplexer.away else ""
        return f"<AsyncPool {self.config.endpoint} {stats.in_use}/{stats.size} in use, {stats.waiting} waiting{away}>"

    def bind(self) -> Multiplexer:
        """Return the line of the loop that runs; what belonged to another loop is forgotten."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop = loop
            self.reset()
        return self.multiplexer

    def reset(self) -> None:
        """Forget every connection and every waiter."""
        super().reset()
        self.multiplexer = Multiplexer(self.config, self.journal, decode_responses=self._decode_responses)
        self._room = asyncio.Semaphore(self.max_connections)
        self._lock = asyncio.Lock()

    def stats(self) -> PoolStats:
        """Count connections and callers; the shared line is one connection more than the pool's own."""
        line = self.multiplexer
        return PoolStats(
            size=self.max_connections + 1,
            in_use=len(self._in_use_connections) + line.busy,
            idle=sum(connection.is_connected for connection in self._available_connections) + (line.connected and not line.busy),
            waiting=self._waiting + line.waiting,
            made=self._made + line.made,
            lost=self._lost + line.lost,
            retired=self._retired + line.retired,
            **events_counted(self.journal),
        )

    async def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> Any:
        """Return a connected connection, waiting for it in order until the deadline of the call.

        Raises:
            PoolExhausted: all of them stayed in use.
            Refused: the server refused the login or the database.
            redis.ConnectionError, redis.TimeoutError: no connection could be made; outside a call it is `Unavailable`.
        """
        self.bind()
        if call := current_call():
            return await self._take(call)
        call = Call(self.config, self.journal, ())
        return await run(call, lambda: self._take(call))

    async def reconnect(self, connection: AsyncConnection) -> None:
        """Connect a connection that its caller keeps, once the server is back.

        Raises:
            Unavailable: it was not by the deadline.
            Refused: the server refused the login or the database.
        """
        call = Call(self.config, self.journal, ())
        await run(call, lambda: self.connected(connection, call))

    async def connected(self, connection: AsyncConnection, call: Call) -> None:
        """Connect a connection that its caller keeps, if it was lost, once the server is there.

        Raises:
            Refused: the server refused the login or the database.
            redis.ConnectionError, redis.TimeoutError: it could not be made.
        """
        if await self._is_stale(connection):
            await connection.disconnect(nowait=True)
        if not connection.is_connected:
            await self._connect(connection, call)

    async def demote(self, connection: AsyncConnection, *, busy: bool = False) -> None:
        """Give a connection up whose server was a master once.

        Args:
            connection: which one.
            busy: whether more replies are to be read; then it is given up when it is released.
        """
        if self.multiplexer.demotions.due():
            if busy:
                connection.mark_for_reconnect()
            else:
                await connection.disconnect(nowait=True)

    async def release(self, connection: Any) -> None:
        """Give a connection back."""
        if connection not in self._in_use_connections:
            return
        try:
            if connection.should_reconnect():
                await connection.disconnect(nowait=True)
            await super().release(connection)
        finally:
            self._count_lost(connection)
            self._room.release()

    def lends(self, connection: Any) -> bool:
        """Tell whether a connection is somebody's, and has not been replaced."""
        return connection in self._in_use_connections

    async def replace(self, connection: Any) -> None:
        """Give up a connection that somebody may still use, or has changed, and make room for a new one."""
        if self.lends(connection):
            self._in_use_connections.remove(connection)
            self._count_lost(connection)
            self._retired += connection.up
            connection.up = False
            self._room.release()
        await connection.disconnect(nowait=True)

    async def aclose(self) -> None:
        """Close every connection, and the line."""
        self.bind()  # those of a loop that is over can't be closed any more
        self.multiplexer.close()
        await super().aclose()

    async def _take(self, call: Call) -> Any:
        self._waiting += 1
        try:
            async with asyncio.timeout(left_s(call.until_s)):
                await self._room.acquire()
        except (TimeoutError, asyncio.CancelledError) as ended:
            if call.left_s() > 0:
                raise
            self.multiplexer.note_outage(call)
            if isinstance(ended, asyncio.CancelledError):
                ended.__cause__ = call.exhausted()
                raise
            raise call.exhausted() from None
        finally:
            self._waiting -= 1
        connection = self.get_available_connection()
        try:
            if connection.is_connected and time.monotonic() > connection.retire_s:
                self._retired += 1
                connection.up = False
                await connection.disconnect(nowait=True)
            await self.connected(connection, call)
        except BaseException:
            await self.release(connection)
            raise
        return connection

    async def _is_stale(self, connection: AsyncConnection) -> bool:
        writer = connection._writer
        if writer is None or writer.is_closing():
            return True  # after a reset there is nothing to read
        try:
            return await connection.can_read()  # the end of the stream, or a reply that nobody has read
        except (redis.RedisError, OSError):
            return True

    def _count_lost(self, connection: AsyncConnection) -> None:
        if connection.up and not connection.is_connected:
            connection.up = False
            self._lost += 1

    async def _connect(self, connection: AsyncConnection, call: Call) -> None:
        self._count_lost(connection)
        # Only the line's prober tries a server that may be away; all others wait for it.
        if not self.multiplexer.connected:
            await self.multiplexer.connected_for(call)
        try:
            async with asyncio.timeout(max(0.0, min(call.left_s(), self.config.connect_timeout_s))):
                await connection.connect()
        except TimeoutError:
            await connection.disconnect(nowait=True)
            raise redis.TimeoutError("not connected in time") from None
        # All connections of a pool made at the same time shouldn't end at the same time.
        connection.retire_s = time.monotonic() + self.config.connection_max_age_s * random.uniform(0.9, 1.0)
        connection.up = True
        self._made += 1
