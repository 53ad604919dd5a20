"""Kills a server while it rewrites its append-only file, when an old set of files is in use and a new one half written."""

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from cachelib import connect
from runbook.drills.faults.process import Outage, ended
from runbook.drills.undo import UndoLog, birth_of, state_folder
from runbook.targets import Embedded, Target

# The child that rewrites rests after each key, so that the kill surely comes before its end: 200 keys of 10 ms take two seconds.
FILLER_KEYS, DELAY_PER_KEY_US = 200, 10_000
BEGIN_TIMEOUT_S = 10.0
HALF_WRITTEN = "temp-rewriteaof*.aof"


@contextlib.contextmanager
def killed_in_rewrite(target: Target) -> Iterator[Outage]:
    """Begin a rewrite and end the server with SIGKILL in it; start it again at the end of the block."""
    assert isinstance(target, Embedded)
    prefix, children = f"runbook:filler:{uuid.uuid4().hex}:", contextlib.ExitStack()
    undo, found = UndoLog(state_folder(os.environ)), list[int]()
    for left in target.folder.glob(HALF_WRITTEN):  # by an earlier kill
        left.unlink()
    with connect(target.config) as client:
        client.mset({f"{prefix}{number}": number for number in range(FILLER_KEYS)})
        client.config_set("rdb-key-save-delay", DELAY_PER_KEY_US)
        client.bgrewriteaof()
        until_s = time.monotonic() + BEGIN_TIMEOUT_S
        while not (rewrites := client.info("persistence")["aof_rewrite_in_progress"]) and time.monotonic() < until_s:
            time.sleep(0.001)

    def kill() -> int:
        # They outlive their parent, as after a true crash, until the end of the block: that belongs to the fault.
        for pid in _children_of(target.pid):
            found.append(pid)
            children.enter_context(undo.undoing("process", pid=pid, born=birth_of(pid)))
        return target.kill()

    with children, ended(target, "SIGKILL in a rewrite", end=kill, status=-signal.SIGKILL, heal=target.start) as outage:
        if not rewrites or not found or not list(target.folder.glob(HALF_WRITTEN)):
            outage.doubts += ("no rewrite was under way when the server was killed",)
        yield outage
    with connect(target.config) as client:
        client.unlink(*(f"{prefix}{number}" for number in range(FILLER_KEYS)))


def _children_of(pid: int | None) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
