"""A bounded connection pool that serves callers in the order in which they came.

redis-py's `BlockingConnectionPool` wakes an arbitrary waiter, so some starve; here a connection is handed to the longest waiter. He takes
the commands of those behind him along in the same write: under threads, waking one another is what costs time, not Redis. The bookkeeping
lives in the attributes of `redis.ConnectionPool` (pinned to redis-py 8.1 by a test), so that `disconnect`, `close` and fork-safety are
redis-py's own.
"""

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from cachelib.call import Call, current_call, run, under_way
from cachelib.config import Config
from cachelib.connection import BoundedConnection, BoundedSSLConnection
from cachelib.errors import CacheError, PoolExhausted
from cachelib.events import Journal, OutcomeLost
from cachelib.outage import DEMOTION_PACE_S, Gate

# How many commands travel in one write at the most, and how many bytes of them.
_CONVOY_COMMANDS = 64
_CONVOY_BYTES = 65_536

_NOTHING = object()


@dataclass(frozen=True, slots=True)
class PoolStats:
    """What a client's connections are doing, and what became of them since it was made.

    Attributes:
        size: how many there may be.
        in_use: held by a caller now.
        idle: connected, and free.
        waiting: callers that wait for one, or for the server to come back.
        made: how many were connected.
        lost: how many the server or the network ended, or a caller gave up on.
        retired: how many were replaced for their age.
        unknown: calls that ended with `OutcomeUnknown`.
    """

    size: int
    in_use: int
    idle: int
    waiting: int
    made: int
    lost: int
    retired: int
    unknown: int


class _Turn:
    """A caller in the queue.

    Attributes:
        call: whose turn it is.
        packed: its command, which another caller may take along; empty where it needs the connection for itself.
        raw: whether its reply stays `bytes`.
        gate: opened when it is handed a connection or a reply.
        aboard: whether another caller has taken it along.
    """

    __slots__ = ("aboard", "call", "connection", "error", "gate", "packed", "raw", "reply")

    def __init__(self, call: Call, packed: bytes, raw: bool) -> None:
        self.call, self.packed, self.raw = call, packed, raw
        self.gate = threading.Lock()
        self.gate.acquire()
        self.connection: Any = None
        self.aboard = False
        self.reply: Any = _NOTHING
        self.error: Exception | None = None

    def result(self) -> Any:
        """Return the reply that another caller has read."""
        if self.error is not None:
            raise self.error
        return self.reply


