"""One client library in a closed loop, in a process of its own, so that none disturbs another: `drills.speed` asks it for rounds.

Each line on its standard input is a number of seconds; the answer is a line of JSON: the fields of `drills.speed.Round`.
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

KEY = "runbook:speed"
VALUE = b"x" * 64
THREADS = 100
POOL = 10
CONNECTIONS = 100

Round = Callable[[float], dict[str, Any]]


def summarise(latencies_s: list[float], seconds: float, errors: int) -> dict[str, Any]:
    """Sum up one round.

    Args:
        latencies_s: of each call that succeeded.
        seconds: how long the round took.
        errors: calls that failed.
    """
    latencies_s.sort()

    def at(p: float) -> float | None:
        return round(latencies_s[int(len(latencies_s) * p)] * 1e6, 1) if latencies_s else None

    longest_us = round(latencies_s[-1] * 1e6, 1) if latencies_s else None
    return {
        "calls": len(latencies_s),
        "seconds": seconds,
        "p50_us": at(0.5),
        "p99_us": at(0.99),
        "longest_us": longest_us,
        "errors": errors,
    }


def one_caller(client: Any) -> Round:
    """Build rounds of GET and SET in turn."""

    def run(seconds: float) -> dict[str, Any]:
        latencies_s: list[float] = []
        began_s = time.perf_counter()
        while (start_s := time.perf_counter()) < began_s + seconds:
            if len(latencies_s) % 2:
                client.set(KEY, VALUE)
            else:
                client.get(KEY)
            latencies_s.append(time.perf_counter() - start_s)
        return summarise(latencies_s, time.perf_counter() - began_s, 0)

    return run


def many_threads(client: Any) -> Round:
    """Build rounds of GET by a hundred threads that share a pool of ten connections."""

    def run(seconds: float) -> dict[str, Any]:
        latencies_s: list[float] = []
        errors: list[Exception] = []
        began_s = time.perf_counter()

        def call() -> None:
            mine: list[float] = []
            while (start_s := time.perf_counter()) < began_s + seconds:
                try:
                    client.get(KEY)
                    mine.append(time.perf_counter() - start_s)
                except redis.RedisError as error:
                    errors.append(error)
            latencies_s.extend(mine)

        threads = [threading.Thread(target=call, daemon=True) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return summarise(latencies_s, time.perf_counter() - began_s, len(errors))

    return run


def many_tasks(get: Callable[[str], Awaitable[Any]], callers: int, runner: asyncio.Runner) -> Round:
    """Build rounds of GET by many asyncio tasks."""

    async def gather(seconds: float) -> dict[str, Any]:
        latencies_s: list[float] = []
        errors: list[Exception] = []
        began_s = 0.0
        warm = asyncio.Barrier(callers)

        async def call() -> None:
            nonlocal began_s
            await get(KEY)  # connects; that does not count
            if await warm.wait() == 0:
                began_s = time.perf_counter()
            await asyncio.sleep(0)
            while (start_s := time.perf_counter()) < began_s + seconds:
                try:
                    await get(KEY)
                    latencies_s.append(time.perf_counter() - start_s)
                except Exception as error:  # of whichever library
                    errors.append(error)

        await asyncio.gather(*(call() for _ in range(callers)))
        return summarise(latencies_s, time.perf_counter() - began_s, len(errors))

    return lambda seconds: runner.run(gather(seconds))


def redis_py(config: Config, pool_size: int) -> Any:
    """Build redis-py's client as most use it: its defaults, or its blocking pool."""
    options = _options(config)
    if not pool_size:
        return redis.Redis(**options)
    return redis.Redis(connection_pool=redis.BlockingConnectionPool(max_connections=pool_size, **options))


@contextlib.contextmanager
def prepared(contestant: str, config: Config) -> Iterator[Round]:
    """Prepare a contestant's rounds.

    Args:
        contestant: `<work>/<client>`.
        config: of the server.

    Raises:
        KeyError: there is no such contestant.
    """
    work, client = contestant.split("/")
    redis_py(config, 0).set(KEY, VALUE)
    ours = Config(**{name: getattr(config, name) for name in ("host", "port", "username", "password", "db")}, pool_size=POOL)
    match work, client:
        case "one caller", "cachelib":
            yield one_caller(connect(ours, observers=[]))
        case "one caller", "redis-py":
            yield one_caller(redis_py(config, 0))
        case "100 threads", "cachelib":
            yield many_threads(connect(ours, observers=[]))
        case "100 threads", "redis-py":
            yield many_threads(redis_py(config, POOL))
        case (("one caller" | "100 tasks"), "redis-benchmark"):
            yield lambda seconds: redis_benchmark(config, 1 if work == "one caller" else CONNECTIONS, seconds)
        case (("100 tasks" | "10,000 tasks"), _):
            with asyncio.Runner() as runner:
                get = runner.run(_async_get(client, config, ours))
                yield many_tasks(get, 100 if work == "100 tasks" else 10_000, runner)
        case _:
            raise KeyError(contestant)


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
    module = {"valkey-glide": "glide"}.get(client, client)
    return client in ("cachelib", "redis-py", "redis.asyncio") or importlib.util.find_spec(module) is not None


def redis_benchmark(config: Config, connections: int, seconds: float) -> dict[str, Any]:
    """Run redis-benchmark for about so many seconds."""
    calls = int(seconds * (20_000 if connections == 1 else 60_000))
    environ = os.environ | ({"REDISCLI_AUTH": config.password.reveal()} if config.password else {})
    began_s = time.perf_counter()
    output = subprocess.run(
        ["redis-benchmark", "-h", config.host, "-p", str(config.port), "-c", str(connections), "-n", str(calls), "--csv", "-t", "get"],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    row = next(line for line in output.splitlines() if line.startswith('"GET"')).replace('"', "").split(",")
    # test, rps, avg, min, p50, p95, p99, max; its start-up is not its rate
    rate_per_s = float(row[1])
    seconds = min(time.perf_counter() - began_s, calls / rate_per_s)
    p50_us, p99_us, longest_us = (float(row[column]) * 1e3 for column in (4, 6, 7))
    return {"calls": calls, "seconds": seconds, "p50_us": p50_us, "p99_us": p99_us, "longest_us": longest_us, "errors": 0}


def _options(config: Config) -> dict[str, Any]:
    password = config.password.reveal() if config.password else None
    return {"host": config.host, "port": config.port, "db": config.db, "username": config.username, "password": password}


def main(contestant: str) -> None:
    """Answer each line with a round."""
    with prepared(contestant, Config.from_env()) as run:
        for line in sys.stdin:
            print(json.dumps(run(float(line))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
