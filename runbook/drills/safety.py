"""What keeps a drill from harming: it refuses what is not ours, and what is not well before it begins."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

import redis

from cachelib import connect, deadline
from runbook.drills.undo import left_behind
from runbook.targets import Target, TargetError

# Every key that we ever write begins so.
OWN_KEYS = "runbook:"
PROBE_KEY = "runbook:steady"
LOOK_S = 2.0
# A health check's connection is there for milliseconds; who is still there after that stays.
SETTLE_S = 0.3
MOST_KEYS_LOOKED_AT = 10_000


class Refusal(TargetError):
    """A drill does not begin, since it could harm what is not ours, or could prove nothing; the message says why."""


@contextlib.contextmanager
def exclusive(state: Path, name: str, *, wait: bool = False) -> Iterator[None]:
    """Keep other drills of this user from beginning during the block.

    Args:
        state: the folder of the state.
        name: what is at work, for those who are refused.
        wait: whether to wait for the end of another one.

    Raises:
        Refusal: another one is at work.
    """
    state.mkdir(parents=True, exist_ok=True)
    with (state / "drill.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            lock.seek(0)
            raise Refusal(f"another drill is at work ({lock.read().strip()}): wait for its end, or interrupt it") from None
        lock.truncate(0)
        lock.write(f"{name}, pid {os.getpid()}")
        lock.flush()
        yield
        lock.truncate(0)


def check_healed(state: Path) -> None:
    """Check that no drill that crashed has left anything behind.

    Raises:
        Refusal: one has.
    """
    if left := left_behind(state):
        raise Refusal(f"a drill that crashed has left {len(left)} things behind: run `runbook heal` first")


def check_ours(target: Target) -> None:
    """Check that a server can be broken: no keys, replicas or clients of others, and well.

    Raises:
        Refusal: it is not so, with each reason.
    """
    with connect(target.config) as client, deadline(LOOK_S + SETTLE_S):
        try:
            reasons = [*_foreign_keys(client), *_replicas(client), *_foreign_clients(client)]
        except redis.RedisError as error:
            raise Refusal(f"the server can't be looked at ({error}): a drill would prove nothing") from error
    if reasons:
        raise Refusal(f"this server is not ours to break: {'; '.join(reasons)}")
    if problems := problems_of(target):  # which writes a key, and so comes after
        raise Refusal(f"this server is not well, so that a drill would prove nothing: {'; '.join(problems)}")


def problems_of(target: Target) -> list[str]:
    """Tell what keeps a server from being in its steady state; empty if nothing does."""
    try:
        with connect(target.config) as client, deadline(LOOK_S):
            client.set(PROBE_KEY, "steady")
            kept = client.get(PROBE_KEY)
            client.unlink(PROBE_KEY)
            info = client.info()
    except redis.RedisError as error:
        return [f"a write, a read and a look do not succeed within {LOOK_S:g} s ({type(error).__name__}: {error})"]
    problems = [] if kept == b"steady" else ["what was written is not what is read"]
    for name in ("aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status"):
        if info.get(name, "ok") != "ok":
            problems.append(f"{name} is {info[name]}")
    if info.get("loading") or info.get("async_loading"):
        problems.append("it still loads its data")
    return problems


def _foreign_keys(client: redis.Redis) -> list[str]:
    for looked_at, key in enumerate(client.scan_iter(count=1000), 1):
        if not key.startswith(OWN_KEYS.encode()):
            return [f"it holds keys that are not ours, first {key[:60]!r}"]
        if looked_at >= MOST_KEYS_LOOKED_AT:
            return [f"it holds more than {MOST_KEYS_LOOKED_AT} keys"]
    return []


def _replicas(client: redis.Redis) -> list[str]:
    info = client.info("replication")
    if info["role"] != "master":
        return [f"it is a {info['role']}, whose primary is not ours"]
    return [f"{info['connected_slaves']} replicas follow it"] if info["connected_slaves"] else []


def _foreign_clients(client: redis.Redis) -> list[str]:
    own = client.client_id()
    first = {each["id"] for each in client.client_list()}
    time.sleep(SETTLE_S)
    stayed = [each for each in client.client_list() if each["id"] in first and each["id"] != str(own)]
    return [f"{len(stayed)} other clients are connected, first {stayed[0]['addr']}"] if stayed else []
