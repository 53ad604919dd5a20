"""The client for asyncio: redis-py's commands, sent together over one line, under the same deadline and the same rules as in `client`."""

import asyncio
from collections.abc import Sequence
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.client import Pipeline, PubSub
from redis.client import NEVER_DECODE

from cachelib.aio_pool import AsyncConnection, AsyncPool, left_s, run
from cachelib.call import NOT_SERVED, Call, current_call, explicit_until_s
from cachelib.commands import PLAIN, blocking_s, check_shareable, command_name
from cachelib.config import Config, config_or_environment
from cachelib.errors import Unavailable
from cachelib.events import Journal, Observer
from cachelib.line import SETTLED
from cachelib.stats import PoolStats
from cachelib.wire import pack, parse


def connect_async(
    config: Config | None = None, *, decode_responses: bool = False, observers: Sequence[Observer] | None = None
) -> "AsyncClient":
    """Build a client for asyncio; the first command connects it, so this works while the server is down and before a loop runs.

    Args:
        config: where and how; None reads the environment.
        decode_responses: whether replies are `str` instead of `bytes`.
        observers: are told of retries, outages, unknown outcomes and slow calls; None logs them.

    Raises:
        ConfigError: the environment holds no valid configuration.
        TypeError: `config` is something else.
    """
    pool = AsyncPool(config_or_environment(config), Journal(observers), decode_responses=decode_responses)
    client = AsyncClient(connection_pool=pool)
    client.auto_close_connection_pool = True
    return client


class AsyncClient(redis.asyncio.Redis):
    """A `redis.asyncio.Redis` made by `connect_async`: every command of redis-py, with our deadline and retries, over a shared line.

    Any command raises `Unavailable` (nothing was changed), `OutcomeUnknown` (a write may have been applied) or `Refused`.
    """

    connection_pool: AsyncPool
    _closed = False  # one of `client.client()` that has given its connection up

    def __init__(self, *args: Any, **options: Any) -> None:
        if not isinstance(options.get("connection_pool"), AsyncPool):
            raise TypeError("an AsyncClient is made by cachelib.connect_async(Config(...)), which gives it the pool that it needs")
        super().__init__(*args, **options)

    def __repr__(self) -> str:
        return f"<cachelib.AsyncClient {self.connection_pool!r}>"

    def pool_stats(self) -> PoolStats:
        """Count what the connections of this client do and what became of them."""
        return self.connection_pool.stats()

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command and return its reply, as redis-py does."""
        if not args or args[0].__class__ is not str or args[0] not in PLAIN or self.single_connection_client:
            return await self._execute_alone(args, options)
        pool = self.connection_pool
        current = Call(pool.config, pool.journal, (args,))
        packed, raw = pack(args), NEVER_DECODE in options
        while True:
            try:
                reply = await pool.bind().send(current, packed, raw)
                if isinstance(reply, Exception) and isinstance(reply, NOT_SERVED):
                    pool.multiplexer.demote()
                    raise reply
                break
            except (redis.RedisError, OSError) as error:
                current.future = SETTLED  # or call, future, error and this frame are a circle, which only the garbage collector ends
                wait_s = current.after(error)
            await asyncio.sleep(wait_s)
        return parse(self.response_callbacks, args[0], reply, options)

    async def _execute_alone(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Send a command that blocks, or leaves something behind on its connection, on a connection of its own."""
        name = command_name(args)
        if not name:
            raise redis.DataError("a command needs a name: the server gives no answer to an empty one")
        self.connection_pool.bind()
        if not self.single_connection_client:
            check_shareable(args)
            if name in ("WAIT", "WAITAOF"):
                raise redis.DataError(
                    f"{name} speaks of the writes of its own connection, and commands of this client travel over another one: put the "
                    f"writes and {name} into one pipeline(transaction=False), or make them all with `async with client.client() as single`"
                )
        if name == "SHUTDOWN":  # its success is a lost connection, and redis-py's `shutdown` takes it as that
            return await super().execute_command(*args, **options)
        execute = super().execute_command
        return await run(self._call([args], blocking_s(args)), lambda: execute(*args, **options))

    async def _send_command_parse_response(self, conn: Any, command_name: str | bytes, *args: Any, **options: Any) -> Any:
        # The pool can't look after a connection that `client.client()` keeps. Here redis-py holds the lock by which tasks share it.
        held, current = self.connection, current_call()
        if not self.connection_pool.lends(conn):
            raise redis.ConnectionError("the client was closed")
        if isinstance(held, AsyncConnection) and current and not isinstance(self, Pipeline):
            await self.connection_pool.connected(held, current)
        return await super()._send_command_parse_response(conn, command_name, *args, **options)

    async def initialize(self) -> "AsyncClient":
        """Take the connection that a client of `client.client()` holds, as redis-py does; a closed one takes none any more."""
        if not self._closed:
            await super().initialize()
            if self._closed:  # meanwhile
                await self.aclose()
        return self

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """End the connection that `client.client()` holds: nobody else gets the state that it is in, or the reply that is due on it."""
        self._closed = self.single_connection_client
        held, self.connection = self.connection, None
        if held is not None:
            await self.connection_pool.replace(held)
        await super().aclose(close_connection_pool)

    async def parse_response(self, connection: Any, command_name: str | bytes, **options: Any) -> Any:
        """Read a reply on redis-py's way, and give up the connection to a master that is one no longer."""
        try:
            return await super().parse_response(connection, command_name, **options)
        except redis.ReadOnlyError:
            await self._demote(connection)
            raise

    async def _demote(self, connection: Any) -> None:
        await self.connection_pool.demote(connection)

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> "_Pipeline":
        """Return a pipeline that is repeated as a whole, and only where each of its commands may be."""
        return _Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)

    def pubsub(self, **options: Any) -> PubSub:
        """Return a subscription that survives an outage: it reconnects and subscribes again, within the deadline."""
        return _PubSub(self.connection_pool, event_dispatcher=self._event_dispatcher, **options)

    def _call(self, commands: Sequence[tuple[Any, ...]], blocking_s: float = 0.0, **options: bool) -> Call:
        return Call(self.connection_pool.config, self.connection_pool.journal, commands, blocking_s, **options)


