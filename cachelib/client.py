"""The client that an application uses: redis-py's commands, under one deadline, and none sent twice where that could harm."""

import threading
import time
from collections.abc import Sequence
from typing import Any

import redis
from redis.client import NEVER_DECODE, Pipeline, PubSub

from cachelib import call
from cachelib.call import deadline, idempotent
from cachelib.commands import PLAIN, blocking_s, check_shareable, command_name
from cachelib.config import Config, config_or_environment
from cachelib.connection import BoundedConnection
from cachelib.errors import Unavailable
from cachelib.events import Journal, Observer
from cachelib.pool import FairPool
from cachelib.stats import PoolStats
from cachelib.wire import pack, parse

__all__ = ["Client", "connect", "deadline", "idempotent"]


def connect(config: Config | None = None, *, decode_responses: bool = False, observers: Sequence[Observer] | None = None) -> "Client":
    """Build a client; the first connection is made by the first command, so this works while the server is down.

    Args:
        config: where and how; None reads the environment.
        decode_responses: whether replies are `str` instead of `bytes`.
        observers: are told of retries, outages, unknown outcomes and slow calls; None logs them.

    Raises:
        ConfigError: the environment holds no valid configuration.
        TypeError: `config` is something else.
    """
    pool = FairPool(config_or_environment(config), Journal(observers), decode_responses=decode_responses)
    client = Client(connection_pool=pool)
    client.auto_close_connection_pool = True
    return client