class FairPool(redis.ConnectionPool):
    """Connections of one `Config`, at most `pool_size`, made when first needed.

    Args:
        config: where to connect, and the bounds.
        journal: is told of outages.
        decode_responses: whether replies are `str` instead of `bytes`.
    """

    def __init__(self, config: Config, journal: Journal | None = None, *, decode_responses: bool = False) -> None:
        self.config = config
        self.journal = journal or Journal()
        self._made = self._lost = self._retired = 0
        self._demoted_s = 0.0
        tls: dict[str, Any] = {}
        if config.tls:
            files = {"ssl_ca_certs": config.tls_ca_file, "ssl_certfile": config.tls_cert_file, "ssl_keyfile": config.tls_key_file}
            tls = {name: str(path) for name, path in files.items() if path}
        super().__init__(
            connection_class=BoundedSSLConnection if config.tls else BoundedConnection,
            max_connections=config.pool_size,
            config=config,
            host=config.host,
            port=config.port,
            db=config.db,
            username=config.username,
            password=config.password.reveal() if config.password else None,
            socket_timeout=config.deadline_s,
            socket_connect_timeout=config.connect_timeout_s,
            decode_responses=decode_responses,
            retry=Retry(NoBackoff(), 0),  # retries are decided in one place, `Call.after`
            driver_info=None,
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
            **tls,
        )

    def __repr__(self) -> str:
        stats = self.stats()
        away = ", server away" if self._gate.closed else ""
        return f"<FairPool {self.config.endpoint} {stats.in_use}/{stats.size} in use, {stats.waiting} waiting{away}>"

    def stats(self) -> PoolStats:
        """Count connections and callers."""
        return PoolStats(
            size=self.max_connections,
            in_use=len(self._in_use_connections),
            idle=sum(connection.is_connected for connection in list(self._available_connections)),
            waiting=len(self._queue) + self._gate.waiting,
            made=self._made,
            lost=self._lost,
            retired=self._retired,
            unknown=self.journal.count(OutcomeLost),
        )

    def reset(self) -> None:
        """Forget every connection and every waiter; redis-py calls it at the start and in a forked child."""
        self._queue: deque[_Turn] = deque()
        self._gate = Gate(self.config, self.journal)
        self._lock = threading.RLock()
        super().reset()

    def exchange(self, call: Call, packed: bytes, raw: bool) -> Any:
        """Send one command and return its reply; an error reply is returned, too.

        Args:
            call: by when, and whether it was sent.
            packed: the command as bytes of the protocol.
            raw: whether the reply stays `bytes`.

        Raises:
            PoolExhausted: all connections stayed in use.
            redis.RedisError, OSError: no connection could be made, or the reply was lost.
        """
        connection, turn = self._take(call, packed, raw)
        if connection is None:
            return turn.result()
        aboard: Sequence[_Turn] = ()
        try:
            if self._queue and call.patient:
                aboard = self._board(len(packed))
            if aboard:
                reply = self._convoy(connection, call, packed, raw, aboard)
            else:
                connection.transmit(packed, call)
                reply = connection.receive(raw, call.reply_until_s)
            if isinstance(reply, redis.ReadOnlyError):
                self.demote(connection)
                raise reply
            return reply
        except BaseException as error:
            if not isinstance(error, redis.ReadOnlyError):
                connection.disconnect()
                self._distrust(call, error)
            raise
        finally:
            self.release(connection)
            for other in aboard:
                other.gate.release()

    def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> Any:
        """Return a connected connection, waiting for it in order until the deadline of the call.

        Raises:
            PoolExhausted: all of them stayed in use.
            Refused: the server refused the login or the database.
            redis.ConnectionError, redis.TimeoutError: no connection could be made; outside a call it is `Unavailable`.
        """
        if call := current_call():
            return self._take(call)[0]
        # For a subscription or a monitor.
        call = Call(self.config, self.journal, ())
        connection = run(call, lambda: self._take(call)[0])
        connection.unbound()
        return connection

    def reconnect(self, connection: BoundedConnection) -> None:
        """Connect a connection that its caller keeps, such as that of a subscription, once the server is back.

        Raises:
            Unavailable: it was not by the deadline.
            Refused: the server refused the login or the database.
        """
        call = Call(self.config, self.journal, ())
        run(call, lambda: self._await_connected(connection, call))
        connection.unbound()

    def release(self, connection: Any) -> None:
        """Give a connection back: to the longest waiter, else to the idle ones."""
        self._checkpid()
        with self._lock:
            if connection not in self._in_use_connections:
                return
            if connection.should_reconnect():
                connection.disconnect()
            if connection.up and not connection.is_connected:
                connection.up = False
                self._lost += 1
            if self._queue:
                turn = self._queue.popleft()
                turn.connection = connection
                turn.gate.release()
            else:
                self._in_use_connections.remove(connection)
                self._available_connections.append(connection)

    def _take(self, call: Call, packed: bytes = b"", raw: bool = False) -> tuple[Any, Any]:
        """Return a connected connection, or None and the turn which another caller has served."""
        self._checkpid()
        gate = self._gate
        while True:
            if gate.closed:
                self._wait_outside(call)
            connection, turn = self._next(call, packed, raw)
            if connection is None:
                return None, turn
            try:
                # 1. It is connected.
                if connection.up and self._is_usable(connection):
                    return connection, None
                # 2. The server went away while this caller queued: let the prober find out when it is back.
                if gate.closed and not gate.probes(call):
                    self.release(connection)
                    continue
                # 3. Connect.
                if self._connected(connection, call):
                    return connection, None
            except BaseException:
                self.release(connection)
                gate.leave(call)
                raise
            self.release(connection)

    def _await_connected(self, connection: BoundedConnection, call: Call) -> None:
        while True:
            if self._gate.closed:
                self._wait_outside(call)
            try:
                if self._connected(connection, call):
                    return
            except BaseException:
                self._gate.leave(call)
                raise

    def _wait_outside(self, call: Call) -> None:
        try:
            self._gate.wait(call)
        except BaseException:
            self._gate.leave(call)
            raise

    def _connected(self, connection: BoundedConnection, call: Call) -> bool:
        """Connect; return false where the server is away, which closes the gate."""
        try:
            with under_way(call):
                connection.connect()
        except CacheError:  # refused: it is there
            self._gate.opened()
            raise
        except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
            self._gate.failed(call, error)
            return False
        connection.up = True
        self._made += 1
        self._gate.opened()
        return True

    def _is_usable(self, connection: BoundedConnection) -> bool:
        if connection.is_stale():
            self._lost += 1
        elif connection.is_old():
            self._retired += 1
        else:
            return connection.is_connected
        connection.disconnect()
        connection.up = False
        return False

    def _next(self, call: Call, packed: bytes, raw: bool) -> tuple[Any, Any]:
        """Decide under the lock who gets what; wait outside of it."""
        with self._lock:
            # 1. One is idle, so nobody waits: the most recently used one is the least likely to have gone stale.
            if self._available_connections:
                connection = self._available_connections.pop()
                self._in_use_connections.add(connection)
                return connection, None
            # 2. There is room for one more.
            if self._created_connections < self.max_connections:
                connection = self.make_connection()
                self._in_use_connections.add(connection)
                return connection, None
            # 3. Queue.
            turn = _Turn(call, packed, raw)
            self._queue.append(turn)
        return self._queue_up(turn), turn

    def _queue_up(self, turn: _Turn) -> Any:
        """Return the connection that a turn is handed, None if another caller has served it.

        Raises:
            PoolExhausted: its deadline passes in the queue.
            redis.TimeoutError: its deadline passes while another caller has taken it along.
        """
        call = turn.call
        try:
            opened = turn.gate.acquire(timeout=max(0.0, min(call.left_s(), threading.TIMEOUT_MAX)))
        except BaseException:  # Ctrl-C: nobody may hand a connection to one who has left
            with self._lock:
                connection = self._leave(turn)
            if connection is not None:
                self.release(connection)
            raise
        if not opened:
            with self._lock:
                self._leave(turn)
        # It may have been served just after the wait ended.
        if turn.connection is not None:
            return turn.connection
        if turn.reply is not _NOTHING or turn.error is not None:
            return None
        if turn.aboard:
            call.sent = True
            raise redis.TimeoutError("deadline passed")
        raise PoolExhausted(
            f"all {self.max_connections} connections to {self.config.endpoint} stayed in use for {time.monotonic() - call.began_s:.3g} s: "
            "raise REDIS_POOL_SIZE, or hold connections for a shorter time"
        )

    def _leave(self, turn: _Turn) -> Any:
        """Take a turn out of the queue; return the connection that it was handed meanwhile."""
        if turn.connection is None and not turn.aboard:
            self._queue.remove(turn)
        return turn.connection

    def _board(self, size: int) -> list[_Turn]:
        """Take along those at the head of the queue who only want a command sent, and can wait as long as we."""
        aboard: list[_Turn] = []
        with self._lock:
            while self._queue and len(aboard) < _CONVOY_COMMANDS and size < _CONVOY_BYTES:
                turn = self._queue[0]
                if not turn.packed or not turn.call.patient:
                    break
                turn.aboard = True
                size += len(turn.packed)
                aboard.append(self._queue.popleft())
        return aboard

    def _convoy(self, connection: BoundedConnection, call: Call, packed: bytes, raw: bool, aboard: Sequence[_Turn]) -> Any:
        """Send our command and those taken along; settle theirs, return our reply."""
        reply: Any = _NOTHING
        try:
            for turn in aboard:
                turn.call.sent = True  # a part of the whole is of use to the server
            call.sent = True
            connection.transmit(b"".join([packed, *(turn.packed for turn in aboard)]), call)
            reply = connection.receive(raw, call.reply_until_s)
            for turn in aboard:
                turn.reply = connection.receive(turn.raw, call.reply_until_s)
        except BaseException as error:
            connection.disconnect()
            for turn in aboard:
                if turn.reply is _NOTHING:
                    turn.error = redis.ConnectionError(str(error) or type(error).__name__)
            if reply is _NOTHING or not isinstance(error, Exception):
                raise
        return reply

    def demote(self, connection: BoundedConnection) -> None:
        """Give a connection up whose server was a master once; not more often than a new one may be worth it."""
        now_s = time.monotonic()
        if now_s - self._demoted_s >= DEMOTION_PACE_S:
            self._demoted_s = now_s
            connection.disconnect()

    def _distrust(self, call: Call, error: BaseException) -> None:
        """After a silence that was long for a connection, give up the idle ones too: the peer of all of them may have vanished."""
        if isinstance(error, TimeoutError | redis.TimeoutError) and time.monotonic() - call.began_s >= self.config.connect_timeout_s:
            self.disconnect(inuse_connections=False)
