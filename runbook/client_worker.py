"""Runs one client library in a closed loop, in a process of its own: `drills.speed` asks it for slices of load, one after the other.

Each line on its standard input is a number of seconds; the answer is a line of JSON: the fields of `drills.slices.Slice`. Connections,
threads and tasks stay alive between slices, so that a slice of 50 ms measures calls and not their start.
"""

import asyncio
import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import redis
import redis.asyncio

from cachelib import Config, connect, connect_async
from runbook.own_time import OwnTime

KEY = "runbook:speed"
VALUE = b"x" * 64
THREADS = 100
POOL = 10
CONNECTIONS = 100

# Runs a slice of so many seconds, and returns the latencies of the calls that succeeded, how many failed, and how long it took, in s.
Run = Callable[[float], tuple[list[float], int, float]]


def summarise(latencies_s: list[float], errors: int, seconds: float, own_s: float) -> dict[str, Any]:
    """Sum up one slice.

    Args:
        latencies_s: of each call that succeeded.
        errors: calls that failed.
        seconds: from the first call's start to the last one's end.
        own_s: of these, without the time in which other processes had the core.
    """
    latencies_s.sort()

    def at(p: float) -> float | None:
        return round(latencies_s[int(len(latencies_s) * p)] * 1e6, 1) if latencies_s else None

    longest_us = round(latencies_s[-1] * 1e6, 1) if latencies_s else None
    times = {"seconds": seconds, "own_s": own_s, "p50_us": at(0.5), "p99_us": at(0.99), "longest_us": longest_us}
    return {"calls": len(latencies_s), "errors": errors, **times}


def one_caller(client: Any) -> Run:
    """Build slices of GET and SET in turn."""

    def run(seconds: float) -> tuple[list[float], int, float]:
        latencies_s: list[float] = []
        errors = calls = 0
        began_s = time.perf_counter()
        while (start_s := time.perf_counter()) < began_s + seconds:
            calls += 1
            try:
                if calls % 2:
                    client.get(KEY)
                else:
                    client.set(KEY, VALUE)
                latencies_s.append(time.perf_counter() - start_s)
            except redis.RedisError:
                errors += 1
        return latencies_s, errors, time.perf_counter() - began_s

    return run


class Threads:
    """Threads that share a client and call GET during slices; between them they wait.

    Args:
        client: with a pool of connections.
        callers: how many threads.
    """

    def __init__(self, client: Any, callers: int) -> None:
        self._client = client
        self._begin, self._end = threading.Barrier(callers + 1), threading.Barrier(callers + 1)
        self._until_s = 0.0
        self._latencies_s: list[float] = []
        self._errors: list[Exception] = []
        for _ in range(callers):
            threading.Thread(target=self._call, daemon=True).start()

    def run(self, seconds: float) -> tuple[list[float], int, float]:
        """Let all threads call for so many seconds."""
        self._latencies_s, self._errors = [], []
        began_s = time.perf_counter()
        self._until_s = began_s + seconds
        self._begin.wait()
        self._end.wait()
        return self._latencies_s, len(self._errors), time.perf_counter() - began_s

    def _call(self) -> None:
        while True:
            self._begin.wait()
            mine: list[float] = []
            while (start_s := time.perf_counter()) < self._until_s:
                try:
                    self._client.get(KEY)
                    mine.append(time.perf_counter() - start_s)
                except redis.RedisError as error:
                    self._errors.append(error)
            self._latencies_s.extend(mine)
            self._end.wait()


class Tasks:
    """Asyncio tasks that share a client and call GET during slices; between them the event loop stands still.

    Args:
        get: GET of the client.
        callers: how many tasks.
        runner: whose event loop the client belongs to.
    """

    def __init__(self, get: Callable[[str], Awaitable[Any]], callers: int, runner: asyncio.Runner) -> None:
        self._get, self._callers, self._runner = get, callers, runner
        self._until_s, self._busy = 0.0, 0
        self._latencies_s: list[float] = []
        self._errors: list[Exception] = []
        runner.run(self._start())

    def run(self, seconds: float) -> tuple[list[float], int, float]:
        """Let all tasks call for so many seconds."""
        return self._runner.run(self._slice(seconds))

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        self._begin, self._end = loop.create_future(), loop.create_future()
        self._tasks = [loop.create_task(self._call()) for _ in range(self._callers)]
        await asyncio.sleep(0)  # now all wait for the first slice
        await self._slice(0.001)  # connects

    async def _slice(self, seconds: float) -> tuple[list[float], int, float]:
        begin, self._begin = self._begin, asyncio.get_running_loop().create_future()
        self._end = asyncio.get_running_loop().create_future()
        self._latencies_s, self._errors, self._busy = [], [], self._callers
        began_s = time.perf_counter()
        self._until_s = began_s + seconds
        begin.set_result(None)
        await self._end
        return self._latencies_s, len(self._errors), time.perf_counter() - began_s

    async def _call(self) -> None:
        while True:
            await self._begin
            while (start_s := time.perf_counter()) < self._until_s:
                try:
                    await self._get(KEY)
                    self._latencies_s.append(time.perf_counter() - start_s)
                except Exception as error:  # of whichever library
                    self._errors.append(error)
            self._busy -= 1
            if not self._busy:
                self._end.set_result(None)


