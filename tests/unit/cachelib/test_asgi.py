"""The health endpoint by hand: scopes and messages of ASGI, without a server, and without a Redis."""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from cachelib import Config, HealthReport, Reason, connect_async
from cachelib import asgi as asgi_module
from cachelib.asgi import HealthApp, Listen, SharedCheck
from cachelib.errors import ConfigError

HEALTHY = HealthReport(True, True, True, True, (), "", 0.001)
NOWHERE = Config(host="127.0.0.1", port=1)


class Session:
    """An app between its lifespan's start and its end."""

    def __init__(self, app: HealthApp) -> None:
        self._app = app
        self._to_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._from_app: asyncio.Queue[Any] = asyncio.Queue()

    async def say(self, word: str) -> dict[str, Any]:
        if word == "startup":
            self._lifespan = asyncio.create_task(self._app({"type": "lifespan"}, self._to_app.get, self._from_app.put))
        await self._to_app.put({"type": f"lifespan.{word}"})
        answer: dict[str, Any] = await self._from_app.get()
        return answer

    async def __aenter__(self) -> "Session":
        assert await self.say("startup") == {"type": "lifespan.startup.complete"}
        return self

    async def __aexit__(self, *error: object) -> None:
        assert await self.say("shutdown") == {"type": "lifespan.shutdown.complete"}
        await self._lifespan

    async def ask(self, path: str, method: str = "GET") -> tuple[int, str]:
        return await ask(self._app, path, method)


async def ask(app: HealthApp, path: str, method: str = "GET") -> tuple[int, str]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("a request's body is of no interest")

    await app({"type": "http", "method": method, "path": path}, receive, send)
    start, body = sent
    assert method == "HEAD" or int(dict(start["headers"])[b"content-length"]) == len(body["body"])
    return start["status"], body["body"].decode()


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Awaitable[HealthReport]]], list[float]]:
    """Put something in the place of the check; the list gets the timeout of each."""

    def replace(check: Callable[[], Awaitable[HealthReport]]) -> list[float]:
        began: list[float] = []

        async def check_async(client: Any, *, timeout_s: float) -> HealthReport:
            began.append(timeout_s)
            return await check()

        monkeypatch.setattr(asgi_module, "check_async", check_async)
        return began

    return replace


async def slowly_healthy() -> HealthReport:
    await asyncio.sleep(0.05)
    return HEALTHY


async def broken() -> HealthReport:
    raise RuntimeError("a secret of ours")


def test_each_path_says_what_a_healthy_check_found(checks: Any) -> None:
    async def run() -> None:
        async with Session(HealthApp(NOWHERE)) as session:
            assert await session.ask("/livez") == (200, "live")
            assert not began
            assert await session.ask("/readyz") == (200, "ready")
            status, body = await session.ask("/health")
            assert (status, json.loads(body)["status"]) == (200, "healthy")
            status, body = await session.ask("/metrics")
            assert (status, 'checks_total{result="healthy"} 3.0' in body) == (200, True)
            assert await session.ask("/readyz", "HEAD") == (200, "")
            assert (await session.ask("/readyz", "POST"))[0] == 405
            assert (await session.ask("/", "POST"))[0] == 404
        assert began == [0.5] * 4

    began = checks(slowly_healthy)
    asyncio.run(run())


def test_live_is_answered_while_redis_hangs_and_without_a_connection_to_it() -> None:
    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and answers nothing
            silent.setblocking(False)
            async with Session(HealthApp(Config(host="127.0.0.1", port=silent.getsockname()[1]))) as session:
                assert await session.ask("/livez") == (200, "live")
                await asyncio.sleep(0.05)
                with pytest.raises(BlockingIOError):
                    silent.accept()
                waiting = asyncio.create_task(session.ask("/readyz"))
                await asyncio.sleep(0.05)
                assert await session.ask("/livez") == (200, "live")
                assert not waiting.done()
                assert await waiting == (503, "not ready: unreachable")

    asyncio.run(run())


def test_who_comes_while_a_check_is_under_way_shares_it_and_who_comes_later_does_not(checks: Any) -> None:
    async def run() -> None:
        async with Session(HealthApp(NOWHERE)) as session:
            assert {status for status, _ in await asyncio.gather(*(session.ask("/readyz") for _ in range(1000)))} == {200}
            assert len(began) == 1
            await session.ask("/readyz")
            assert len(began) == 2

    began = checks(slowly_healthy)
    asyncio.run(run())


def test_checks_are_paced(checks: Any) -> None:
    async def at_once() -> HealthReport:
        return HEALTHY

    async def run() -> None:
        loop = asyncio.get_running_loop()
        async with Session(HealthApp(NOWHERE)) as session:
            began_s = loop.time()
            for _ in range(20):
                await session.ask("/readyz")
            assert loop.time() - began_s >= 19 * 0.004

    checks(at_once)
    asyncio.run(run())


