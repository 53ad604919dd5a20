"""redis-py's connections, whose every step ends by the deadline of the call under way, and which know when a command leaves."""

import socket
from typing import Any

import redis
from redis.connection import Connection, SSLConnection

from cachelib.call import current_call
from cachelib.errors import Refused


class _BoundedSocket:
    """A connected socket that looks at the clock before each send and receive.

    Attributes:
        greeting: whether the connection still introduces itself, so that what is sent is no command yet.
    """

    __slots__ = ("_socket", "greeting")

    def __init__(self, connected: socket.socket) -> None:
        self._socket, self.greeting = connected, True

    def sendall(self, data: bytes) -> None:
        if call := current_call():
            self._bound(call.limit.left_s())
            call.sent = call.sent or not self.greeting
        self._socket.sendall(data)

    def recv_into(self, buffer: bytearray) -> int:
        if call := current_call():
            self._bound((call.limit if self.greeting else call.reply_limit).left_s())
        return self._socket.recv_into(buffer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def _bound(self, left_s: float) -> None:
        if left_s <= 0:
            raise TimeoutError("deadline passed")
        self._socket.settimeout(min(left_s, 1e6))


class BoundedConnection(Connection):
    """A TCP connection."""

    @property
    def socket_connect_timeout(self) -> float:
        """Seconds that a connection attempt may take now."""
        configured = float(self._socket_connect_timeout or 0.0)
        call = current_call()
        return max(0.001, min(configured, call.limit.left_s())) if call else configured

    @socket_connect_timeout.setter
    def socket_connect_timeout(self, value: float) -> None:
        self._socket_connect_timeout = value

    def connect_check_health(self, *args: Any, **options: Any) -> None:
        """Connect and log in.

        Raises:
            Refused: the server refused the login or the database.
        """
        try:
            super().connect_check_health(*args, **options)
        except (redis.AuthenticationError, redis.ResponseError) as error:
            raise Refused(
                f"{self._host_error()}/{self.db} refused the connection: {error}. Check REDIS_USERNAME, REDIS_PASSWORD and REDIS_DB."
            ) from error

    def on_connect_check_health(self, check_health: bool = True) -> None:
        """Introduce ourselves; what follows is commands."""
        super().on_connect_check_health(check_health)
        if isinstance(self._sock, _BoundedSocket):
            self._sock.greeting = False

    def is_stale(self) -> bool:
        """Tell whether an idle connection was closed by the server or holds an unread reply; it looks, and sends nothing."""
        try:
            return self.is_connected and bool(self.can_read())
        except (redis.RedisError, OSError):
            return True

    def unbound(self) -> None:
        """Give the socket back the configured time-out, which the last call had shortened."""
        if self._sock:
            self._sock.settimeout(self.socket_timeout)

    def _connect(self) -> Any:
        return _BoundedSocket(super()._connect())


class BoundedSSLConnection(BoundedConnection, SSLConnection):
    """A TLS connection."""

    def _wrap_socket_with_ssl(self, sock: socket.socket) -> Any:
        sock.settimeout(self.socket_connect_timeout)
        return super()._wrap_socket_with_ssl(sock)
