"""Takes backups of a server that goes on being written to, step by step as Redis documents it.

The steps are those of "Backing up Redis data" and "Backing up AOF persistence" in
https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/
"""

import dataclasses
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import redis

from cachelib import Client, connect
from runbook.drills.damage.manifest import DIRECTORY
from runbook.drills.disks.patience import await_true
from runbook.targets import Embedded

APPEND_ONLY_SET, SNAPSHOT = "append-only set", "snapshot"
SNAPSHOT_NAME = "dump.rdb"
# A rewrite, or a snapshot, of what fits into the memory of a server of ours takes less, also where others use the disk.
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Backup:
    """A copy of what a server had on disk; times are of `time.monotonic_ns`.

    Attributes:
        kind: `APPEND_ONLY_SET` or `SNAPSHOT`.
        folder: holds what a server's folder has to hold.
        began_ns: when it was begun: what was acknowledged earlier should be in it.
        ended_ns: when it was complete.
    """

    kind: str
    folder: Path
    began_ns: int
    ended_ns: int


def copy_append_only_set(server: Embedded, into: Path) -> Backup:
    """Copy the files of the append-only set, while no rewrite can replace one of them.

    Args:
        server: which goes on serving.
        into: a folder to make.

    Raises:
        TimeoutError: a rewrite that was under way did not end.
    """
    with administering(server) as client:
        percentage = client.config_get("auto-aof-rewrite-percentage")["auto-aof-rewrite-percentage"]
        client.config_set("auto-aof-rewrite-percentage", 0)
        try:
            await_rewritten(client)
            began_ns = time.monotonic_ns()
            shutil.copytree(server.folder / DIRECTORY, into / DIRECTORY)
            ended_ns = time.monotonic_ns()
        finally:
            client.config_set("auto-aof-rewrite-percentage", percentage)
    return Backup(APPEND_ONLY_SET, into, began_ns, ended_ns)


def copy_snapshot(server: Embedded, into: Path) -> Backup:
    """Let the server write a snapshot beside its work, and copy it.

    Args:
        server: which goes on serving.
        into: a folder to make.

    Raises:
        TimeoutError: it did not get done.
        redis.RedisError: the server refused to write one.
    """
    with administering(server) as client:
        before = client.lastsave()
        # LASTSAVE counts whole seconds: within the same one it would not tell a new snapshot from the last.
        await_that("the next second of the server's clock", lambda: int(client.time()[0]) > before.timestamp())
        await_that("the end of another snapshot", lambda: not client.info("persistence")["rdb_bgsave_in_progress"])
        began_ns = time.monotonic_ns()
        client.bgsave(schedule=True)  # a rewrite that is under way would make it an error
        await_that("a snapshot", lambda: not client.info("persistence")["rdb_bgsave_in_progress"] and client.lastsave() > before)
    into.mkdir(parents=True)
    shutil.copy2(server.folder / SNAPSHOT_NAME, into)
    return Backup(SNAPSHOT, into, began_ns, time.monotonic_ns())


def administering(server: Embedded) -> Client:
    """Connect with more patience than an application has; use it in a `with` statement."""
    return connect(dataclasses.replace(server.config, deadline_s=PATIENCE_S))


def rewrite(client: redis.Redis) -> None:
    """Have a server write all that it holds into a new base of its append-only set, and wait until it is done.

    Raises:
        TimeoutError: it takes too long.
    """
    client.bgrewriteaof()
    await_rewritten(client)


def await_rewritten(client: redis.Redis) -> None:
    """Wait until no rewrite of the append-only file is under way or about to begin.

    Raises:
        TimeoutError: it takes too long.
    """
    await_that("the end of a rewrite", lambda: not rewriting(client))


def rewriting(client: redis.Redis) -> bool:
    """Tell whether a rewrite of the append-only file is under way or about to begin."""
    info = client.info("persistence")
    return bool(info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"])


def await_that(what: str, happened: Callable[[], bool]) -> None:
    """Wait until something has happened.

    Raises:
        TimeoutError: it takes too long.
    """
    if not await_true(happened, PATIENCE_S):
        raise TimeoutError(f"waited {PATIENCE_S:g} s for {what}: look into the server's log")
