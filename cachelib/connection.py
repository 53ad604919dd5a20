"""redis-py's connections, whose every step ends by a deadline, and which know when a command has left."""

import contextlib
import random
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable, Sequence
from typing import Any

import redis
from redis.connection import Connection, SSLConnection
from redis.maint_notifications import MaintNotificationsConfig

from cachelib.call import Call, current_call
from cachelib.config import Config
from cachelib.handshake import check_answer, greeting, tls_context, untrusted
from cachelib.wire import pack

# The socket's time-out is changed only where it would end a call later than this, in seconds: changing it is a system call.
_SLACK_S = 0.01

_SENDS, _RECEIVES = 0, 1


def common_options(config: Config) -> dict[str, Any]:
    """Return what redis-py's pools are told alike for threads and for asyncio; `_introduce` logs in, so they hold no password."""
    return {
        "config": config,
        "host": config.host,
        "port": config.port,
        "db": config.db,
        "socket_connect_timeout": config.connect_timeout_s,
        "driver_info": None,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }


def forget_unsent(connected: Any) -> None:
    """Let the system drop, when a socket is closed, what it has not delivered: a command that was given up must not arrive later.

    Args:
        connected: a socket, or what an event loop gives for one; None where it has ended.
    """
    if connected is None:
        return
    with contextlib.suppress(OSError, ValueError):  # it has been closed; the second is what uvloop says
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class _BoundedSocket:
    """A connected socket that looks at the clock before each send and receive, and outlives them when another thread closes it.

    Otherwise its number could be that of the next socket by the time the system looks at it, and the wait would be for that one's data.

    Attributes:
        until_s: by when whoever uses it now has to end; None leaves it to the call that is under way.
        begun: whether a byte of what was last transmitted may have left.
        greeting_until_s: by when the connection has introduced itself; what is sent until then is no command yet. None afterwards.

    Args:
        connected: the socket.
        greeting_until_s: as above.
    """

    __slots__ = ("_armed_s", "_busy", "_closed", "_socket", "begun", "greeting_until_s", "until_s")

    def __init__(self, connected: socket.socket, greeting_until_s: float) -> None:
        self._socket = connected
        self.greeting_until_s: float | None = greeting_until_s
        self._armed_s = -1.0
        # Whether it sends, and whether it receives: of a subscription, one thread may do the one and another the other.
        self._busy = [False, False]
        self._closed = self.begun = False
        self.until_s: float | None = None

    def transmit(self, data: bytes, until_s: float) -> None:
        """Send all bytes; where the socket fails, the last of them has not left."""
        self.begun = True  # an interrupt may come when the system has taken the data, and nobody has said so
        try:
            sent: int = self._use(_SENDS, self._socket.send, data, until_s)
        except (OSError, redis.RedisError):
            self.begun = False
            raise
        while sent < len(data):
            sent += self._use(_SENDS, self._socket.send, memoryview(data)[sent:], until_s)

    def sendall(self, data: bytes) -> None:
        until_s = None
        if self.greeting_until_s is not None:
            until_s = self._greeting_until_s()
        elif call := current_call():
            until_s = call.until_s
            if call.left_s() > 0:
                call.sent = True
        self._use(_SENDS, self._socket.sendall, data, until_s)

    def recv_into(self, buffer: bytearray) -> int:
        until_s = self.until_s
        if self.greeting_until_s is not None:
            until_s = self._greeting_until_s()
        elif until_s is None and (call := current_call()):
            until_s = call.reply_until_s
        received: int = self._use(_RECEIVES, self._socket.recv_into, buffer, until_s)
        return received

    def close(self) -> None:
        self._closed = True
        self._close_unused()

    def settimeout(self, timeout_s: float | None) -> None:
        self._armed_s = -1.0
        self._socket.settimeout(timeout_s)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def _close_unused(self) -> None:
        if not any(self._busy):
            self._socket.close()

    def _use(self, how: int, act: Callable[[Any], Any], data: Any, until_s: float | None) -> Any:
        self._busy[how] = True
        try:
            if self._closed:
                raise redis.ConnectionError("another thread closed the connection")
            if until_s is not None:
                self._arm(until_s)
            return act(data)
        except TimeoutError:
            forget_unsent(self._socket)
            raise
        finally:
            self._busy[how] = False
            if self._closed:
                self._close_unused()

    def _greeting_until_s(self) -> float:
        assert self.greeting_until_s is not None
        call = current_call()
        return min(self.greeting_until_s, call.until_s) if call else self.greeting_until_s

    def _arm(self, until_s: float) -> None:
        left_s = until_s - time.monotonic()
        if left_s <= self._armed_s <= left_s + _SLACK_S and left_s > 0:
            return
        if left_s <= 0:
            raise TimeoutError("deadline passed")
        self._armed_s = min(left_s, 1e6) + _SLACK_S / 2
        self._socket.settimeout(self._armed_s)


