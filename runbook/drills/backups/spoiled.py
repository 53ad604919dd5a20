"""Copies of an append-only set that are no backup: damaged ones, and one that was taken carelessly."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from runbook.drills.backups.backup import APPEND_ONLY_SET, Backup, administering, await_that
from runbook.drills.damage.manifest import DIRECTORY
from runbook.targets import Embedded

# How an append to the ledger begins in the file.
_APPEND = b"*3\r\n$5\r\nRPUSH\r\n"


def begin_rewrite(server: Embedded, lasts_s: float) -> None:
    """Have a rewrite of the append-only file begin, and take its time.

    Args:
        server: which holds some keys.
        lasts_s: how long the rewrite takes at least, in seconds.

    Raises:
        TimeoutError: it did not begin.
    """
    with administering(server) as client:
        keys = sum(client.info("keyspace")[name]["keys"] for name in client.info("keyspace"))
        # An option for tests of the server itself: its child waits after each key, and takes the setting along when it is forked.
        client.config_set("rdb-key-save-delay", round(lasts_s * 1e6 / keys))
        try:
            client.bgrewriteaof()
            await_that("the begin of a rewrite", lambda: bool(client.info("persistence")["aof_rewrite_in_progress"]))
        finally:
            client.config_set("rdb-key-save-delay", 0)


def copy_across_rewrite(server: Embedded, into: Path, lasts_s: float) -> Backup:
    """Copy the files that there are, and those that come with a rewrite after that: between them lies what the first ones got meanwhile.

    Args:
        server: to which writers append all the time, and which does not wait for the disk.
        into: a folder to make.
        lasts_s: how long the rewrite takes at least, in seconds.

    Raises:
        TimeoutError: it did not go as it should.
    """
    source, copied = server.folder / DIRECTORY, into / DIRECTORY
    began_ns = time.monotonic_ns()
    shutil.copytree(source, copied)
    before = {path.name: path.stat().st_size for path in source.glob("*.incr.aof")}
    await_that("appends", lambda: all((source / name).stat().st_size > size for name, size in before.items()))
    begin_rewrite(server, lasts_s)
    await_that("appends to a new file", lambda: any(path.stat().st_size for path in source.glob("*.incr.aof") if path.name not in before))
    for path in source.iterdir():
        if path.name not in before and not path.name.endswith(".base.rdb"):
            shutil.copy2(path, copied)
    return Backup(APPEND_ONLY_SET, into, began_ns, time.monotonic_ns())


def _increment(folder: Path) -> Path:
    (path,) = (folder / DIRECTORY).glob("*.incr.aof")
    return path


def _tear(folder: Path) -> None:
    path = _increment(folder)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _cut_out(folder: Path) -> None:
    path = _increment(folder)
    pieces = path.read_bytes().split(_APPEND)
    third = len(pieces) // 3
    path.write_bytes(_APPEND.join([*pieces[:third], *pieces[2 * third :]]))


def _forget_manifest(folder: Path) -> None:
    for path in (folder / DIRECTORY).glob("*.manifest"):
        path.unlink()


# What is done to the folder of a good copy whose base was written before the appends.
SPOILED: dict[str, Callable[[Path], None]] = {
    "a copy without its increment": lambda folder: _increment(folder).unlink(),
    "a copy with half of its increment": _tear,
    "a copy with a piece missing from its increment": _cut_out,
    "a copy without its manifest": _forget_manifest,
}
