"""The health check: what a Redis is fit for now, with a code for each reason why it is not."""

import enum
import time
import uuid
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeVar

import redis
import redis.asyncio
from redis.exceptions import NoPermissionError

from cachelib.call import Away, deadline
from cachelib.errors import CacheError, Refused


class Reason(enum.StrEnum):
    """Why a server is not fully healthy."""

    UNREACHABLE = "unreachable"  # no answer within the deadline
    REFUSED = "refused"  # wrong password or database
    LOADING = "loading"  # reads its data from disk
    NO_PERMISSION = "no-permission"  # the user may not do what the check does
    WRONG_REPLY = "wrong-reply"  # PING was not answered with PONG
    READ_ONLY = "read-only"  # a replica
    NOT_REDIS = "not-redis"  # what answers does not speak Redis
    OUT_OF_MEMORY = "out-of-memory"  # at maxmemory, and nothing may be evicted
    DISK_FAILING = "disk-failing"  # writes are refused since the last one to disk failed
    CANARY_LOST = "canary-lost"  # a value written was not read back
    AOF_OFF = "aof-off"  # nothing written survives a restart
    SERVER_ERROR = "server-error"  # any other error reply
    CHECK_FAILED = "check-failed"  # the check itself broke, which says nothing about the server


@dataclass(frozen=True, slots=True)
class HealthReport:
    """The result of `check` and `check_async`.

    Attributes:
        live: something that speaks Redis answers.
        ready: it serves reads: PING was answered with PONG.
        writable: a canary value was written, read back and deleted.
        durable: the append-only file is on and its last write succeeded; None if the user may not see it, or the server does not say.
        reasons: why one of these is not true, in the order found.
        detail: the server's or the client's words for the first reason; no secret.
        duration_s: how long the check took, in seconds.
    """

    live: bool
    ready: bool
    writable: bool
    durable: bool | None
    reasons: tuple[Reason, ...]
    detail: str
    duration_s: float

    @property
    def healthy(self) -> bool:
        """Tell whether it is fit for an application: ready and writable."""
        return self.ready and self.writable


# The prefix of the canary's key: the only key that a check touches.
CANARY_PREFIX = "cachelib:canary:"

_REPLY_REASONS = {
    "OOM": Reason.OUT_OF_MEMORY,
    "MISCONF": Reason.DISK_FAILING,
    "NOPERM": Reason.NO_PERMISSION,
}


def check(client: redis.Redis, *, timeout_s: float = 1.0) -> HealthReport:
    """Check a server with PING, a canary value and INFO; it never raises for a sick server.

    Args:
        client: made by `connect`; with any other client the deadline is that client's own.
        timeout_s: bound of the whole check, in seconds.

    Raises:
        TypeError: the client is one of asyncio.
    """
    if isinstance(client, redis.asyncio.Redis):
        raise TypeError("check takes a client of connect; in asyncio: await check_async(client)")
    steps = _steps()
    with deadline(timeout_s):
        step = _next(steps)
        while not isinstance(step, HealthReport):
            try:
                reply = client.execute_command(*step)
            except redis.RedisError as error:
                step = _next(steps, error=error)
            else:
                step = _next(steps, reply)
    return step


async def check_async(client: redis.asyncio.Redis, *, timeout_s: float = 1.0) -> HealthReport:
    """Check a server as `check` does.

    Args:
        client: made by `connect_async`; with any other client the deadline is that client's own.
        timeout_s: bound of the whole check, in seconds.

    Raises:
        TypeError: the client is none of asyncio.
    """
    if not isinstance(client, redis.asyncio.Redis):
        raise TypeError("check_async takes a client of connect_async; with threads: check(client)")
    steps = _steps()
    with deadline(timeout_s):
        step = _next(steps)
        while not isinstance(step, HealthReport):
            try:
                reply = await client.execute_command(*step)
            except redis.RedisError as error:
                step = _next(steps, error=error)
            else:
                step = _next(steps, reply)
    return step


# A part of a check: yields commands, is sent the reply to each or thrown the error, and returns what it has found. Threads and asyncio
# differ in how a command is sent, and in nothing else.
_Found = TypeVar("_Found")
_Command = tuple[str | int, ...]
_Steps = Generator[_Command, Any, _Found]


def _next(steps: _Steps[HealthReport], reply: Any = None, *, error: redis.RedisError | None = None) -> _Command | HealthReport:
    """Hand over the reply to the last command, or the error, and return the next command, or the report after the last."""
    try:
        return steps.throw(error) if error else steps.send(reply)
    except StopIteration as end:
        report: HealthReport = end.value
        return report


def _steps() -> _Steps[HealthReport]:
    started_s = time.monotonic()
    live = ready = writable = False
    durable: bool | None = None
    reasons: list[Reason] = []
    detail = ""
    try:
        ready = yield from _ping()
        live = True
        if not ready:
            reasons.append(Reason.WRONG_REPLY)
        durable = yield from _durable()
        if durable is False:
            reasons.append(Reason.AOF_OFF)
        if (yield from _canary()):
            writable = True
        else:
            reasons.append(Reason.CANARY_LOST)
    except redis.RedisError as error:
        reason = _reason(error)
        live = live or reason not in (Reason.UNREACHABLE, Reason.NOT_REDIS)
        reasons.insert(0, reason)
        detail = str(error)
    return HealthReport(live, ready, writable, durable, tuple(reasons), detail, time.monotonic() - started_s)


def _ping() -> _Steps[bool]:
    try:
        return (yield ("PING",)) in (True, b"PONG", "PONG")
    except redis.ResponseError as error:
        if _code(error) != "MISCONF":
            raise
    # A server that can't save refuses PING too, but serves reads; that it refuses writes is found out next.
    yield ("EXISTS", CANARY_PREFIX)
    return True


def _durable() -> _Steps[bool | None]:
    try:
        info = yield ("INFO", "persistence")
    except NoPermissionError:
        return None
    enabled, status = info.get("aof_enabled"), info.get("aof_last_write_status")  # a server that only resembles Redis may not say
    return None if enabled is None else bool(enabled) and status == "ok"


def _canary() -> _Steps[bool]:
    """Write a value under a key of its own, read it back and delete it; the key expires by itself if we die in between."""
    key, value = CANARY_PREFIX + uuid.uuid4().hex, uuid.uuid4().hex
    yield ("SET", key, value, "PX", 10_000)
    found = yield ("GET", key)
    yield ("DEL", key)
    return found in (value, value.encode())


def _reason(error: redis.RedisError) -> Reason:
    cause: BaseException = error
    while isinstance(cause, CacheError | Away) and cause.__cause__:
        cause = cause.__cause__
    if isinstance(error, Refused) or isinstance(cause, redis.AuthenticationError):
        return Reason.REFUSED
    if isinstance(cause, redis.BusyLoadingError):
        return Reason.LOADING
    if isinstance(error, redis.InvalidResponse):
        return Reason.NOT_REDIS
    if isinstance(cause, redis.ReadOnlyError):
        return Reason.READ_ONLY
    if isinstance(error, redis.ConnectionError | redis.TimeoutError | CacheError):
        return Reason.UNREACHABLE
    return _REPLY_REASONS.get(_code(error), Reason.SERVER_ERROR)


def _code(error: redis.RedisError) -> str:
    return getattr(error, "status_code", None) or str(error).split(" ", 1)[0]
