"""Brings a server of ours, or a client's pool, to one of its limits, proves that it is reached, and relieves it in the end.

Each is a context manager around what callers do meanwhile, and hands out a `Reach`, which holds the doubts once the block has ended.
"""

import contextlib
import resource
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import redis

from cachelib import Client
from runbook.drills.faults.process import paused
from runbook.targets import Local, Target, TargetError

FILLER, BIG, CHANNEL = "runbook:limits:filler", "runbook:limits:big", "runbook:limits:channel"
MEMORY_ROOM_BYTES = 4 * 2**20
BIG_BYTES = 2**20
OUTPUT_BYTES = 2**18
# Connections, or descriptors, that are left and that we take ourselves.
SPARE = 3
# By when a server has done what it was made to do.
PATIENCE_S = 5.0
CUT_S = 0.5
_LOOK_S = 0.01


@dataclass(slots=True)
class Reach:
    """How long a limit was reached; times are of `time.monotonic_ns`.

    Attributes:
        reached_ns: when it was.
        relieved_ns: just before it was relieved; 0 until then.
        healed_ns: when all was as before; 0 until then.
        doubts: why it can't be said that it was reached; empty if it was.
    """

    reached_ns: int = 0
    relieved_ns: int = 0
    healed_ns: int = 0
    doubts: tuple[str, ...] = ()

    def require(self, holds: bool, otherwise: str) -> None:
        """Doubt unless something holds."""
        if not holds:
            self.doubts += (otherwise,)


@dataclass(frozen=True, slots=True)
class Scene:
    """On what a limit is reached.

    Attributes:
        target: the server.
        direct: a client of ours that is connected already.
        caller: the client that will meet the limit, not connected yet.
    """

    target: Target
    direct: Client
    caller: Client


@contextlib.contextmanager
def memory_full(scene: Scene) -> Iterator[Reach]:
    """Fill the memory beyond `maxmemory` by one write that the server let through; the end deletes what fills it."""
    direct = scene.direct
    limit = direct.info("memory")["used_memory"] + MEMORY_ROOM_BYTES
    with configured(direct, "maxmemory", str(limit)):
        refused = _refused_for_memory(direct)
        direct.setrange(FILLER, 2 * MEMORY_ROOM_BYTES - 1, "x")
        try:
            with _reached() as reach:
                yield reach
                reach.require(direct.info("memory")["used_memory"] > limit, "less memory was used than maxmemory allows")
                reach.require(_refused_for_memory(direct) > refused, "the server refused no write for want of memory")
        finally:
            direct.unlink(FILLER)


@contextlib.contextmanager
def clients_full(scene: Scene) -> Iterator[Reach]:
    """Take all connections that `maxclients` leaves; the end gives them back."""
    direct = scene.direct
    limit = direct.info("clients")["connected_clients"] + SPARE
    with configured(direct, "maxclients", str(limit)), contextlib.ExitStack() as taken:
        _take(scene, taken, lambda: direct.info("clients")["connected_clients"] >= limit, f"the server to have {limit} clients")
        rejected = direct.info("stats")["rejected_connections"]
        with _reached() as reach:
            yield reach
            reach.require(direct.info("stats")["rejected_connections"] > rejected, "the server rejected no connection")


@contextlib.contextmanager
def descriptors_used_up(scene: Scene) -> Iterator[Reach]:
    """Lower the server's limit of open files to what it has open, by way of prlimit(2); the end raises it again.

    The kernel goes on to take connections, and the server can't accept them: nobody answers, and nobody refuses.

    Raises:
        TargetError: the process can't be seen from here, or is not ours to limit.
    """
    pid = _pid(scene.target)
    try:
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        limit = max(_open_files(pid)) + 1 + SPARE
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, hard))
    except (AttributeError, OSError) as error:
        raise TargetError(f"the limits of the server's process can't be changed ({error}): run this on Linux, as root") from error
    with contextlib.ExitStack() as taken:
        taken.callback(resource.prlimit, pid, resource.RLIMIT_NOFILE, (soft, hard))
        _take(scene, taken, lambda: len(_open_files(pid)) >= limit, f"the server to have {limit} files open")
        with _reached() as reach:
            yield reach
            reach.require(len(_open_files(pid)) >= limit, "the server had a descriptor to spare")


