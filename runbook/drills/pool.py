"""Fills a connection pool to its last connection, and lets the server count."""

import contextlib
import dataclasses
import threading
import time
import uuid

import redis

from cachelib import Config, PoolExhausted, connect, deadline

PATIENCE_S = 5.0


def fill_pool(config: Config, size: int) -> tuple[int, bool]:
    """Keep `size` callers of one client busy at the same time, each in a BLPOP of its own, and try one caller more.

    Args:
        config: where to connect.
        size: of the pool, and how many callers.

    Returns:
        How many more blocked connections the server counted than before, and whether the one caller more was refused.
    """
    key = f"runbook:pool:{uuid.uuid4().hex}"
    sized = dataclasses.replace(config, pool_size=size)
    with connect(sized) as client, connect(config) as watcher:
        before = _blocked(watcher)
        callers = [threading.Thread(target=_block, args=(client, key), daemon=True) for _ in range(size)]
        for caller in callers:
            caller.start()
        try:
            busy = _await_blocked(watcher, before + size) - before
            refused = _one_more_is_refused(client)
        finally:
            client.connection_pool.disconnect()  # lets them go, even where the server is too full for a push to wake them
            for caller in callers:
                caller.join()
    return busy, refused


def _block(client: redis.Redis, key: str) -> None:
    with contextlib.suppress(redis.RedisError):  # the connection is cut once it has been counted
        client.blpop([key], timeout=2 * PATIENCE_S)


def _blocked(watcher: redis.Redis) -> int:
    try:
        return int(watcher.info("clients")["blocked_clients"])
    except KeyError:
        raise redis.InvalidResponse("INFO does not tell how many clients are blocked; is this a Redis?") from None


def _await_blocked(watcher: redis.Redis, wanted: int) -> int:
    until_s = time.monotonic() + PATIENCE_S
    while (blocked := _blocked(watcher)) < wanted and time.monotonic() < until_s:
        time.sleep(0.01)
    return blocked


def _one_more_is_refused(client: redis.Redis) -> bool:
    try:
        with deadline(0.1):
            client.ping()
    except PoolExhausted:
        return True
    return False
