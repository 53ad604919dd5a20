"""The health check against real servers, each with one thing wrong."""

import asyncio
import http.server
import shutil
import socket
import threading
from typing import Any

import pytest
import redis
import redis.asyncio

import cachelib
from cachelib import HealthReport, Reason, check_async, connect, connect_async
from cachelib.health import CANARY_PREFIX
from runbook.targets.embedded import Embedded
from tests.integration.cachelib.background import Task
from tests.integration.cachelib.bridge import check
from tests.integration.cachelib.commands import SLOW_TO_LOAD, wait_until_loading
from tests.timing import end_of

pytestmark = pytest.mark.timeout(60)

PASSWORD = "S3cr3t-hunter2"


def verdict(report: HealthReport) -> tuple[bool, bool, bool, bool | None, tuple[Reason, ...]]:
    assert PASSWORD not in repr(report)
    assert bool(report.detail) == any(reason is not Reason.AOF_OFF for reason in report.reasons)
    return report.live, report.ready, report.writable, report.durable, report.reasons


@pytest.mark.parametrize("decode_responses", [False, True])
def test_healthy_server(decode_responses: bool, server: Embedded, open_client: Any) -> None:
    report = check(open_client(server, decode_responses=decode_responses))
    assert verdict(report) == (True, True, True, True, ())
    assert report.healthy
    assert report.detail == ""
    assert 0 < report.duration_s < 1.0


def test_canary_is_gone_afterwards(server: Embedded, open_client: Any) -> None:
    client = open_client(server)
    client.set("k", "v")
    check(client)
    assert client.keys() == [b"k"]


def test_canary_expires_by_itself_if_the_check_dies(own_server: Embedded, admin: Any, open_client: Any) -> None:
    admin.execute_command("ACL", "SETUSER", "bot", "on", "nopass", "~*", "+@all", "-del")
    report = check(open_client(own_server, username="bot", password=PASSWORD))
    assert (report.writable, report.reasons) == (False, (Reason.NO_PERMISSION,))
    (canary,) = admin.keys()
    assert canary.startswith(CANARY_PREFIX)
    assert 0 < admin.pttl(canary) <= 10_000


@pytest.mark.parametrize("connected", [False, True])
def test_check_of_a_stalled_server_ends_at_its_timeout(connected: bool, server: Embedded, open_client: Any, paused: Any) -> None:
    client = open_client(server, connected=connected, deadline_s=30.0)
    with paused(server):
        end = end_of(lambda: check(client, timeout_s=0.2))
    report = end.outcome
    assert verdict(report) == (False, False, False, None, (Reason.UNREACHABLE,))
    assert not report.healthy
    assert "PING got no answer" in report.detail
    assert (end.is_at(0.2), 0.18 <= report.duration_s <= end.took_s) == (True, True)


def test_check_of_an_exhausted_pool_is_bounded_and_says_why(server: Embedded, connect_to: Any) -> None:
    client = connect_to(server, pool_size=1)
    held = client.connection_pool.get_connection()
    report = check(client, timeout_s=0.1)
    client.connection_pool.release(held)
    assert (report.reasons, "REDIS_POOL_SIZE" in report.detail) == ((Reason.UNREACHABLE,), True)


@pytest.mark.parametrize("password", ["wr0ng-password", None])
def test_wrong_password_is_refused(password: str | None, own_server: Embedded, admin: Any, open_client: Any) -> None:
    admin.config_set("requirepass", PASSWORD)
    report = check(open_client(own_server, password=password))
    assert verdict(report) == (True, False, False, None, (Reason.REFUSED,))
    assert "wr0ng" not in report.detail
    assert report.duration_s < 0.5


def test_wrong_database_is_refused(server: Embedded, open_client: Any) -> None:
    assert verdict(check(open_client(server, db=99))) == (True, False, False, None, (Reason.REFUSED,))


def test_replica_is_read_only(own_server: Embedded, admin: Any, open_client: Any) -> None:
    with socket.socket() as nobody:  # bound, and not listening: the replica finds no master
        nobody.bind(("127.0.0.1", 0))
        admin.replicaof("127.0.0.1", nobody.getsockname()[1])
        report = check(open_client(own_server))
    assert verdict(report) == (True, True, False, True, (Reason.READ_ONLY,))
    assert not report.healthy


def test_full_server_is_out_of_memory(start_server: Any, open_client: Any) -> None:
    server = start_server("--maxmemory", "1mb", "--maxmemory-policy", "noeviction", "--appendonly", "yes")
    client = open_client(server)
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        client.mset({f"k{number}": "v" * 100_000 for number in range(20)}) and client.set("k", "v")
    report = check(client)
    assert verdict(report) == (True, True, False, True, (Reason.OUT_OF_MEMORY,))
    assert "maxmemory" in report.detail


