"""The client that an application uses: redis-py's commands, under one deadline, and none sent twice where that could harm."""

from typing import Any

import redis
from redis.client import Pipeline

from cachelib import call
from cachelib.call import deadline
from cachelib.config import Config
from cachelib.errors import Unavailable
from cachelib.policy import Effect, blocking_s, command_name, effect_of, worst_effect
from cachelib.pool import FairPool

__all__ = ["Client", "connect", "deadline"]


def connect(config: Config | None = None, *, decode_responses: bool = False) -> "Client":
    """Build a client; the first connection is made by the first command, so this works while the server is down.

    Args:
        config: where and how; None reads the environment.
        decode_responses: whether replies are `str` instead of `bytes`.

    Raises:
        ConfigError: the environment holds no valid configuration.
    """
    client = Client(connection_pool=FairPool(config or Config.from_env(), decode_responses=decode_responses))
    client.auto_close_connection_pool = True
    return client


class Client(redis.Redis):
    """A `redis.Redis` made by `connect`: every command of redis-py, with our deadline, retries and pool.

    Any command raises `Unavailable` (nothing was changed), `OutcomeUnknown` (a write may have been applied) or `Refused`.
    """

    connection_pool: FairPool

    def __repr__(self) -> str:
        return f"<cachelib.Client {self.connection_pool!r}>"

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command and return its reply, as redis-py does."""
        return call.run(
            self.connection_pool.config,
            command_name(args),
            effect_of(args),
            lambda: self._execute_command(*args, **options),
            blocking_s=blocking_s(args),
        )

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> "_Pipeline":
        """Return a pipeline that is repeated as a whole, and only where each of its commands may be."""
        return _Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)

    def _send_command_parse_response(self, conn: Any, command_name: Any, *args: Any, **options: Any) -> Any:
        call.mark_sent()
        return super()._send_command_parse_response(conn, command_name, *args, **options)


class _Pipeline(Pipeline, Client):
    """redis-py's pipeline, its batch under the same rules as a command."""

    def __repr__(self) -> str:
        return f"<cachelib pipeline of {len(self)} commands, {self.connection_pool!r}>"

    def execute_command(self, *args: Any, **options: Any) -> Any:
        return Pipeline.execute_command(self, *args, **options)

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send all commands at once and return their replies."""
        queued, scripts, explicit = list(self.command_stack), set(self.scripts), self.explicit_transaction
        batch = [args for args, _ in queued]

        def attempt() -> list[Any]:
            # redis-py empties the pipeline after each attempt, a failed one included.
            self.command_stack, self.scripts, self.explicit_transaction = list(queued), set(scripts), explicit
            return Pipeline.execute(self, raise_on_error)

        return call.run(
            self.connection_pool.config, f"a batch of {len(batch)} commands", worst_effect(batch), attempt, repeatable=not self.watching
        )

    def immediate_execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command at once, as between WATCH and MULTI; a lost connection has lost the WATCH, so nothing is repeated."""
        watching = self.watching
        try:
            return call.run(
                self.connection_pool.config,
                command_name(args),
                Effect.READ if command_name(args) in ("WATCH", "UNWATCH") else effect_of(args),
                lambda: Pipeline.immediate_execute_command(self, *args, **options),
                repeatable=not watching,
            )
        except Unavailable as error:
            if watching:  # what redis-py raises, so that its users' loops begin the transaction again
                self.reset()
                raise redis.WatchError(f"the connection was lost while watching: {error}") from error
            raise

    def _execute_transaction(self, *args: Any) -> list[Any]:
        call.mark_sent()
        return list(super()._execute_transaction(*args))

    def _execute_pipeline(self, *args: Any) -> list[Any]:
        call.mark_sent()
        return list(super()._execute_pipeline(*args))

    def _disconnect_raise_on_watching(self, conn: Any, *args: Any, **options: Any) -> None:
        # redis-py raises WatchError here, which invites its users to run again a transaction that may have been applied.
        conn.disconnect()
        self.watching = False

    _disconnect_reset_raise_on_watching = _disconnect_raise_on_watching
