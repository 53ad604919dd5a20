"""The health endpoint from outside: the real server process, over HTTP, against real servers with one thing wrong."""

import asyncio
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cachelib.health import CANARY_PREFIX
from runbook.targets.embedded import Embedded
from runbook.targets.port import free_port
from tests.timing import End, end_of
from tests.wait import wait_for

pytestmark = pytest.mark.timeout(60)

REPOSITORY = Path(__file__).resolve().parents[3]
PASSWORD = "S3cr3t-hunter2"
POOL_SIZE = 2
# A check may take 0.5 s.
BOUND_S = 0.8
PATHS = ("/livez", "/readyz", "/health", "/metrics")
HALF_A_REQUEST = b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: "


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Endpoint:
    """A server process of the health endpoint."""

    process: subprocess.Popen[str]
    port: int
    log_file: Path

    def ask(self, path: str, method: str = "GET") -> Reply:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
            connection.request(method, path)
            response = connection.getresponse()
            return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read().decode())

    def metrics(self) -> dict[str, float]:
        """Return each sample under its name and the values of its labels."""
        families = text_string_to_metric_families(self.ask("/metrics").body)
        return {" ".join((sample.name, *sample.labels.values())): sample.value for family in families for sample in family.samples}

    def connect(self, data: bytes = b"") -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        connection.sendall(data)
        return connection

    def log(self) -> str:
        return self.log_file.read_text()


Serve = Callable[..., Endpoint]


