"""The health check against real servers, each with one thing wrong."""

import asyncio
import dataclasses
import http.server
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import redis.asyncio

from cachelib import Config, HealthReport, Reason, check, check_async, connect_async
from cachelib.health import CANARY_PREFIX
from runbook.targets.embedded import Embedded

pytestmark = pytest.mark.timeout(60)

PASSWORD = "S3cr3t-hunter2"
SLACK_S = 0.5


@pytest.fixture
def admin(own_server: Embedded) -> Iterator[Any]:
    """redis-py's own client of the test's own server."""
    with redis.Redis(port=own_server.config.port) as admin:
        yield admin


def verdict(report: HealthReport) -> tuple[bool, bool, bool, bool | None, tuple[Reason, ...]]:
    assert PASSWORD not in repr(report)
    assert bool(report.detail) == any(reason is not Reason.AOF_OFF for reason in report.reasons)
    return report.live, report.ready, report.writable, report.durable, report.reasons


@pytest.mark.parametrize("decode_responses", [False, True])
def test_healthy_server(decode_responses: bool, server: Embedded, connect_to: Any) -> None:
    report = check(connect_to(server, decode_responses=decode_responses))
    assert verdict(report) == (True, True, True, True, ())
    assert report.healthy
    assert report.detail == ""
    assert 0 < report.duration_s < 1.0 + SLACK_S


def test_canary_is_gone_afterwards(server: Embedded, connect_to: Any) -> None:
    client = connect_to(server)
    client.set("k", "v")
    check(client)
    assert client.keys() == [b"k"]


def test_canary_expires_by_itself_if_the_check_dies(own_server: Embedded, admin: Any, connect_to: Any) -> None:
    admin.execute_command("ACL", "SETUSER", "bot", "on", "nopass", "~*", "+@all", "-del")
    report = check(connect_to(own_server, username="bot", password=PASSWORD))
    assert (report.writable, report.reasons) == (False, (Reason.NO_PERMISSION,))
    (canary,) = admin.keys()
    assert canary.startswith(CANARY_PREFIX.encode())
    assert 0 < admin.pttl(canary) <= 10_000


def test_any_redis_client_can_be_checked(server: Embedded) -> None:
    with redis.Redis(port=server.config.port) as client:
        assert check(client).healthy


def test_stalled_server_is_unreachable(server: Embedded, connect_to: Any, paused: Any) -> None:
    client = connect_to(server)
    client.ping()
    with paused(server):
        report = check(client, timeout_s=0.2)
    assert verdict(report) == (False, False, False, None, (Reason.UNREACHABLE,))
    assert not report.healthy
    assert "PING got no answer" in report.detail


@pytest.mark.parametrize("timeout_s", [0.1, 0.4])
def test_check_is_bounded_by_its_timeout(timeout_s: float, own_server: Embedded, connect_to: Any) -> None:
    client = connect_to(own_server, deadline_s=30.0)
    own_server.kill()
    started_s = time.monotonic()
    report = check(client, timeout_s=timeout_s)
    took_s = time.monotonic() - started_s
    assert report.reasons == (Reason.UNREACHABLE,)
    assert 0.9 * timeout_s <= report.duration_s <= took_s < timeout_s + SLACK_S


def test_check_of_an_exhausted_pool_is_bounded_and_says_why(server: Embedded, connect_to: Any) -> None:
    client = connect_to(server, pool_size=1)
    held = client.connection_pool.get_connection()
    report = check(client, timeout_s=0.1)
    client.connection_pool.release(held)
    assert report.reasons == (Reason.UNREACHABLE,)
    assert "REDIS_POOL_SIZE" in report.detail


@pytest.mark.parametrize("password", ["wr0ng-password", None])
def test_wrong_password_is_refused(password: str | None, own_server: Embedded, admin: Any, connect_to: Any) -> None:
    admin.config_set("requirepass", PASSWORD)
    report = check(connect_to(own_server, password=password))
    assert verdict(report) == (True, False, False, None, (Reason.REFUSED,))
    assert "wr0ng" not in report.detail
    assert report.duration_s < SLACK_S


def test_wrong_database_is_refused(server: Embedded, connect_to: Any) -> None:
    assert verdict(check(connect_to(server, db=99))) == (True, False, False, None, (Reason.REFUSED,))


def test_replica_is_read_only(own_server: Embedded, admin: Any, connect_to: Any) -> None:
    with socket.socket() as nobody:  # bound, and not listening: the replica finds no master
        nobody.bind(("127.0.0.1", 0))
        admin.replicaof("127.0.0.1", nobody.getsockname()[1])
        report = check(connect_to(own_server))
    assert verdict(report) == (True, True, False, True, (Reason.READ_ONLY,))
    assert not report.healthy


def test_full_server_is_out_of_memory(start_server: Any, connect_to: Any) -> None:
    server = start_server("--maxmemory", "1mb", "--maxmemory-policy", "noeviction", "--appendonly", "yes")
    client = connect_to(server)
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        client.mset({f"k{number}": "v" * 100_000 for number in range(20)}) and client.set("k", "v")
    report = check(client)
    assert verdict(report) == (True, True, False, True, (Reason.OUT_OF_MEMORY,))
    assert "maxmemory" in report.detail


def test_server_without_aof_is_healthy_but_not_durable(start_server: Any, connect_to: Any) -> None:
    report = check(connect_to(start_server("--appendonly", "no")))
    assert verdict(report) == (True, True, True, False, (Reason.AOF_OFF,))
    assert report.healthy


