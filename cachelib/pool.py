"""A bounded connection pool that serves callers in the order in which they came.

redis-py's `BlockingConnectionPool` wakes an arbitrary waiter, so some starve; here a connection is handed to the longest waiter. The
bookkeeping lives in the attributes of `redis.ConnectionPool` (pinned to redis-py 8.1 by a test), so that `disconnect`, `close` and
fork-safety are redis-py's own.
"""

import threading
import time
from collections import deque
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.connection import ConnectionInterface
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from cachelib.call import current_call, current_deadline
from cachelib.config import Config
from cachelib.connection import BoundedConnection, BoundedSSLConnection
from cachelib.errors import PoolExhausted


class _Waiter:
    """A caller in the queue; `connection` is what it was handed."""

    __slots__ = ("connection", "handed")

    def __init__(self) -> None:
        self.handed = threading.Event()
        self.connection: ConnectionInterface | None = None


class FairPool(redis.ConnectionPool):
    """Connections of one `Config`, at most `pool_size`, made when first needed.

    Args:
        config: where to connect, and the bounds.
        decode_responses: whether replies are `str` instead of `bytes`.
    """

    def __init__(self, config: Config, *, decode_responses: bool = False) -> None:
        self.config = config
        tls: dict[str, Any] = {}
        if config.tls:
            files = {"ssl_ca_certs": config.tls_ca_file, "ssl_certfile": config.tls_cert_file, "ssl_keyfile": config.tls_key_file}
            tls = {name: str(path) for name, path in files.items() if path}
        super().__init__(
            connection_class=BoundedSSLConnection if config.tls else BoundedConnection,
            max_connections=config.pool_size,
            host=config.host,
            port=config.port,
            db=config.db,
            username=config.username,
            password=config.password.reveal() if config.password else None,
            socket_timeout=config.deadline_s,
            socket_connect_timeout=config.connect_timeout_s,
            decode_responses=decode_responses,
            retry=Retry(NoBackoff(), 0),  # retries are decided in one place, `call.run`
            driver_info=None,  # two round trips less for each connection made
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
            **tls,
        )

    def __repr__(self) -> str:
        in_use, waiting = len(self._in_use_connections), len(self._waiters)
        return f"<FairPool {self.config.endpoint} {in_use}/{self.max_connections} in use, {waiting} waiting>"

    def reset(self) -> None:
        """Forget every connection and every waiter; redis-py calls it at the start and in a forked child."""
        self._waiters: deque[_Waiter] = deque()
        super().reset()

    def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> Any:
        """Return a connected connection, waiting for it in order until the deadline of the call.

        Raises:
            PoolExhausted: all of them stayed in use.
            Refused: the server refused the login or the database.
            redis.ConnectionError, redis.TimeoutError: no connection could be made.
        """
        self._checkpid()
        connection = self._take()
        try:
            if connection.is_stale():
                connection.disconnect()
            connection.connect()
            if current_call() is None:  # for a subscription or a monitor
                connection.unbound()
        except BaseException:
            self.release(connection)
            raise
        return connection

    def release(self, connection: ConnectionInterface) -> None:
        """Give a connection back: to the longest waiter, else to the idle ones."""
        self._checkpid()
        with self._lock:
            if connection not in self._in_use_connections:
                return
            if connection.should_reconnect():
                connection.disconnect()
            if self._waiters:
                waiter = self._waiters.popleft()
                waiter.connection = connection
                waiter.handed.set()
            else:
                self._in_use_connections.remove(connection)
                self._available_connections.append(connection)

    def _take(self) -> Any:
        """Decide under the lock who gets what; wait outside of it."""
        deadline = current_deadline(self.config)
        with self._lock:
            # 1. One is idle, so nobody waits: the most recently used one is the least likely to have gone stale.
            if self._available_connections:
                connection = self._available_connections.pop()
                self._in_use_connections.add(connection)
                return connection
            # 2. There is room for one more.
            if self._created_connections < self.max_connections:
                connection = self.make_connection()
                self._in_use_connections.add(connection)
                return connection
            # 3. Queue.
            waiter = _Waiter()
            self._waiters.append(waiter)
        began_s = time.monotonic()
        try:
            waiter.handed.wait(max(0.0, min(deadline.left_s(), threading.TIMEOUT_MAX)))
        except BaseException:  # Ctrl-C: nobody may hand a connection to one who has left
            if (connection := self._leave(waiter)) is not None:
                self.release(connection)
            raise
        # It may have been handed over just after the wait ended.
        if (connection := self._leave(waiter)) is not None:
            return connection
        raise PoolExhausted(
            f"all {self.max_connections} connections to {self.config.endpoint} stayed in use for {time.monotonic() - began_s:.3g} s: "
            "raise REDIS_POOL_SIZE, or hold connections for a shorter time"
        )

    def _leave(self, waiter: _Waiter) -> Any:
        """Return what a waiter was handed; else take it out of the queue and return None."""
        with self._lock:
            if waiter.connection is None:
                self._waiters.remove(waiter)
            return waiter.connection