def command(port: int, **environ: object) -> dict[str, Any]:
    """Return how to start an endpoint; a developer's own variables don't reach it, and neither does a home."""
    kept = {name: value for name, value in os.environ.items() if name == "PATH" or name.startswith("COV")}
    variables = kept | {"HEALTH_HOST": "127.0.0.1", "HEALTH_PORT": str(port)} | {name: str(value) for name, value in environ.items()}
    return {"args": [sys.executable, "-m", "cachelib.asgi"], "cwd": REPOSITORY, "env": variables, "text": True}


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Serve]:
    """Start endpoints, each for a server's port, and wait until it is live; they end with the block."""
    started: list[Endpoint] = []

    def start(redis_port: int, **environ: object) -> Endpoint:
        port, log_file = free_port(), folder / f"endpoint-{len(started)}.log"
        settings = {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": redis_port, "REDIS_POOL_SIZE": POOL_SIZE} | environ
        with log_file.open("w") as log:
            process = subprocess.Popen(**command(port, **settings), stdout=log, stderr=log, start_new_session=True)
        endpoint = Endpoint(process, port, log_file)
        started.append(endpoint)

        def is_live() -> bool:
            assert process.poll() is None, endpoint.log()
            with contextlib.suppress(OSError):
                return endpoint.ask("/livez").status == 200
            return False

        wait_for(is_live, 30.0)
        return endpoint

    try:
        yield start
    finally:
        for endpoint in started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(endpoint.process.pid, signal.SIGKILL)  # its worker too
            endpoint.process.wait()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start an endpoint for this test alone."""
    with serving(tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def endpoint(shared_server: Embedded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """An endpoint of the shared server; a test may ask it whatever it likes, and nothing else."""
    with serving(tmp_path_factory.mktemp("endpoint")) as start:
        yield start(shared_server.config.port)


def asked(endpoint: Endpoint, path: str) -> End:
    return end_of(lambda: endpoint.ask(path))


def test_healthy_server(server: Embedded, endpoint: Endpoint, direct: Any) -> None:
    live, ready, health, metrics = (endpoint.ask(path) for path in PATHS)
    assert (live.status, live.body) == (200, "live")
    assert (ready.status, ready.body) == (200, "ready")
    assert health.status == metrics.status == 200
    assert health.headers["content-type"] == "application/json"
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert {reply.headers["cache-control"] for reply in (live, ready, health, metrics)} == {"no-store"}
    assert 0 < health.json.pop("duration_s") < 0.5
    shown = {name: value for name, value in health.json.items() if name != "duration_s"}
    assert shown == {"status": "healthy", "live": True, "ready": True, "writable": True, "durable": True, "reasons": []}
    assert not direct.keys()


def test_only_what_it_offers_is_answered(endpoint: Endpoint) -> None:
    for path in PATHS:
        head = endpoint.ask(path, "HEAD")
        assert (head.status, head.body) == (200, "")
        assert int(head.headers["content-length"]) > 0
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            refused = endpoint.ask(path, method)
            assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD")
    for path in ("/", "/livez/", "/HEALTH", "/metrics/../livez", "/%00"):
        assert endpoint.ask(path).status == 404
    assert endpoint.ask("/readyz?verbose=1").status == 200


def test_redis_that_is_killed_and_comes_back(own_server: Embedded, serve: Serve, eventually: Any) -> None:
    endpoint = serve(own_server.config.port)
    assert endpoint.ask("/readyz").status == 200
    own_server.kill()
    end = asked(endpoint, "/readyz")
    assert (end.outcome.status, end.outcome.body, end.is_by(BOUND_S)) == (503, "not ready: unreachable", True)
    assert endpoint.ask("/health").json["reasons"] == ["unreachable"]
    assert endpoint.ask("/livez").status == 200
    own_server.start()
    eventually(lambda: endpoint.ask("/readyz").status == 200)
    assert "Redis is healthy" in endpoint.log()


def test_endpoint_starts_while_redis_is_down(own_server: Embedded, serve: Serve, eventually: Any) -> None:
    own_server.kill()
    endpoint = serve(own_server.config.port)
    assert endpoint.ask("/readyz").status == 503
    assert endpoint.ask("/metrics").status == 200
    own_server.start()
    eventually(lambda: endpoint.ask("/readyz").status == 200)


def test_stalled_redis_is_not_ready_within_the_bound(server: Embedded, serve: Serve, paused: Any) -> None:
    endpoint = serve(server.config.port)
    assert endpoint.ask("/readyz").status == 200
    with paused(server):
        ready, live = asked(endpoint, "/readyz"), asked(endpoint, "/livez")
    assert (ready.outcome.status, ready.outcome.body, ready.is_by(BOUND_S)) == (503, "not ready: unreachable", True)
    assert (live.outcome.status, live.is_by(0.1)) == (200, True)
    assert endpoint.ask("/readyz").status == 200


def test_live_is_answered_without_a_connection_to_redis(own_server: Embedded, admin: Any, serve: Serve) -> None:
    endpoint = serve(own_server.config.port)
    for _ in range(20):
        assert endpoint.ask("/livez").status == 200
    assert len(admin.client_list()) == 1  # the admin itself
    assert endpoint.ask("/readyz").status == 200
    assert len(admin.client_list()) == 2


def test_reasons_why_nothing_can_be_written(own_server: Embedded, admin: Any, serve: Serve, eventually: Any) -> None:
    endpoint = serve(own_server.config.port)

    def unhealthy() -> list[str]:
        # A host that stalls for the half second of a check makes it say `unreachable` once.
        reply = eventually(lambda: told if (told := endpoint.ask("/health")).json["reasons"] != ["unreachable"] else None)
        assert reply.status == 503
        assert (reply.json["status"], reply.json["ready"], reply.json["writable"]) == ("unhealthy", True, False)
        eventually(lambda: endpoint.ask("/readyz").body == f"not ready: {', '.join(reply.json['reasons'])}")
        return list(reply.json["reasons"])

    admin.config_set("maxmemory", 1)
    assert unhealthy() == ["out-of-memory"]
    admin.config_set("maxmemory", 0)
    with socket.socket() as nobody:  # bound, and not listening: the replica finds no master
        nobody.bind(("127.0.0.1", 0))
        admin.replicaof("127.0.0.1", nobody.getsockname()[1])
        assert unhealthy() == ["read-only"]
        admin.replicaof("NO", "ONE")
    admin.config_set("appendonly", "no")
    assert endpoint.ask("/health").json["reasons"] == ["aof-off"]
    assert endpoint.ask("/readyz").body == "ready"


def test_redis_that_can_not_save_is_told_as_disk_failing(own_server: Embedded, admin: Any, serve: Serve, eventually: Any) -> None:
    for path in sorted(own_server.folder.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    own_server.folder.rmdir()
    admin.bgsave()
    eventually(lambda: admin.info("persistence")["rdb_last_bgsave_status"] == "err")
    reply = serve(own_server.config.port).ask("/health")
    assert (reply.status, reply.json["reasons"], reply.json["ready"]) == (503, ["disk-failing"], True)


def test_wrong_password_is_refused_and_no_secret_shows(own_server: Embedded, admin: Any, serve: Serve) -> None:
    admin.config_set("requirepass", "another")
    endpoint = serve(own_server.config.port, REDIS_PASSWORD=PASSWORD)
    reply = endpoint.ask("/readyz")
    assert (reply.status, reply.body) == (503, "not ready: refused")
    admin.config_set("requirepass", PASSWORD)
    assert endpoint.ask("/readyz").status == 200
    assert endpoint.process.poll() is None
    shown = "".join(f"{reply.headers}{reply.body}" for reply in map(endpoint.ask, PATHS)) + endpoint.log()
    assert PASSWORD not in shown
    assert "refused" in endpoint.log()
    command_line = Path(f"/proc/{endpoint.process.pid}/cmdline")
    if command_line.exists():
        assert PASSWORD not in command_line.read_text()


def test_stranger_is_told_no_host_and_no_words_of_the_server(own_server: Embedded, serve: Serve) -> None:
    """The log has them."""
    endpoint = serve(own_server.config.port)
    own_server.kill()
    body = endpoint.ask("/health").body
    assert str(own_server.config.port) not in body
    assert "detail" not in body
    assert f"127.0.0.1:{own_server.config.port}" in endpoint.log()


async def _ask_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> int:
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = next(line.partition(":")[2] for line in head.splitlines() if line.startswith("content-length:"))
    await reader.readexactly(int(length))
    return int(head.split()[1])


async def _load(port: int, rate_per_s: int, duration_s: float, connections: int = 20) -> list[int]:
    """Ask at a steady rate over connections that are kept; a late request is sent at once."""
    statuses: list[int] = []
    began_s = time.monotonic()

    async def caller(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        paths = ("/readyz", "/health", "/readyz", "/livez")
        for turn in range(int(rate_per_s * duration_s / connections)):
            await asyncio.sleep(max(0.0, began_s + (turn + number / connections) * connections / rate_per_s - time.monotonic()))
            statuses.append(await _ask_on(reader, writer, paths[turn % len(paths)]))
        writer.close()

    await asyncio.gather(*(caller(number) for number in range(connections)))
    return statuses


@pytest.mark.parametrize("duration_s", [1.0, pytest.param(20.0, marks=pytest.mark.nightly)])
def test_thousand_requests_a_second_take_one_connection(duration_s: float, own_server: Embedded, admin: Any, serve: Serve) -> None:
    """A client for asyncio has one line that commands share, and `REDIS_POOL_SIZE` connections for those that can't; a check needs none."""
    endpoint = serve(own_server.config.port)
    assert endpoint.ask("/readyz").status == 200
    before = admin.info("stats")

    async def run() -> tuple[list[int], int, float]:
        most = 0
        load = asyncio.create_task(_load(endpoint.port, 1000, duration_s))
        began_s = time.monotonic()
        while not load.done():
            most = max(most, len(await asyncio.to_thread(admin.client_list)) - 1)
            await asyncio.sleep(0.02)
        return await load, most, time.monotonic() - began_s

    statuses, most, took_s = asyncio.run(run())
    after = admin.info("stats")
    assert (len(statuses), set(statuses)) == (1000 * duration_s, {200})
    assert most <= POOL_SIZE + 1
    assert most == 1
    assert after["total_connections_received"] == before["total_connections_received"]
    commands = after["total_commands_processed"] - before["total_commands_processed"]
    assert commands / took_s < 1500, "checks are shared: 750 of a thousand requests a second would send 3,750 commands"
    assert not admin.keys(f"{CANARY_PREFIX}*")


def test_requests_share_a_stalled_check(server: Embedded, serve: Serve, paused: Any) -> None:
    endpoint = serve(server.config.port)
    before = endpoint.metrics()["cachelib_health_checks_total unhealthy"]
    with paused(server):
        end = end_of(lambda: asyncio.run(_ask_at_once(endpoint.port, 100)))
    assert end.outcome == [503] * 100
    assert end.is_by(2 * BOUND_S)
    assert endpoint.metrics()["cachelib_health_checks_total unhealthy"] - before <= 3


async def _ask_at_once(port: int, count: int) -> list[int]:
    async def caller() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        status = await _ask_on(reader, writer, "/readyz")
        writer.close()
        return status

    return await asyncio.gather(*(caller() for _ in range(count)))


def test_slow_clients_keep_nobody_waiting_and_are_disconnected(server: Embedded, serve: Serve) -> None:
    """500 of half a request, some that drip on, some that say nothing, and one that idles after its request."""
    endpoint = serve(server.config.port)
    began_s = time.monotonic()
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(endpoint.connect(HALF_A_REQUEST)) for _ in range(500)]
        slow += [stack.enter_context(endpoint.connect()) for _ in range(5)]
        idle = stack.enter_context(endpoint.connect(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"))
        assert idle.recv(4096).startswith(b"HTTP/1.1 200")
        for path in PATHS:
            end = asked(endpoint, path)
            assert (end.outcome.status, end.is_by(BOUND_S)) == (200, True)
        open_connections = {*slow, idle}
        while open_connections and time.monotonic() - began_s < 30:
            for connection in slow[:20]:
                with contextlib.suppress(OSError):
                    connection.send(b"x")
            open_connections -= {connection for connection in open_connections if _was_closed(connection)}
            time.sleep(0.1)
    assert not open_connections
    assert time.monotonic() - began_s > 3  # it gives them time
    assert endpoint.ask("/livez").status == 200


def _was_closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return not connection.recv(4096)
    except BlockingIOError:
        return False
    except OSError:
        return True


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (b"\x00\x01\x02\xff\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"400"),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n", b"400"),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 200_000 + b"\r\n\r\n", b"431"),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"X: x\r\n" * 500 + b"\r\n", b"431"),
        (b"*1\r\n$4\r\nPING\r\n", b"400"),
    ],
    ids=["garbage", "TLS", "bad length", "huge header", "many headers", "Redis' protocol"],
)
def test_malformed_request_is_refused(request_: bytes, answer: bytes, endpoint: Endpoint) -> None:
    with endpoint.connect() as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(request_)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while more := connection.recv(65536):
                received += more
    assert received == b"" or received.split()[1] == answer
    assert endpoint.ask("/livez").status == 200