def test_server_that_can_not_save_serves_reads_and_refuses_writes(
    own_server: Embedded, admin: Any, connect_to: Any, eventually: Any
) -> None:
    """Such a server answers PING, too, with MISCONF."""
    shutil.rmtree(own_server.folder)
    admin.bgsave()
    eventually(lambda: admin.info("persistence")["rdb_last_bgsave_status"] == "err")
    client = connect_to(own_server)
    assert client.get("k") is None
    report = check(client)
    assert (report.live, report.writable, report.reasons) == (True, False, (Reason.DISK_FAILING,))
    assert report.ready


def test_server_that_loads_its_data_is_live_but_not_ready(start_server: Any, connect_to: Any) -> None:
    slow = ("--key-load-delay", "500", "--loading-process-events-interval-bytes", "1024")
    server = start_server("--appendonly", "no", "--save", "", *slow)
    client = connect_to(server)
    client.mset({f"k{number}": os.urandom(500) for number in range(1000)})
    client.save()
    server.kill()
    reports: list[HealthReport] = []

    def watch() -> None:
        with redis.Redis(port=server.config.port, retry=None) as observer:
            while not _is_loading(observer):
                pass
        while not reports or not reports[-1].healthy:
            reports.append(check(client, timeout_s=0.05))

    watcher = threading.Thread(target=watch)
    watcher.start()
    server.start()
    watcher.join()
    # A check may end while the server is busy with a key, and a loading server is as silent then as a stalled one.
    while_loading = {verdict(report) for report in reports[:-1] if report.reasons != (Reason.UNREACHABLE,)}
    assert while_loading == {(True, False, False, None, (Reason.LOADING,))}


def _is_loading(observer: Any) -> bool:
    try:
        observer.get("k")
    except redis.BusyLoadingError:
        return True
    except redis.ConnectionError:
        pass
    return False


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
def test_what_a_user_may_not_do(rules: list[str], expected: Any, own_server: Embedded, admin: Any, connect_to: Any) -> None:
    admin.execute_command("ACL", "SETUSER", "bot", "on", f">{PASSWORD}", "~*", "+@all", *rules)
    assert verdict(check(connect_to(own_server, username="bot", password=PASSWORD))) == expected


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
    renamed: list[tuple[str, str]], expected: Any, start_server: Any, connect_to: Any
) -> None:
    server = start_server(*(word for old, new in renamed for word in ("--rename-command", old, new)))
    report = check(connect_to(server))
    assert (report.live, report.ready, report.writable, report.durable, report.reasons) == expected
    assert report.healthy == (report.ready and report.writable)


def test_something_that_does_not_speak_redis_is_not_live(server: Embedded, connect_to: Any) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        report = check(connect_to(server, port=web.server_port), timeout_s=0.3)
        web.shutdown()
        thread.join()
    assert not report.live
    assert not report.healthy


def test_client_of_asyncio_is_refused_with_advice(server: Embedded) -> None:
    with pytest.raises(TypeError, match=r"await check_async\(client\)"):
        check(connect_async(server.config))  # type: ignore[arg-type]


def test_client_of_threads_is_refused_in_asyncio_with_advice(server: Embedded, connect_to: Any) -> None:
    with pytest.raises(TypeError, match=r"check\(client\)"):
        asyncio.run(check_async(connect_to(server)))


def checked(config: Config, timeout_s: float = 1.0) -> HealthReport:
    async def run() -> HealthReport:
        async with connect_async(config) as client:
            return await check_async(client, timeout_s=timeout_s)

    return asyncio.run(run())


def test_asyncio_finds_what_threads_find(own_server: Embedded, admin: Any, connect_to: Any) -> None:
    """The decisions are one piece of code; each of these ends it in another place."""
    admin.execute_command("ACL", "SETUSER", "bot", "on", f">{PASSWORD}", "~*", "+@all", "-info")
    bot = dataclasses.replace(own_server.config, username="bot", password=PASSWORD)
    assert verdict(checked(own_server.config)) == (True, True, True, True, ())
    assert verdict(checked(bot)) == (True, True, True, None, ())
    assert verdict(checked(dataclasses.replace(bot, password="wr0ng"))) == (True, False, False, None, (Reason.REFUSED,))
    admin.config_set("maxmemory", 1)
    assert verdict(checked(own_server.config)) == (True, True, False, True, (Reason.OUT_OF_MEMORY,))
    admin.config_set("maxmemory", 0)
    assert not admin.keys()


def test_asyncio_finds_that_a_server_can_not_save(own_server: Embedded, admin: Any, eventually: Any) -> None:
    shutil.rmtree(own_server.folder)
    admin.bgsave()
    eventually(lambda: admin.info("persistence")["rdb_last_bgsave_status"] == "err")
    report = checked(own_server.config)
    assert (report.live, report.ready, report.writable, report.reasons) == (True, True, False, (Reason.DISK_FAILING,))


@pytest.mark.parametrize("timeout_s", [0.1, 0.4])
def test_check_in_asyncio_is_bounded_by_its_timeout(timeout_s: float, server: Embedded, paused: Any) -> None:
    with paused(server):
        report = checked(dataclasses.replace(server.config, deadline_s=30.0), timeout_s)
    assert verdict(report) == (False, False, False, None, (Reason.UNREACHABLE,))
    assert 0.9 * timeout_s <= report.duration_s < timeout_s + SLACK_S


def test_any_client_of_asyncio_can_be_checked(server: Embedded) -> None:
    async def run() -> HealthReport:
        async with redis.asyncio.Redis(port=server.config.port) as client:
            return await check_async(client)

    assert asyncio.run(run()).healthy


@pytest.mark.parametrize("timeout_s", [0, -1])
def test_timeout_that_is_no_time_to_come_is_refused(timeout_s: float, server: Embedded, connect_to: Any) -> None:
    with pytest.raises(ValueError, match="seconds above 0"):
        check(connect_to(server), timeout_s=timeout_s)