class Client(redis.Redis):
    """A `redis.Redis` made by `connect`: every command of redis-py, with our deadline, retries and pool.

    Any command raises `Unavailable` (nothing was changed), `OutcomeUnknown` (a write may have been applied) or `Refused`.
    """

    connection_pool: FairPool

    def __init__(self, *args: Any, **options: Any) -> None:
        if not isinstance(options.get("connection_pool"), FairPool):
            raise TypeError("a Client is made by cachelib.connect(Config(...)), which gives it the pool that it needs")
        super().__init__(*args, **options)

    def __repr__(self) -> str:
        return f"<cachelib.Client {self.connection_pool!r}>"

    def pool_stats(self) -> PoolStats:
        """Count what the connections of this client do and what became of them."""
        return self.connection_pool.stats()

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command and return its reply, as redis-py does."""
        if args and args[0].__class__ is str and args[0] in PLAIN and self.connection is None:
            return self._execute_plain(args, options)
        name = command_name(args)
        if not name:
            raise redis.DataError("a command needs a name: the server gives no answer to an empty one")
        if self.connection is None:
            check_shareable(args)
        if name == "SHUTDOWN":  # its success is a lost connection, and redis-py's `shutdown` takes it as that
            return self._execute_command(*args, **options)

        current = self._call([args], blocking_s(args))

        def attempt() -> Any:
            held = self.connection
            if not isinstance(held, BoundedConnection):
                return self._execute_command(*args, **options)
            # `client.client()` holds one for all its threads: redis-py lets them use it in turn, and for ever.
            if not self.single_connection_lock.acquire(timeout=max(0.0, min(current.left_s(), threading.TIMEOUT_MAX))):
                raise redis.TimeoutError("another thread kept the connection of this client")
            try:
                self._check_open(held)
                self.connection_pool.renew(held, current)
                self._check_open(held)
                return self._execute_command(*args, **options)
            finally:
                self.single_connection_lock.release()

        return call.run(current, attempt)

    def close(self) -> None:
        """End the connection that `client.client()` holds: nobody else gets the state that it is in, or the reply that is due on it."""
        held = getattr(self, "connection", None)
        if held is not None:
            self.connection = None
            self.connection_pool.replace(held)
        super().close()

    def _check_open(self, held: BoundedConnection) -> None:
        if self.connection is not held:
            held.disconnect()
            raise redis.ConnectionError("the client was closed")

    def parse_response(self, connection: Any, command_name: str | bytes, **options: Any) -> Any:
        """Read a reply on redis-py's way, and give up the connection to a master that is one no longer."""
        try:
            return super().parse_response(connection, command_name, **options)
        except redis.ReadOnlyError:
            self.connection_pool.demote(connection)
            raise

    def pubsub(self, **options: Any) -> PubSub:
        """Return a subscription that survives an outage: it reconnects and subscribes again, within the deadline."""
        return _PubSub(self.connection_pool, event_dispatcher=self._event_dispatcher, **options)

    def _execute_plain(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Send a command that needs no connection of its own; redis-py's way does the same in three times the steps."""
        pool = self.connection_pool
        current = call.Call(pool.config, pool.journal, (args,))
        packed = pack(args)
        while True:
            try:
                reply = pool.exchange(current, packed, NEVER_DECODE in options)
                break
            except (redis.RedisError, OSError) as error:
                time.sleep(current.after(error))
        value = parse(self.response_callbacks, args[0], reply, options)
        current.succeeded()
        return value

    def _call(self, commands: Sequence[tuple[Any, ...]], blocking_s: float = 0.0, **options: bool) -> call.Call:
        return call.Call(self.connection_pool.config, self.connection_pool.journal, commands, blocking_s, **options)

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> "_Pipeline":
        """Return a pipeline that is repeated as a whole, and only where each of its commands may be."""
        return _Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


class _Pipeline(Pipeline, Client):
    """redis-py's pipeline, its batch under the same rules as a command."""

    _refused = 0  # how many commands of the batch were answered READONLY

    def __repr__(self) -> str:
        return f"<cachelib pipeline of {len(self)} commands, {self.connection_pool!r}>"

    def execute_command(self, *args: Any, **options: Any) -> Any:
        if args and args[0] not in PLAIN:
            check_shareable(args, in_pipeline=True)
        return Pipeline.execute_command(self, *args, **options)

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send all commands at once and return their replies."""
        queued, scripts, explicit = list(self.command_stack), set(self.scripts), self.explicit_transaction
        batch = [args for args, _ in queued]

        def attempt() -> list[Any]:
            # redis-py empties the pipeline after each attempt, a failed one included.
            self.command_stack, self.scripts, self.explicit_transaction = list(queued), set(scripts), explicit
            self._refused = 0
            self._check_watch()
            try:
                return Pipeline.execute(self, raise_on_error)
            except redis.ReadOnlyError as error:
                current.refused(self._refused, error)
                raise

        # Nothing blocks inside MULTI. (`transaction` is a method of redis.Redis that its pipeline covers with a flag.)
        plain = not (explicit or vars(self)["transaction"])
        current = self._call(batch, sum(map(blocking_s, batch)) if plain else 0.0, repeatable=not self.watching, batch=True)
        return call.run(current, attempt)

    def parse_response(self, connection: Any, command_name: str | bytes, **options: Any) -> Any:
        """Read a reply as `Client` does; the replies to the rest of the batch are still to be read."""
        try:
            return Pipeline.parse_response(self, connection, command_name, **options)
        except redis.ReadOnlyError:
            self._refused += 1
            self.connection_pool.demote(connection, busy=bool(self.command_stack))
            raise

    def reset(self) -> None:  # type: ignore[override]  # redis-py names two things so: this is the pipeline's
        """Forget the commands and the WATCH, and give the connection back; a stalled server can't hold this up beyond the deadline."""
        if self.watching and self.connection:
            # A finaliser may call this, and in one Python 3.11 does not survive that a context variable is set: so no `call.run`.
            until_s = call.explicit_until_s()
            left_s = self.connection_pool.config.deadline_s if until_s is None else until_s - time.monotonic()
            try:
                if not self.connection.is_connected or left_s <= 0:
                    raise redis.ConnectionError("nothing to take back")
                self.connection.send_command("UNWATCH")
                self.connection.read_response(timeout=left_s)
            except redis.RedisError:
                self.connection.disconnect()  # which ends the WATCH as well
            self.watching = False
        super().reset()

    def immediate_execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command at once, as between WATCH and MULTI; a lost connection has lost the WATCH, so nothing is repeated."""
        watching = self.watching

        current = self._call([args], repeatable=not watching)

        def attempt() -> Any:
            self._check_watch()
            if isinstance(self.connection, BoundedConnection) and not self.connection.is_connected:
                self.connection_pool.await_connected(self.connection, current)
            return Pipeline.immediate_execute_command(self, *args, **options)

        try:
            return call.run(current, attempt)
        except Unavailable as error:
            if watching:  # what redis-py raises, so that its users' loops begin the transaction again
                self.reset()
                raise redis.WatchError(f"the connection was lost while watching: {error}") from error
            raise

    def _check_watch(self) -> None:
        """Raise WatchError where the watching connection was closed (by `client.close()`, say): redis-py would commit on a new one."""
        if self.watching and self.connection and not self.connection.is_connected:
            self.reset()
            raise redis.WatchError("the connection was closed while watching: begin the transaction again")

    def _disconnect_raise_on_watching(self, conn: Any, *args: Any, **options: Any) -> None:
        # redis-py raises WatchError here, which invites its users to run again a transaction that may have been applied.
        conn.disconnect()
        self.watching = False

    _disconnect_reset_raise_on_watching = _disconnect_raise_on_watching


class _PubSub(PubSub):
    """redis-py's subscription, reconnected by our pool."""

    def _execute(self, conn: Any, command: Any, *args: Any, **options: Any) -> Any:
        # redis-py reconnects once and at once; the connect callback subscribes to all channels again.
        if not conn.is_connected:
            self.connection_pool.reconnect(conn)
        try:
            return command(*args, **options)
        except redis.AuthenticationError:
            raise
        except (redis.ConnectionError, redis.TimeoutError):
            conn.disconnect()
            self.connection_pool.reconnect(conn)
            return command(*args, **options)
