"""What an operator does about an append-only file that can't be written, and how it is verified that it has helped."""

from collections.abc import Mapping
from typing import Any

import redis

from runbook.drills.disks.patience import await_true

FREE_SPACE = "make room on the disk, and wait a second"
REWRITE = "BGREWRITEAOF, if INFO says aof_last_bgrewrite_status:err"
REOPEN = "mend the disk, CONFIG SET appendonly no, CONFIG SET appendonly yes"
VERIFY = "INFO persistence says aof_last_write_status:ok, aof_last_bgrewrite_status:ok, and that no rewrite is scheduled or in progress"

REOPEN_TIMEOUT_S = 15.0


def unwell(info: Mapping[str, Any]) -> tuple[str, ...]:
    """Tell what keeps an append-only file from being relied on; empty if nothing does.

    Args:
        info: the section `persistence` of INFO.
    """
    wanted = {
        "aof_enabled": 1,
        "aof_last_write_status": "ok",
        "aof_last_bgrewrite_status": "ok",
        "aof_rewrite_scheduled": 0,
        "aof_rewrite_in_progress": 0,
    }
    return tuple(f"{name}:{info.get(name)}" for name, value in wanted.items() if info.get(name) != value)


def reopen(client: redis.Redis, timeout_s: float = REOPEN_TIMEOUT_S) -> tuple[str, ...]:
    """Let the server write all its data into a new append-only file; return what `unwell` still tells after a while.

    What an fsync that failed had left to write may never reach the disk, whatever later ones say (the kernel forgets it), so that the
    old file can't be mended.
    """
    client.config_set("appendonly", "no")
    client.config_set("appendonly", "yes")
    return await_well(client, timeout_s)


def rewrite(client: redis.Redis, timeout_s: float = REOPEN_TIMEOUT_S) -> tuple[str, ...]:
    """Let the server rewrite its append-only file; return what `unwell` still tells after a while."""
    client.bgrewriteaof()
    return await_well(client, timeout_s)


def await_well(client: redis.Redis, timeout_s: float) -> tuple[str, ...]:
    """Wait until `unwell` tells nothing more, and return what it still tells in the end."""
    await_true(lambda: not unwell(client.info("persistence")), timeout_s)
    return unwell(client.info("persistence"))