class BoundedConnection(Connection):
    """A TCP connection.

    Args:
        config: where to, and how long it may take and live.
        options: of redis-py's connection.

    Attributes:
        up: whether the pool counts it as connected.
        on_greeted: is told that the server has let it in, before redis-py's connect callbacks are called.
    """

    def __init__(self, *, config: Config, **options: Any) -> None:
        self.config = config
        self.up = False
        self.on_greeted: Callable[[], None] = lambda: None
        self._retire_s = float("inf")
        self._poller: Any = None
        super().__init__(redis_connect_func=_introduce, **options)

    @property
    def socket_connect_timeout(self) -> float:
        """Seconds that a connection attempt may take now."""
        configured = float(self._socket_connect_timeout or 0.0)
        call = current_call()
        return max(0.001, min(configured, call.left_s())) if call else configured

    @socket_connect_timeout.setter
    def socket_connect_timeout(self, value: float) -> None:
        self._socket_connect_timeout = value

    def transmit(self, packed: bytes, call: Call) -> None:
        """Send a command, or several at once, and mark the call as sent.

        Raises:
            redis.ConnectionError, redis.TimeoutError, OSError: and then the call is marked only where a part may be of use to the server.
        """
        self._bounded().transmit(packed, call.until_s)
        call.sent = True

    def transmit_together(self, packed: bytes, calls: Sequence[Call]) -> None:
        """Send the commands of several calls by the deadline of the first; once a byte has left, all are marked as sent.

        Raises:
            redis.ConnectionError, redis.TimeoutError, OSError: the connection is of no more use.
        """
        bounded = self._bounded()
        try:
            bounded.transmit(packed, calls[0].until_s)
        finally:
            if bounded.begun:  # a part of the whole is of use to the server
                for call in calls:
                    call.sent = True

    def receive(self, raw: bool, until_s: float) -> Any:
        """Read one reply; an error is returned where it concerns this reply only.

        Args:
            raw: whether text stays `bytes`, whatever the client decodes.
            until_s: by when, on the clock of `time.monotonic`.

        Raises:
            redis.TimeoutError: a part of the reply is kept; reading may go on.
            redis.ConnectionError, OSError: the connection is of no more use.
        """
        bounded = self._bounded()
        bounded.until_s = until_s
        try:
            return self._parser.read_response(disable_decoding=raw)
        except (redis.BusyLoadingError, redis.AuthenticationError, UnicodeDecodeError) as error:
            return error  # the server's answer, which redis-py takes for a lost connection; or one that can't be decoded, and was read
        finally:
            bounded.until_s = None

    def _bounded(self) -> _BoundedSocket:
        bounded: _BoundedSocket | None = self._sock
        if bounded is None:
            raise redis.ConnectionError("another thread closed the connection")
        return bounded

    def is_stale(self) -> bool:
        """Tell whether an idle connection was closed by the server or holds an unread reply; it looks, and sends nothing."""
        if self._poller is not None:
            return self._sock is not None and bool(self._poller.poll(0))
        try:
            return self.is_connected and bool(self.can_read())
        except (redis.RedisError, OSError):
            return True

    def is_old(self) -> bool:
        """Tell whether it has reached the age at which it is replaced."""
        return time.monotonic() > self._retire_s

    def unbound(self) -> None:
        """Give the socket back the configured time-out, which the last call had shortened."""
        if self._sock:
            self._sock.settimeout(self.socket_timeout)

    def _connect(self) -> Any:
        until_s = time.monotonic() + float(self._socket_connect_timeout or 0.0)
        connected = super()._connect()
        # All connections of a pool made at the same time shouldn't end at the same time.
        self._retire_s = time.monotonic() + self.config.connection_max_age_s * random.uniform(0.9, 1.0)
        if hasattr(select, "poll"):
            self._poller = select.poll()
            self._poller.register(connected, select.POLLIN)
        return _BoundedSocket(connected, until_s)


class BoundedSSLConnection(BoundedConnection, SSLConnection):
    """A TLS connection."""

    def transmit(self, packed: bytes, call: Call) -> None:
        """Send a command; what a failed write has left in the TLS layer can't be told, so the call counts as sent."""
        call.sent = True
        super().transmit(packed, call)

    def transmit_together(self, packed: bytes, calls: Sequence[Call]) -> None:
        """Send the commands of several calls, which all count as sent."""
        for call in calls:
            call.sent = True
        super().transmit_together(packed, calls)

    def _wrap_socket_with_ssl(self, sock: socket.socket) -> Any:
        context = tls_context(self.config)  # which takes so long that what is left has to be looked up after it
        sock.settimeout(self.socket_connect_timeout)
        try:
            return context.wrap_socket(sock, server_hostname=self.config.host)
        except ssl.SSLCertVerificationError as error:
            raise untrusted(self.config, error) from error


def _introduce(connection: BoundedConnection) -> None:
    """Open the session in one round trip, where redis-py takes one for each command.

    Raises:
        Refused: the server refused the login or the database.
        redis.ConnectionError, redis.TimeoutError: it does not serve.
    """
    commands = greeting(connection.config)
    connection._parser.on_connect(connection)
    connection.send_packed_command([b"".join(map(pack, commands))], check_health=False)
    for command in commands:
        try:
            answer: Any = connection.read_response()
        except redis.ResponseError as error:
            answer = error
        except redis.AuthenticationError as error:
            answer = error
        check_answer(connection.config, command, answer)
    connection._bounded().greeting_until_s = None
    connection.on_greeted()