def test_server_without_aof_is_healthy_but_not_durable(start_server: Any, open_client: Any) -> None:
    report = check(open_client(start_server("--appendonly", "no")))
    assert verdict(report) == (True, True, True, False, (Reason.AOF_OFF,))
    assert report.healthy


def test_server_that_can_not_save_serves_reads_and_refuses_writes(
    own_server: Embedded, admin: Any, open_client: Any, eventually: Any
) -> None:
    """Such a server answers PING, too, with MISCONF."""
    shutil.rmtree(own_server.folder)
    admin.bgsave()
    eventually(lambda: admin.info("persistence")["rdb_last_bgsave_status"] == "err")
    client = open_client(own_server)
    assert client.get("k") is None
    report = check(client)
    assert (report.live, report.writable, report.reasons) == (True, False, (Reason.DISK_FAILING,))
    assert report.ready


def test_server_that_loads_its_data_is_live_but_not_ready(start_server: Any, open_client: Any) -> None:
    server = start_server(*SLOW_TO_LOAD, "1000")
    client = open_client(server)
    client.mset({f"k{number}": b"v" * 500 for number in range(400)})
    client.save()
    server.kill()
    reports: list[HealthReport] = []

    def watch() -> None:
        wait_until_loading(server)
        while not reports or not reports[-1].healthy:
            reports.append(check(client, timeout_s=0.05))

    watcher = Task(watch)
    server.start()  # the server ends with the thread that starts it
    assert watcher.result() is None
    # A check may end while the server is busy with a key, and a loading server is as silent then as a stalled one.
    while_loading = {verdict(report) for report in reports[:-1] if Reason.UNREACHABLE not in report.reasons}
    assert while_loading == {(True, False, False, None, (Reason.LOADING,))}


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (["-info"], (True, True, True, None, ())),
        (["-set"], (True, True, False, True, (Reason.NO_PERMISSION,))),
        (["resetkeys", "~other:*"], (True, True, False, True, (Reason.NO_PERMISSION,))),
        (["resetkeys", f"~{CANARY_PREFIX}*"], (True, True, True, True, ())),
        (["-ping"], (True, False, False, None, (Reason.NO_PERMISSION,))),
    ],
    ids=["no INFO", "no SET", "other keys only", "the canary's keys only", "no PING"],
)
def test_what_a_user_may_not_do(rules: list[str], expected: Any, own_server: Embedded, admin: Any, open_client: Any) -> None:
    admin.execute_command("ACL", "SETUSER", "bot", "on", f">{PASSWORD}", "~*", "+@all", *rules)
    assert verdict(check(open_client(own_server, username="bot", password=PASSWORD))) == expected


@pytest.mark.parametrize(
    ("renamed", "expected"),
    [
        # LASTSAVE answers a number, and TYPE the word "string".
        ([("PING", "THE-PING"), ("LASTSAVE", "PING")], (True, False, True, False, (Reason.WRONG_REPLY, Reason.AOF_OFF))),
        ([("GET", "THE-GET"), ("TYPE", "GET")], (True, True, False, False, (Reason.AOF_OFF, Reason.CANARY_LOST))),
        ([("SET", "THE-SET")], (True, True, False, False, (Reason.SERVER_ERROR, Reason.AOF_OFF))),
    ],
    ids=["wrong PING", "wrong GET", "no SET"],
)
def test_server_whose_commands_are_not_what_they_should_be(
    renamed: list[tuple[str, str]], expected: Any, start_server: Any, open_client: Any
) -> None:
    server = start_server(*(word for old, new in renamed for word in ("--rename-command", old, new)))
    report = check(open_client(server))
    assert (report.live, report.ready, report.writable, report.durable, report.reasons) == expected
    assert report.healthy == (report.ready and report.writable)


def test_something_that_does_not_speak_redis_is_not_live(server: Embedded, open_client: Any) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        report = check(open_client(server, port=web.server_port), timeout_s=0.3)
        web.shutdown()
        thread.join()
    assert not report.live
    assert not report.healthy


def test_any_client_of_redis_py_can_be_checked(server: Embedded) -> None:
    async def run() -> HealthReport:
        async with redis.asyncio.Redis(port=server.config.port) as client:
            return await check_async(client)

    with redis.Redis(port=server.config.port) as client:
        assert check(client).healthy
    assert asyncio.run(run()).healthy


def test_client_of_the_other_kind_is_refused_with_advice(server: Embedded) -> None:
    with pytest.raises(TypeError, match=r"await check_async\(client\)"):
        cachelib.check(connect_async(server.config))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"check\(client\)"), connect(server.config) as client:
        asyncio.run(check_async(client))  # type: ignore[arg-type]


@pytest.mark.parametrize("timeout_s", [0, -1])
def test_timeout_that_is_no_time_to_come_is_refused(timeout_s: float, server: Embedded, open_client: Any) -> None:
    with pytest.raises(ValueError, match="seconds above 0"):
        check(open_client(server), timeout_s=timeout_s)