def redis_py(config: Config, pool_size: int) -> Any:
    """Build redis-py's client as most use it: its defaults, or its blocking pool."""
    options = _options(config)
    if not pool_size:
        return redis.Redis(**options)
    return redis.Redis(connection_pool=redis.BlockingConnectionPool(max_connections=pool_size, **options))


@contextlib.contextmanager
def prepared(worker: str, config: Config) -> Iterator[Run]:
    """Prepare the slices of a worker.

    Args:
        worker: `<work>/<client>`.
        config: of the server.

    Raises:
        KeyError: there is no such work, or no such client.
    """
    work, client = worker.split("/")
    redis_py(config, 0).set(KEY, VALUE)
    ours = Config(**{name: getattr(config, name) for name in ("host", "port", "username", "password", "db")}, pool_size=POOL)
    match work, client:
        case "one caller", "cachelib":
            yield one_caller(connect(ours, observers=[]))
        case "one caller", "redis-py":
            yield one_caller(redis_py(config, 0))
        case "100 threads", "cachelib":
            yield Threads(connect(ours, observers=[]), THREADS).run
        case "100 threads", "redis-py":
            yield Threads(redis_py(config, POOL), THREADS).run
        case (("100 tasks" | "10,000 tasks"), _):
            with asyncio.Runner() as runner:
                get = runner.run(_async_get(client, config, ours))
                yield Tasks(get, 100 if work == "100 tasks" else 10_000, runner).run
        case _:
            raise KeyError(worker)


async def _async_get(client: str, config: Config, ours: Config) -> Callable[[str], Awaitable[Any]]:
    """Connect an asyncio client and return its GET; what is optional is imported here, since it may be missing."""
    options = _options(config)
    match client:
        case "cachelib":
            return connect_async(ours, observers=[]).get
        case "redis.asyncio":
            pool = redis.asyncio.BlockingConnectionPool(max_connections=CONNECTIONS, **options)
            return redis.asyncio.Redis(connection_pool=pool).get
        case "coredis":
            import coredis

            other = coredis.Redis(**options)
            if hasattr(other, "__aenter__"):
                await other.__aenter__()
            return other.get  # type: ignore[no-any-return]
        case "valkey-glide":
            import glide

            credentials = glide.ServerCredentials(options["password"], options["username"]) if options["password"] else None
            return (  # type: ignore[no-any-return]
                await glide.GlideClient.create(
                    glide.GlideClientConfiguration(
                        [glide.NodeAddress(config.host, config.port)], credentials=credentials, database_id=config.db
                    )
                )
            ).get
    raise KeyError(client)


def installed(client: str) -> bool:
    """Tell whether a client can take part."""
    if client == "redis-benchmark":
        return any(os.access(os.path.join(folder, client), os.X_OK) for folder in os.get_exec_path())
    return client in ("cachelib", "redis-py", "redis.asyncio") or bool(importlib.util.find_spec(client.removeprefix("valkey-")))


def redis_benchmark(config: Config, connections: int, seconds: float) -> dict[str, Any]:
    """Run redis-benchmark for about so many seconds; its start does not count."""
    calls = max(connections, int(seconds * (20_000 if connections == 1 else 60_000)))
    environ = os.environ | ({"REDISCLI_AUTH": config.password.reveal()} if config.password else {})
    output = subprocess.run(
        ["redis-benchmark", "-h", config.host, "-p", str(config.port), "-c", str(connections), "-n", str(calls), "--csv", "-t", "get"],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    row = next(line for line in output.splitlines() if line.startswith('"GET"')).replace('"', "").split(",")
    # test, rps, avg, min, p50, p95, p99, max
    p50_us, p99_us, longest_us = (float(row[column]) * 1e3 for column in (4, 6, 7))
    seconds = calls / float(row[1])
    times = {"seconds": seconds, "own_s": seconds, "p50_us": p50_us, "p99_us": p99_us, "longest_us": longest_us}
    return {"calls": calls, "errors": 0, **times}


def _options(config: Config) -> dict[str, Any]:
    password = config.password.reveal() if config.password else None
    return {"host": config.host, "port": config.port, "db": config.db, "username": config.username, "password": password}


def main(worker: str, server_pid: int, together: bool) -> None:
    """Answer each line with a slice.

    Args:
        worker: `<work>/<client>`.
        server_pid: of the server; 0 for one that this host can't see.
        together: whether it shares a core with us.
    """
    config = Config.from_env()
    work, client = worker.split("/")
    with contextlib.ExitStack() as stack:
        measure: Callable[[float], dict[str, Any]]
        if client == "redis-benchmark":
            measure = lambda seconds: redis_benchmark(config, 1 if work == "one caller" else CONNECTIONS, seconds)  # noqa: E731
        else:
            measure = _measured(stack.enter_context(prepared(worker, config)), OwnTime(server_pid, together))
        for line in sys.stdin:
            print(json.dumps(measure(float(line))), flush=True)


def _measured(run: Run, own: OwnTime) -> Callable[[float], dict[str, Any]]:
    def measure(seconds: float) -> dict[str, Any]:
        own.start()
        latencies_s, errors, took_s = run(seconds)
        own_s = own.since_start(took_s)
        return summarise(latencies_s, errors, took_s, own_s)

    return measure


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3] == "together")
