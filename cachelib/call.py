"""One call: its deadline, whether it was sent, and the loop of its attempts.

redis-py offers no way to hand a deadline from `execute_command` down to the pool, the connection and the socket, so the call travels
in a context variable, which each thread and each asyncio task has for itself.
"""

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

import redis
from redis.connection import Connection, SSLConnection

from cachelib.config import Config
from cachelib.errors import CacheError, OutcomeUnknown, Unavailable
from cachelib.policy import Deadline, Effect, Next, backoff_s, decide

T = TypeVar("T")

_deadline: ContextVar[Deadline | None] = ContextVar("cachelib_deadline", default=None)
_call: ContextVar["Call | None"] = ContextVar("cachelib_call", default=None)


class Call:
    """What is known of the call under way; `sent` turns true just before the first byte of its command leaves."""

    __slots__ = ("sent",)

    def __init__(self) -> None:
        self.sent = False


@contextlib.contextmanager
def deadline(timeout_s: float) -> Iterator[None]:
    """Bound all calls inside the `with` block, together, instead of each by the configured deadline.

    Args:
        timeout_s: seconds from now; an outer, earlier deadline still holds.

    Raises:
        ValueError: it is not a number above 0.
    """
    if not timeout_s > 0:
        raise ValueError(f"a deadline takes seconds above 0, got {timeout_s!r}")
    outer = _deadline.get()
    token = _deadline.set(Deadline(timeout_s if outer is None else min(timeout_s, outer.left_s())))
    try:
        yield
    finally:
        _deadline.reset(token)


def current_deadline(config: Config) -> Deadline:
    """Return the deadline that binds this thread now, or a new one of the configured length."""
    return _deadline.get() or Deadline(config.deadline_s)


def mark_sent() -> None:
    """Note that from here on the command under way may have reached the server."""
    if call := _call.get():
        call.sent = True


def run(config: Config, name: str, effect: Effect, attempt: Callable[[], T], *, blocking_s: float = 0.0, repeatable: bool = True) -> T:
    """Run attempts until one gets a reply, the deadline passes, or another one could apply a write twice.

    Args:
        config: the deadline and the backoff.
        name: of the command, without arguments, for messages.
        effect: what sending it once more would do.
        attempt: sends the command once and returns its reply; calls `mark_sent` before the first byte leaves.
        blocking_s: seconds that the command asks the server to block, on top of the deadline.
        repeatable: false where a new connection would not be the same (WATCH).

    Raises:
        Unavailable: no reply by the deadline, and nothing was changed.
        OutcomeUnknown: it may have been applied, and must not be sent again.
        Refused: the server refused the login or the database.
    """
    call, limit = Call(), current_deadline(config)
    if blocking_s:
        limit = Deadline(limit.timeout_s + blocking_s, limit.started_s)
    call_token, deadline_token = _call.set(call), _deadline.set(limit)
    attempts = 0
    try:
        while True:
            attempts += 1
            try:
                return attempt()
            except (redis.AuthenticationError, CacheError):
                raise
            except redis.BusyLoadingError as error:
                call.sent = False  # the server answered that it did nothing
                failure: Exception = error
            except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
                failure = error
            following = decide(effect, sent=call.sent, time_left_s=limit.left_s() if repeatable else 0.0)
            if following is not Next.RETRY:
                raise _final(following, config, name, limit, attempts, failure) from failure
            time.sleep(max(0.0, min(backoff_s(attempts, config.backoff_base_s, config.backoff_cap_s), limit.left_s())))
    finally:
        _deadline.reset(deadline_token)
        _call.reset(call_token)


def _final(following: Next, config: Config, name: str, limit: Deadline, attempts: int, failure: Exception) -> CacheError:
    waited = f"{limit.elapsed_s():.3g} s in {attempts} attempt{'s' if attempts > 1 else ''}"
    if following is Next.UNKNOWN:
        return OutcomeUnknown(
            f"{name} was sent to {config.endpoint} and its reply was lost after {waited} ({failure}): it may or may not have been "
            "applied. Read the data back before you send it again."
        )
    return Unavailable(
        f"{name} got no answer from {config.endpoint} within {waited} ({failure}), and changed nothing. Is the server up and reachable?"
    )


class _BoundedSocket:
    """A socket whose every send and receive ends by the deadline of the call under way."""

    __slots__ = ("_socket",)

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected

    def _bound(self) -> None:
        if (limit := _deadline.get()) is not None:
            left_s = limit.left_s()
            if left_s <= 0:
                raise TimeoutError("deadline passed")
            self._socket.settimeout(min(left_s, 1e6))

    def sendall(self, data: bytes) -> None:
        self._bound()
        self._socket.sendall(data)

    def recv_into(self, buffer: bytearray) -> int:
        self._bound()
        return self._socket.recv_into(buffer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)


class _Bounded(Connection):
    """A connection that takes no longer to make than the call under way has left."""

    @property
    def socket_connect_timeout(self) -> float:
        limit = _deadline.get()
        configured = super().socket_connect_timeout or 0.0
        return float(configured if limit is None else max(0.001, min(configured, limit.left_s())))

    @socket_connect_timeout.setter
    def socket_connect_timeout(self, value: float) -> None:
        self._socket_connect_timeout = value

    def _connect(self) -> Any:
        return _BoundedSocket(super()._connect())


class BoundedConnection(_Bounded):
    """A TCP connection whose every step ends by the deadline."""


class BoundedSSLConnection(_Bounded, SSLConnection):
    """A TLS connection whose every step ends by the deadline."""

    def _wrap_socket_with_ssl(self, sock: socket.socket) -> Any:
        sock.settimeout(self.socket_connect_timeout)
        return super()._wrap_socket_with_ssl(sock)