class _Pipeline(Pipeline, AsyncClient):  # type: ignore[misc]  # redis-py annotates `command_info` twice
    """redis-py's pipeline, its batch under the same rules as a command; `client._Pipeline` is its twin."""

    _refused = 0  # how many commands of the batch were answered READONLY

    def __repr__(self) -> str:
        return f"<cachelib pipeline of {len(self)} commands, {self.connection_pool!r}>"

    def execute_command(self, *args: Any, **options: Any) -> Any:
        if args and args[0] not in PLAIN:
            check_shareable(args, in_pipeline=True)
        return Pipeline.execute_command(self, *args, **options)

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send all commands at once and return their replies."""
        queued, scripts, explicit = list(self.command_stack), set(self.scripts), self.explicit_transaction
        batch = [args for args, _ in queued]

        async def attempt() -> list[Any]:
            # redis-py empties the pipeline after each attempt, a failed one included.
            self.command_stack, self.scripts, self.explicit_transaction = list(queued), set(scripts), explicit
            self._refused = 0
            await self._check_watch()
            try:
                return await Pipeline.execute(self, raise_on_error)
            except redis.ReadOnlyError as error:
                current.refused(self._refused, error)
                raise

        blocking = 0.0 if explicit or self.is_transaction else sum(map(blocking_s, batch))  # nothing blocks inside MULTI
        current = self._call(batch, blocking, repeatable=not self.watching, batch=True)
        return await run(current, attempt)

    async def _demote(self, connection: Any) -> None:
        self._refused += 1
        # The replies to the rest of the batch are still to be read.
        await self.connection_pool.demote(connection, busy=bool(self.command_stack))

    async def reset(self) -> None:  # type: ignore[override]  # redis-py names two things so: this is the pipeline's
        """Forget the commands and the WATCH, and give the connection back; a stalled server can't hold this up beyond the deadline."""
        if self.watching and self.connection:
            until_s = explicit_until_s()
            try:
                if not self.connection.is_connected:
                    raise redis.ConnectionError("nothing to take back")
                async with asyncio.timeout(self.connection_pool.config.deadline_s if until_s is None else left_s(until_s)):
                    await self.connection.send_command("UNWATCH")
                    await self.connection.read_response()
            except BaseException as error:
                await self.connection.disconnect(nowait=True)  # which ends the WATCH as well
                if not isinstance(error, redis.RedisError | OSError):  # cancelled: the connection goes back all the same
                    self.watching = False
                    await super().reset()
                    raise
            self.watching = False
        await super().reset()

    async def immediate_execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command at once, as between WATCH and MULTI; a lost connection has lost the WATCH, so nothing is repeated."""
        watching = self.watching

        current = self._call([args], repeatable=not watching)

        async def attempt() -> Any:
            await self._check_watch()
            if isinstance(self.connection, AsyncConnection) and not self.connection.is_connected:
                await self.connection_pool.connected(self.connection, current)
            return await Pipeline.immediate_execute_command(self, *args, **options)

        try:
            return await run(current, attempt)
        except Unavailable as error:
            if watching:  # what redis-py raises, so that its users' loops begin the transaction again
                await self.reset()
                raise redis.WatchError(f"the connection was lost while watching: {error}") from error
            raise

    async def _check_watch(self) -> None:
        if self.watching and self.connection and not self.connection.is_connected:
            await self.reset()
            raise redis.WatchError("the connection was closed while watching: begin the transaction again")

    async def _disconnect_raise_on_watching(self, conn: Any, *args: Any, **options: Any) -> None:
        # redis-py raises WatchError here, which invites its users to run again a transaction that may have been applied.
        await conn.disconnect(nowait=True)
        self.watching = False

    _disconnect_reset_raise_on_watching = _disconnect_raise_on_watching


class _PubSub(PubSub):
    """redis-py's subscription, reconnected by our pool."""

    connection_pool: AsyncPool

    async def connect(self) -> None:
        """See that there is a connection."""
        await self._reconnected()
        await super().connect()

    async def parse_response(self, block: bool = True, timeout: float = 0) -> Any:
        """Read a message as redis-py does."""
        await self._reconnected()
        return await super().parse_response(block, timeout)

    async def _reconnected(self) -> None:
        if self.connection is not None and not self.connection.is_connected:
            await self.connection_pool.reconnect(self.connection)

    async def _execute(self, conn: Any, command: Any, *args: Any, **options: Any) -> Any:
        try:
            return await command(*args, **options)
        except redis.AuthenticationError:
            raise
        except (redis.ConnectionError, redis.TimeoutError):
            await conn.disconnect(nowait=True)
            await self.connection_pool.reconnect(conn)
            return await command(*args, **options)
