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
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from cachelib.call import NOT_SERVED, Call, current_call, run, under_way
from cachelib.config import Config
from cachelib.connection import BoundedConnection, BoundedSSLConnection, common_options
from cachelib.errors import CacheError
from cachelib.events import Journal
from cachelib.outage import Demotions, Gate
from cachelib.stats import PoolStats, events_counted

# How many commands a caller takes along at the most, and how many bytes of them. More would wake more threads at once than the interpreter
# runs in order: of a thousand threads, the longest wait was 4 to 5 medians with 64, and is 2 with 8, at the same rate.
_CONVOY_COMMANDS = 8
_CONVOY_BYTES = 65_536

# A caller whose own reply has come waits so long, in seconds, for those that it reads for others: they travelled together, but may be lost.
_COURTESY_S = 0.005

_NOTHING = object()


class _Turn:
    """A caller in the queue.

    Attributes:
        call: whose turn it is.
        packed: its command, which another caller may take along; empty where it needs the connection for itself.
        raw: whether its reply stays `bytes`.
        gate: opened once, when it is handed a connection, a reply or an error, by whoever does that.
        connection: that it was handed.
        due: on that connection, the callers whose replies are still to be read, in order; empty where nothing was sent yet.
        aboard: whether another caller has taken it along.
        gone: whether it has left while another caller had taken it along.
    """

    __slots__ = ("aboard", "call", "connection", "due", "error", "gate", "gone", "packed", "raw", "reply")

    def __init__(self, call: Call, packed: bytes, raw: bool) -> None:
        self.call, self.packed, self.raw = call, packed, raw
        self.gate = threading.Lock()
        self.gate.acquire()
        self.connection: Any = None
        self.due: deque[_Turn] = deque()
        self.aboard = self.gone = False
        self.reply: Any = _NOTHING
        self.error: Exception | None = None

    def result(self) -> Any:
        """Return the reply that this or another caller has read."""
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
        self._demotions = Demotions()
        super().__init__(
            connection_class=BoundedSSLConnection if config.tls else BoundedConnection,
            max_connections=config.pool_size,
            socket_timeout=config.deadline_s,
            decode_responses=decode_responses,
            retry=Retry(NoBackoff(), 0),  # retries are decided in one place, `Call.after`
            **common_options(config),
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
            **events_counted(self.journal),
        )

    def reset(self) -> None:
        """Forget every connection and every waiter; redis-py calls it at the start and in a forked child."""
        self._queue: deque[_Turn] = deque()
        self._gate = Gate(self.config, self.journal)
        self._lock = threading.RLock()
        self.journal.renew()
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
        if turn is None:
            reply = self._ride(connection, call, packed, raw)
        elif connection is None:
            reply = turn.result()
        else:
            reply = self._read(connection, turn, turn.due)
        if isinstance(reply, NOT_SERVED):
            raise reply
        return reply

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
        run(call, lambda: self.await_connected(connection, call))
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
                return
            self._in_use_connections.remove(connection)
            self._available_connections.append(connection)
        if connection.up and self._gate.closed:
            self._gate.nudge()

    def replace(self, connection: BoundedConnection) -> None:
        """Give up a connection that somebody may still use, or has changed, and put a new one into its place."""
        with self._lock:
            if connection not in self._in_use_connections:
                return
            self._retired += connection.up and connection.is_connected
            self._lost += connection.up and not connection.is_connected
            self._in_use_connections.remove(connection)
            self._created_connections -= 1
            fresh = self.make_connection()
            self._in_use_connections.add(fresh)
        connection.disconnect()
        self.release(fresh)

    def _take(self, call: Call, packed: bytes = b"", raw: bool = False) -> tuple[Any, _Turn | None]:
        """Return a connected connection; with a turn, if it was sent meanwhile: then there is no connection, or replies are due on it."""
        self._checkpid()
        gate = self._gate
        try:
            while True:
                # 1. The server is away. A connection that still works is as good as ever; a new one is the prober's business.
                if gate.closed:
                    connection = self._spare()
                    if connection is not None:
                        return connection, None
                    gate.wait(call)
                    if gate.closed and not gate.probes(call):
                        continue
                # 2. The server is there, or this caller is the prober.
                connection, turn = self._next(call, packed, raw)
                if turn is not None:
                    return connection, turn
                try:
                    if connection.up and self._is_usable(connection):
                        return connection, None
                    # It may have gone away while this caller queued.
                    if (not gate.closed or gate.probes(call)) and self._connected(connection, call):
                        return connection, None
                except BaseException:
                    self.release(connection)
                    raise
                self.release(connection)
        finally:
            if gate.closed:
                gate.leave(call)

    def _spare(self) -> Any:
        """Return an idle connection that works, None if there is none."""
        with self._lock:
            connection = next((spare for spare in reversed(self._available_connections) if spare.up), None)
            if connection is None:
                return None
            self._available_connections.remove(connection)
            self._in_use_connections.add(connection)
        if self._is_usable(connection):
            return connection
        self.release(connection)
        return None

    def renew(self, connection: BoundedConnection, call: Call) -> None:
        """Connect a connection that its caller keeps, if it was lost while idle, as `await_connected` does."""
        if connection.is_stale():
            connection.disconnect()
        if not connection.is_connected:
            self.await_connected(connection, call)

    def await_connected(self, connection: BoundedConnection, call: Call) -> None:
        """Connect a connection that its caller keeps, once the server is back.

        Raises:
            Refused: the server refused the login or the database.
            redis.ConnectionError: it was not back by the deadline of the call.
        """
        gate = self._gate
        try:
            while True:
                if gate.closed:
                    gate.wait(call)
                if (not gate.closed or gate.probes(call)) and self._connected(connection, call):
                    return
        finally:
            if gate.closed:
                gate.leave(call)

    def _connected(self, connection: BoundedConnection, call: Call) -> bool:
        """Connect; return false where the server is away, which closes the gate."""
        if connection.up:  # it was lost while its caller kept it
            connection.up = False
            self._lost += 1
        # A subscription's connect callback wants a lock that another of its threads may hold at the gate, so it can't open the gate.
        connection.on_greeted = self._gate.opened
        try:
            with under_way(call):
                connection.connect()
        except CacheError:  # refused: it is there
            self._gate.opened()
            raise
        except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
            self._gate.failed(call, error)
            return False
        except BaseException:  # what is left of the greeting would be taken for replies
            connection.disconnect()
            raise
        connection.up = True
        self._made += 1
        return True

    def _is_usable(self, connection: BoundedConnection) -> bool:
        if connection.is_connected:
            if connection.is_stale():
                self._lost += 1
            elif connection.is_old():
                self._retired += 1
            else:
                return connection.is_connected
            connection.disconnect()
        connection.up = False
        return False

    def _next(self, call: Call, packed: bytes, raw: bool) -> tuple[Any, _Turn | None]:
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
        if self._gate.closed:
            self._gate.leave(call)  # the prober does not queue: others may have what it needs
        connection = self._queue_up(turn)
        return connection, turn if turn.aboard else None

    def _queue_up(self, turn: _Turn) -> Any:
        """Return the connection that a turn is handed, None if another caller has served it.

        Raises:
            PoolExhausted: its deadline passes in the queue.
            redis.TimeoutError: its deadline passes while another caller has taken it along.
        """
        call = turn.call
        try:
            opened = turn.gate.acquire(timeout=max(0.0, min(call.left_s(), threading.TIMEOUT_MAX)))
        except BaseException as error:  # Ctrl-C: nobody may hand a connection to one who has left
            self._leave(turn)
            if turn.connection is not None:
                if turn.due:
                    self._break(turn.connection, turn, turn.due, error)
                self.release(turn.connection)
            raise
        if not opened:
            self._leave(turn)
        # It may have been served just after the wait ended.
        if turn.connection is not None:
            return turn.connection
        if turn.reply is not _NOTHING or turn.error is not None:
            return None
        if turn.aboard:
            call.sent = True
            raise redis.TimeoutError("deadline passed")
        raise call.exhausted()

    def _leave(self, turn: _Turn) -> None:
        """Take a turn out of the queue, or note that nobody waits for its reply."""
        with self._lock:
            turn.gone = turn.aboard and turn.connection is None
            if not turn.aboard and turn.connection is None:
                self._queue.remove(turn)

    def _ride(self, connection: BoundedConnection, call: Call, packed: bytes, raw: bool) -> Any:
        """Send one command on a connection, and with it those of callers who queue; return our reply."""
        if call.left_s() <= 0:  # it was handed the connection too late
            self.release(connection)
            raise redis.TimeoutError("deadline passed")
        if self._queue and call.patient and (aboard := self._board(len(packed))):
            return self._convoy(connection, _Turn(call, packed, raw), aboard)
        try:
            connection.transmit(packed, call)
            reply = connection.receive(raw, call.reply_until_s)
            if isinstance(reply, NOT_SERVED):
                self.demote(connection)
            return reply
        except BaseException as error:
            connection.disconnect()
            self._distrust(call, error)
            raise
        finally:
            self.release(connection)

    def _board(self, size: int) -> list[_Turn]:
        """Take along those at the head of the queue who only want a command sent, and have the usual time."""
        aboard: list[_Turn] = []
        with self._lock:
            while self._queue and len(aboard) < _CONVOY_COMMANDS:
                turn = self._queue[0]
                size += len(turn.packed)
                if not turn.packed or not turn.call.patient or size > _CONVOY_BYTES:
                    break
                turn.aboard = True
                aboard.append(self._queue.popleft())
        return aboard

    def _convoy(self, connection: BoundedConnection, turn: _Turn, aboard: Sequence[_Turn]) -> Any:
        """Send our command and those taken along; return our reply."""
        due = deque([turn, *aboard])
        try:
            connection.transmit_together(b"".join([other.packed for other in due]), [other.call for other in due])
        except BaseException as error:
            self._break(connection, turn, due, error)
            self._distrust(turn.call, error)
            self.release(connection)
            raise
        return self._read(connection, turn, due)

    def _read(self, connection: BoundedConnection, turn: _Turn, due: deque[_Turn]) -> Any:
        """Read the replies of all who are due, until ours has come and the next does not follow, or our time is over. Return our reply.

        Then the next of those who wait goes on; where nobody does, the connection is given up.
        """
        served, heir, demoted = [], None, False
        until_s = turn.call.reply_until_s
        try:
            while due:
                other = due[0]
                other.reply = connection.receive(other.raw, until_s)
                if other is turn:
                    until_s = min(until_s, time.monotonic() + _COURTESY_S)
                demoted = demoted or isinstance(other.reply, NOT_SERVED)
                served.append(due.popleft())
            if demoted:
                self.demote(connection)
        except BaseException as error:
            if isinstance(error, TimeoutError | redis.TimeoutError):
                heir = self._heir(connection, turn, due)
            if heir is None:
                self._break(connection, turn, due, error)
                if turn.reply is _NOTHING:
                    self._distrust(turn.call, error)
            if turn.reply is _NOTHING or not isinstance(error, Exception):
                raise
        finally:
            # The connection first: its next user sends while those who are served wake up.
            if heir is None:
                self.release(connection)
            for other in served:
                if other.connection is None and other is not turn:  # or it is not waiting any more
                    other.gate.release()
            if heir is not None:
                heir.gate.release()
        return turn.reply

    def _heir(self, connection: BoundedConnection, turn: _Turn, due: deque[_Turn]) -> _Turn | None:
        """Hand a connection to the next of those due who still waits, and has more time than we; a reply read in part is kept."""
        with self._lock:
            for other in due:
                if other is not turn and not other.gone and other.connection is None and other.call.left_s() > 0:
                    other.connection, other.due = connection, due
                    return other
        return None

    def _break(self, connection: BoundedConnection, turn: _Turn, due: deque[_Turn], error: BaseException) -> None:
        """Give up a connection that a turn has, and tell the others who are due that their replies are lost."""
        connection.disconnect()
        for other in due:
            if other.connection is None and other is not turn:
                if other.reply is _NOTHING:
                    other.error = redis.ConnectionError(str(error) or type(error).__name__)
                other.gate.release()

    def demote(self, connection: BoundedConnection, *, busy: bool = False) -> None:
        """Give a connection up whose server was a master once, or loads its data.

        Args:
            connection: which one.
            busy: whether more replies are to be read; then it is given up when it is released.
        """
        if self._demotions.due():
            if busy:
                connection.mark_for_reconnect()
            else:
                connection.disconnect()

    def _distrust(self, call: Call, error: BaseException) -> None:
        """After a silence that was long for a connection, give up the idle ones too: the peer of all of them may have vanished."""
        if isinstance(error, TimeoutError | redis.TimeoutError) and time.monotonic() - call.began_s >= self.config.connect_timeout_s:
            with self._lock:
                for connection in self._available_connections:
                    self._lost += connection.up and connection.is_connected
                    connection.up = False
                    connection.disconnect()
