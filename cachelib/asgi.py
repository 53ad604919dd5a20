"""The health endpoint: an ASGI app that tells orchestrators, people and Prometheus how Redis is, and `python -m cachelib.asgi` to serve it.

Four paths, for GET and HEAD:

/livez      200 while this process answers; it never asks Redis
/readyz     200 if Redis answers PING and keeps a canary value; else 503 with the reason codes
/health     the same as JSON
/metrics    for Prometheus; a scrape is a check too, so that there is something to alert on where nobody else asks

Requests share checks: who comes while one is under way, or about to begin, gets its result. So an answer is never one that was found
before the request came, but the check may have begun before: by its own duration, and so by 0.5 s, its bound, at most.

The server is granian, since HTTP is read outside of Python there, with a bound on how long a client may take for its header. A client
that does not read what it asked for can keep its connection for ever: only as many as `_MOST_CONNECTIONS` can shut out others.
"""

import asyncio
import contextlib
import ipaddress
import json
import logging
import os
import re
import resource
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Self

from cachelib.aio import AsyncClient, connect_async
from cachelib.config import Config
from cachelib.errors import ConfigError
from cachelib.health import HealthReport, Reason, check_async

try:
    from granian import Granian
    from granian.constants import HTTPModes, Interfaces, Loops
    from granian.http import HTTP1Settings
    from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

    from cachelib.metrics import Metrics
except ModuleNotFoundError as error:
    message = f"the health endpoint needs {error.name}: pip install 'redis-runbook[asgi]'"
    if __name__ == "__main__":
        sys.exit(message)
    raise ModuleNotFoundError(message, name=error.name) from error

logger = logging.getLogger("cachelib")

CHECK_TIMEOUT_S = 0.5

# A check begins at the earliest so long after the one before: at most 250 a second, each of five commands, however many ask.
_PACE_S = 0.004

# By then a check has ended by its own bound; if it has not, it is broken.
_BROKEN_AFTER_S = 0.5

# Half a header, or none, for so long, and the connection is closed; an idle one too.
_HEADER_TIMEOUT_S = 5.0
_HEADER_BYTES = 16 * 1024  # which is 431 when it is exceeded
_MOST_CONNECTIONS = 4096
_STOP_TIMEOUT_S = 1

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class SharedCheck:
    """Checks one Redis on behalf of all who ask at the same time.

    Args:
        client: made by `connect_async`.
        timeout_s: bound of a check, in seconds.
    """

    def __init__(self, client: AsyncClient, timeout_s: float = CHECK_TIMEOUT_S) -> None:
        self.metrics = Metrics(client.pool_stats)
        self._client, self._timeout_s = client, timeout_s
        self._running: asyncio.Task[HealthReport] | None = None
        self._began_s = float("-inf")
        self._reasons: tuple[Reason, ...] = ()

    async def report(self) -> HealthReport:
        """Return the result of the check that is under way, or of a new one; what breaks in it is a result as well."""
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._check())
        # Others wait for it as well, and one of them going away must not end it.
        return await asyncio.shield(self._running)

    async def aclose(self) -> None:
        """End the client; those who still wait are told that Redis is unreachable."""
        await self._client.aclose()
        if self._running is not None:
            await self._running

    async def _check(self) -> HealthReport:
        await asyncio.sleep(self._began_s + _PACE_S - time.monotonic())
        self._began_s = began_s = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout_s + _BROKEN_AFTER_S):
                report = await check_async(self._client, timeout_s=self._timeout_s)
        except Exception as error:
            logger.exception("the health check broke")
            reasons = (Reason.CHECK_FAILED,)
            report = HealthReport(False, False, False, None, reasons, type(error).__name__, time.monotonic() - began_s)
        self.metrics.observe(report)
        self._log_change(report)
        return report

    def _log_change(self, report: HealthReport) -> None:
        if report.reasons != self._reasons:
            self._reasons = report.reasons
            level = logging.INFO if report.healthy else logging.WARNING
            found = f"{', '.join(report.reasons)}: {report.detail}" if report.reasons else "no reason to complain"
            logger.log(level, "Redis is %s (%s)", _status(report), found)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request is answered.

    Attributes:
        status: of HTTP.
        body: all of it.
        content_type: of the body.
        allow: the methods that would have been right, if this one was not.
    """

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    allow: str = ""

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return them as ASGI takes them."""
        headers = {"content-type": self.content_type, "content-length": str(len(self.body)), "cache-control": "no-store"}
        if self.allow:
            headers["allow"] = self.allow
        return [(name.encode(), value.encode()) for name, value in headers.items()]