def test_pipelined_requests_are_all_answered(endpoint: Endpoint) -> None:
    one = "GET {} HTTP/1.1\r\nHost: x\r\n\r\n"
    requests = "".join(map(one.format, ("/livez", "/readyz", "/nothing", "/health"))) + "GET /livez HTTP/1.0\r\n\r\n"
    with endpoint.connect(requests.encode()) as connection:
        received = b""
        while more := connection.recv(65536):
            received += more
    assert re.findall(rb"HTTP/1\.[01] (\d+)", received) == [b"200", b"200", b"404", b"200", b"200"]


def test_body_that_never_comes_keeps_nobody(endpoint: Endpoint) -> None:
    with endpoint.connect(b"GET /readyz HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nabc") as connection:
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
    assert endpoint.ask("/livez").status == 200


def test_upgrade_to_a_websocket_is_not_made(endpoint: Endpoint) -> None:
    upgrade = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: eA==\r\n\r\n"
    with endpoint.connect(upgrade) as connection:
        assert b" 101 " not in connection.recv(4096)


def test_clients_that_leave_during_a_check_take_nobody_along(server: Embedded, serve: Serve, paused: Any) -> None:
    endpoint = serve(server.config.port)
    with paused(server):
        leavers = [endpoint.connect(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(50)]
        time.sleep(0.1)
        for leaver in leavers:
            leaver.close()
        assert endpoint.ask("/readyz").status == 503
    assert endpoint.ask("/readyz").status == 200


def test_metrics_count_what_happened(own_server: Embedded, serve: Serve) -> None:
    endpoint = serve(own_server.config.port)
    first = endpoint.metrics()
    assert first["cachelib_health_checks_total healthy"] == 1  # by the scrape itself
    assert first["cachelib_health_checks_total unhealthy"] == first["cachelib_outages_total"] == 0
    assert first["cachelib_health_healthy"] == 1
    assert first["cachelib_connections_limit"] == POOL_SIZE + 1
    assert first["cachelib_connections_idle"] == first["cachelib_connections_made_total"] == 1
    assert first["cachelib_connections_in_use"] == first["cachelib_calls_waiting"] == 0
    own_server.kill()
    assert endpoint.ask("/health").status == 503
    second = endpoint.metrics()
    assert second["cachelib_health_checks_total unhealthy"] == second["cachelib_health_reasons_total unreachable"] == 2
    assert second["cachelib_health_healthy"] == 0
    assert second["cachelib_health_check_duration_seconds_count"] == 3
    assert second["cachelib_outages_total"] >= 1
    assert second["cachelib_connections_lost_total"] == 1


def test_sigterm_answers_those_who_wait_and_ends_it(server: Embedded, serve: Serve, paused: Any) -> None:
    endpoint = serve(server.config.port)
    with paused(server), endpoint.connect(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n") as waiting:
        time.sleep(0.1)
        endpoint.process.send_signal(signal.SIGTERM)
        assert waiting.recv(4096).startswith(b"HTTP/1.1 503")
        assert endpoint.process.wait(timeout=5) == 0
    assert "Traceback" not in endpoint.log()
    with pytest.raises(OSError, match="refused"):
        endpoint.connect()


def test_sigterm_does_not_wait_for_slow_clients(server: Embedded, serve: Serve) -> None:
    endpoint = serve(server.config.port)
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(endpoint.connect(HALF_A_REQUEST))
        endpoint.process.send_signal(signal.SIGTERM)
        assert end_of(lambda: endpoint.process.wait(timeout=20)).is_by(2.5)
    assert endpoint.process.returncode == 0


def run(**environ: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(**command(free_port(), **environ), capture_output=True, timeout=20, check=False)


def test_invalid_environment_is_an_error_at_the_start_that_names_all_of_it() -> None:
    invalid = {"REDIS_PORT": 70000, "REDIS_HOTS": "x", "HEALTH_HOST": "everywhere", "HEALTH_PORT": "http"}
    result = run(REDIS_PASSWORD=PASSWORD, REDIS_URL=f"redis://:{PASSWORD}@h/0", **invalid)
    assert result.returncode == 2
    assert all(name in result.stderr for name in (*invalid, "REDIS_PASSWORD", "REDIS_URL"))
    assert PASSWORD not in result.stderr + result.stdout
    assert "Traceback" not in result.stderr


def test_port_that_is_taken_is_told_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run(HEALTH_PORT=taken.getsockname()[1])
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "HEALTH_PORT" in result.stderr
    assert "in use" in result.stderr


def test_missing_extra_is_told_in_one_line() -> None:
    program = "import runpy, sys; sys.modules['granian'] = None; runpy.run_module('cachelib.asgi', run_name='__main__')"
    result = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, timeout=20, check=False)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "redis-runbook[asgi]" in result.stderr