@contextlib.contextmanager
def pool_used_up(scene: Scene) -> Iterator[Reach]:
    """Hold every connection of the caller's pool with a BLPOP; the end pushes what they wait for."""
    direct, caller, size = scene.direct, scene.caller, scene.caller.connection_pool.max_connections
    queue = f"runbook:limits:{uuid.uuid4().hex}"

    def hold() -> None:
        with contextlib.suppress(redis.RedisError):  # it shows as a connection that is not held
            caller.blpop([queue], timeout=60)

    def held() -> bool:
        return caller.pool_stats().in_use == size and direct.info("clients")["blocked_clients"] >= size

    holders = [threading.Thread(target=hold, daemon=True) for _ in range(size)]
    for holder in holders:
        holder.start()
    try:
        _await(held, f"the pool's {size} connections to be in use")
        with _reached() as reach:
            yield reach
            reach.require(held(), "a connection of the pool came free")
    finally:
        direct.rpush(queue, *range(size))
        for holder in holders:
            holder.join()
        direct.unlink(queue)


@contextlib.contextmanager
def server_still(scene: Scene) -> Iterator[Reach]:
    """Stop the server's process by SIGSTOP, so that callers pile up before the pool; the end lets it go on."""
    with paused(scene.target) as outage, _reached() as reach:
        reach.doubts += outage.doubts
        yield reach


@contextlib.contextmanager
def replies_too_long(scene: Scene) -> Iterator[Reach]:
    """Limit the output buffers of clients to less than a reply takes, which cuts who asks for one and doesn't read; the end lifts it."""
    scene.direct.setrange(BIG, BIG_BYTES - 1, "x")
    try:
        with _output_limited(scene, "normal", f"GETRANGE {BIG} 0 -1\r\n") as reach:
            yield reach
    finally:
        scene.direct.unlink(BIG)


@contextlib.contextmanager
def subscriber_deaf(scene: Scene) -> Iterator[Reach]:
    """Subscribe with a client that doesn't read, and limit the output buffers of subscribers, so that publishing cuts it."""
    with _output_limited(scene, "pubsub", f"SUBSCRIBE {CHANNEL}\r\n") as reach:
        yield reach


@contextlib.contextmanager
def configured(client: Client, name: str, value: str) -> Iterator[None]:
    """Change a setting of the server for the length of the block."""
    before = str(client.config_get(name)[name])
    client.config_set(name, value)
    try:
        yield
    finally:
        client.config_set(name, before)


@contextlib.contextmanager
def _output_limited(scene: Scene, kind: str, asked: str) -> Iterator[Reach]:
    direct = scene.direct
    with configured(direct, "client-output-buffer-limit", f"{kind} {OUTPUT_BYTES} 0 0"), _dialled(scene) as deaf:
        name = f"deaf-{uuid.uuid4().hex[:8]}"
        deaf.sendall(f"CLIENT SETNAME {name}\r\n".encode())
        _await(lambda: _is_connected(direct, name), "a client that does not read to be connected")
        deaf.sendall(asked.encode())
        with _reached() as reach:
            yield reach
            # Valkey takes its time to cut.
            reach.require(_comes_true(lambda: not _is_connected(direct, name), CUT_S), "the client that does not read was not cut")


@contextlib.contextmanager
def _reached() -> Iterator[Reach]:
    reach = Reach(time.monotonic_ns())
    yield reach
    reach.relieved_ns = time.monotonic_ns()


@contextlib.contextmanager
def _dialled(scene: Scene) -> Iterator[socket.socket]:
    """Connect, and take in as little as possible without reading."""
    with socket.socket() as dialled:
        dialled.settimeout(PATIENCE_S)
        dialled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        dialled.connect((scene.target.config.host, scene.target.config.port))
        yield dialled


def _take(scene: Scene, taken: contextlib.ExitStack, full: Callable[[], bool], what: str) -> None:
    """Make connections until there is room for no more; of others, some may just have ended."""

    def taken_all() -> bool:
        taken.enter_context(_dialled(scene))
        return full()

    _await(taken_all, what)


def _await(condition: Callable[[], bool], what: str) -> None:
    if not _comes_true(condition, PATIENCE_S):
        raise TargetError(f"waited {PATIENCE_S:g} s in vain for {what}")


def _comes_true(condition: Callable[[], bool], within_s: float) -> bool:
    until_s = time.monotonic() + within_s
    while not (holds := condition()) and time.monotonic() < until_s:
        time.sleep(_LOOK_S)
    return holds


def _refused_for_memory(direct: Client) -> int:
    return int(direct.info("errorstats").get("errorstat_OOM", {}).get("count", 0))


def _is_connected(direct: Client, name: str) -> bool:
    return any(client["name"] == name for client in direct.client_list())


def _pid(target: Target) -> int:
    pid = target.pid if isinstance(target, Local) else None
    if pid is None:
        raise TargetError("the server's process can't be seen from this host: run this on a target whose kernel is ours, such as embedded")
    return pid


def _open_files(pid: int) -> list[int]:
    return [int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir()]