class HealthApp:
    """The ASGI 3 app; the lifespan's start makes its client, without waiting for Redis, and its end closes it.

    Args:
        config: which Redis; None reads `environ` when the lifespan starts.
        environ: as `Config.from_env` takes it.
    """

    def __init__(self, config: Config | None = None, environ: Mapping[str, str] = os.environ) -> None:
        self._config, self._environ = config, environ
        self._check: SharedCheck | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        match scope["type"]:
            case "http":
                await self._serve(scope, send)
            case "lifespan":
                await self._live(receive, send)
            case "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1000})  # before it is accepted: the server answers 403
            case other:
                raise ValueError(f"the health endpoint speaks http, got a scope of the type {other!r}")

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            config = self._config or Config.from_env(self._environ)
        except ConfigError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        self._check = SharedCheck(connect_async(config))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._check.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    async def _serve(self, scope: Message, send: Send) -> None:
        answer = await self._answer(scope["method"], scope["path"])
        body = b"" if scope["method"] == "HEAD" else answer.body
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers()})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, method: str, path: str) -> Answer:
        if path not in ("/livez", "/readyz", "/health", "/metrics"):
            return Answer(404, b"not found: there are /livez, /readyz, /health and /metrics")
        if method not in ("GET", "HEAD"):
            return Answer(405, b"method not allowed", allow="GET, HEAD")
        if path == "/livez":
            return Answer(200, b"live")
        if self._check is None:
            return Answer(503, b"not started: this app needs a server that speaks ASGI's lifespan protocol")
        report = await self._check.report()
        if path == "/metrics":
            return Answer(200, self._check.metrics.render(), CONTENT_TYPE_PLAIN_0_0_4)
        status = 200 if report.healthy else 503
        if path == "/health":
            return Answer(status, _as_json(report), "application/json")
        return Answer(status, b"ready" if report.healthy else f"not ready: {', '.join(report.reasons)}".encode())


def _as_json(report: HealthReport) -> bytes:
    """Say all but `detail`, which names hosts, users and commands: anybody may ask here, and the log has it."""
    shown = {
        "status": _status(report),
        "live": report.live,
        "ready": report.ready,
        "writable": report.writable,
        "durable": report.durable,
        "reasons": report.reasons,
        "duration_s": round(report.duration_s, 6),
    }
    return json.dumps(shown).encode()


def _status(report: HealthReport) -> str:
    return "healthy" if report.healthy else "unhealthy"


app = HealthApp()


@dataclass(frozen=True, slots=True)
class Listen:
    """Where the endpoint listens.

    Attributes:
        host: an IP address of this machine, or the one that stands for all of them.
        port: TCP port.
    """

    host: str = "0.0.0.0"  # noqa: S104  # in a container there is no other way to be asked from outside
    port: int = 8080

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Read `HEALTH_HOST` and `HEALTH_PORT`.

        Raises:
            ConfigError: naming each that is invalid.
        """
        host, port = environ.get("HEALTH_HOST", cls().host), environ.get("HEALTH_PORT", str(cls().port))
        problems = []
        try:
            ipaddress.ip_address(host)
        except ValueError:
            problems.append(f"HEALTH_HOST: got {host[:80]!r}; takes an IP address to listen at, such as 0.0.0.0 or 127.0.0.1")
        if not re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) or not 1 <= int(port) <= 65535:
            problems.append(f"HEALTH_PORT: got {port[:80]!r}; takes a whole number from 1 to 65535")
        if problems:
            raise ConfigError(problems)
        return cls(host, int(port))


# granian's own goes to stdout, and leaves ours out.
_LOGGING = {
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {},
    "root": {"handlers": ["stderr"], "level": "INFO"},
}


def main(environ: Mapping[str, str] = os.environ) -> int:
    """Serve until SIGTERM or SIGINT, in one worker process; return the exit status: 2 for an invalid environment, 1 for a failed start."""
    listen = Listen()
    problems: list[str] = []
    try:
        Config.from_env(environ)
    except ConfigError as error:
        problems += error.problems
    try:
        listen = Listen.from_env(environ)
    except ConfigError as error:
        problems += error.problems
    if problems:
        print("the health endpoint was not started:", *(f"  - {problem}" for problem in problems), sep="\n", file=sys.stderr)
        return 2
    try:
        _bind(listen)
    except OSError as error:
        print(f"can't listen at {listen.host} port {listen.port} ({error}): change HEALTH_HOST or HEALTH_PORT", file=sys.stderr)
        return 1
    server = Granian(
        "cachelib.asgi:app",
        address=listen.host,
        port=listen.port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,  # telling HTTP/2 from HTTP/1 would wait for a client's first bytes without a bound
        websockets=False,
        loop=Loops.asyncio,
        backpressure=_room_for_connections(),
        http1_settings=HTTP1Settings(header_read_timeout=int(_HEADER_TIMEOUT_S * 1000), max_buffer_size=_HEADER_BYTES),
        workers_kill_timeout=_STOP_TIMEOUT_S,
        log_dictconfig=_LOGGING,
    )
    server.serve()
    return 0


def _bind(listen: Listen) -> None:
    """Raise OSError if nobody can listen there; granian's own error holds no cause, but a stack of native frames."""
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((listen.host, listen.port))


def _room_for_connections() -> int:
    """Return how many connections to accept; where files are short, room is left for Redis and for what else a process opens."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return _MOST_CONNECTIONS if soft == resource.RLIM_INFINITY else max(16, min(_MOST_CONNECTIONS, soft - 128))


if __name__ == "__main__":
    sys.exit(main())