def test_who_goes_away_takes_nobody_along(checks: Any) -> None:
    async def run() -> None:
        async with Session(HealthApp(NOWHERE)) as session:
            first, second, third = (asyncio.create_task(session.ask("/readyz")) for _ in range(3))
            await asyncio.sleep(0.01)
            first.cancel()
            second.cancel()
            assert await third == (200, "ready")
            assert first.cancelled()
            assert len(began) == 1

    began = checks(slowly_healthy)
    asyncio.run(run())


def test_broken_check_is_a_reason_and_the_next_one_is_made(checks: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        async with Session(HealthApp(NOWHERE)) as session:
            checks(broken)
            assert await asyncio.gather(*(session.ask("/readyz") for _ in range(3))) == [(503, "not ready: check-failed")] * 3
            status, body = await session.ask("/health")
            assert (status, json.loads(body)["reasons"], "secret" in body) == (503, ["check-failed"], False)
            checks(slowly_healthy)
            assert await session.ask("/readyz") == (200, "ready")

    asyncio.run(run())
    assert "the health check broke" in caplog.text


def test_check_that_never_ends_is_given_up(checks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never() -> HealthReport:
        await asyncio.Event().wait()
        return HEALTHY

    async def run() -> HealthReport:
        check = SharedCheck(connect_async(NOWHERE), timeout_s=0.02)
        try:
            return await check.report()
        finally:
            await check.aclose()

    checks(never)
    monkeypatch.setattr(asgi_module, "_BROKEN_AFTER_S", 0.02)
    assert asyncio.run(run()).reasons == (Reason.CHECK_FAILED,)


def test_shutdown_answers_those_who_wait() -> None:
    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            async with Session(HealthApp(Config(host="127.0.0.1", port=silent.getsockname()[1]))) as session:
                waiting = asyncio.create_task(session.ask("/readyz"))
                await asyncio.sleep(0.02)
        assert await waiting == (503, "not ready: unreachable")

    asyncio.run(run())


def test_only_a_change_is_logged(checks: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def down() -> HealthReport:
        return HealthReport(False, False, False, None, (Reason.UNREACHABLE,), "no answer from redis:6379", 0.5)

    async def run() -> None:
        async with Session(HealthApp(NOWHERE)) as session:
            for check in (slowly_healthy, down, down, slowly_healthy, slowly_healthy):
                checks(check)
                await session.ask("/readyz")

    with caplog.at_level("INFO", "cachelib"):
        asyncio.run(run())
    assert caplog.messages == [
        "Redis is unhealthy (unreachable: no answer from redis:6379)",
        "Redis is healthy (no reason to complain)",
    ]


def test_invalid_environment_fails_the_start_and_names_all_of_it() -> None:
    environ = {"REDIS_PORT": "0", "REDIS_DB": "x", "REDIS_PASSWORD": "hunter2", "REDIS_TLS": "?"}

    async def run() -> dict[str, Any]:
        return await Session(HealthApp(environ=environ)).say("startup")

    answer = asyncio.run(run())
    assert answer["type"] == "lifespan.startup.failed"
    assert all(name in answer["message"] for name in ("REDIS_PORT", "REDIS_DB", "REDIS_TLS"))
    assert "hunter2" not in answer["message"]


def test_app_whose_lifespan_did_not_start_is_live_and_not_ready() -> None:
    app = HealthApp(NOWHERE)
    assert asyncio.run(ask(app, "/livez")) == (200, "live")
    status, body = asyncio.run(ask(app, "/readyz"))
    assert (status, "lifespan" in body) == (503, True)


def test_other_protocols_are_refused() -> None:
    async def run() -> list[Any]:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await HealthApp(NOWHERE)({"type": "websocket", "path": "/livez"}, receive, send)
        with pytest.raises(ValueError, match="mqtt"):
            await HealthApp(NOWHERE)({"type": "mqtt"}, receive, send)
        return sent

    assert [message["type"] for message in asyncio.run(run())] == ["websocket.close"]


def test_where_it_listens() -> None:
    assert Listen.from_env({}) == Listen("0.0.0.0", 8080)
    assert Listen.from_env({"HEALTH_HOST": "::1", "HEALTH_PORT": "1"}) == Listen("::1", 1)
    with pytest.raises(ConfigError) as caught:
        Listen.from_env({"HEALTH_HOST": "localhost", "HEALTH_PORT": "٣"})
    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["HEALTH_HOST", "HEALTH_PORT"]


@pytest.mark.parametrize("port", ["0", "65536", "-1", "1e3", " 80", ""])
def test_port_must_be_one(port: str) -> None:
    with pytest.raises(ConfigError, match="HEALTH_PORT"):
        Listen.from_env({"HEALTH_PORT": port})
