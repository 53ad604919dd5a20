"""Lets the kernel's out-of-memory killer end a server: its memory is bounded by a control group, and filled until it is killed."""

import contextlib
import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import redis

from cachelib import connect, deadline
from runbook.drills.faults.process import Outage, ended
from runbook.drills.undo import UndoLog, state_folder
from runbook.targets import Embedded, Target, TargetError

# What the server may take beyond what it has; filled in steps that are small against it.
ROOM_BYTES, STEP_BYTES = 16 * 1024 * 1024, 1024 * 1024
MOST_STEPS = 512
STEP_TIMEOUT_S, END_TIMEOUT_S = 1.0, 10.0


@contextlib.contextmanager
def out_of_memory(target: Target) -> Iterator[Outage]:
    """Fill a server's memory until the kernel kills it; start it again at the end of the block, and take away what filled it.

    Raises:
        TargetError: we may not make a control group here.
    """
    assert isinstance(target, Embedded)
    prefix = f"runbook:filler:{uuid.uuid4().hex}:"
    with _memory_group() as group:

        def exhaust() -> int:
            (group / "cgroup.procs").write_text(str(target.pid))
            _bound(group, _resident_bytes(target) + ROOM_BYTES)
            return _fill(target, prefix)

        with ended(target, "out-of-memory", end=exhaust, status=-signal.SIGKILL, heal=target.start) as outage:
            if not _kills(group):
                outage.doubts += ("the kernel counts no out-of-memory kill",)
            yield outage
    with connect(target.config) as client:
        for key in client.scan_iter(match=f"{prefix}*", count=1000):
            client.unlink(key)


def _fill(target: Embedded, prefix: str) -> int:
    with connect(target.config) as client:
        for number in range(MOST_STEPS):
            try:
                with deadline(STEP_TIMEOUT_S):  # it is longest when the server has just been killed
                    client.set(f"{prefix}{number}", os.urandom(STEP_BYTES))
            except redis.RedisError:
                break
    return target.await_end(END_TIMEOUT_S)


@contextlib.contextmanager
def _memory_group() -> Iterator[Path]:
    root = Path("/sys/fs/cgroup") if _is_second_version() else Path("/sys/fs/cgroup/memory")
    path = root / f"runbook-{uuid.uuid4().hex}"
    with UndoLog(state_folder(os.environ)).undoing("control group", path=str(path)):
        try:
            path.mkdir()
            if not (path / "cgroup.procs").exists() or not list(path.glob("memory.[ml]*")):
                raise TargetError(f"control groups under {root} can't bound memory here: run it as root, on the host itself")
        except OSError as error:
            raise TargetError(
                f"no control group can be made under {root} ({error.strerror}): run it as root, on the host itself"
            ) from error
        yield path


def _bound(group: Path, limit_bytes: int) -> None:
    """Bound the memory of a group, and its swap, into which it would escape otherwise; a kernel that counts no swap has no such file."""
    second = _is_second_version()
    (group / ("memory.max" if second else "memory.limit_in_bytes")).write_text(str(limit_bytes))
    swap = group / ("memory.swap.max" if second else "memory.memsw.limit_in_bytes")
    if swap.exists():
        swap.write_text("0" if second else str(limit_bytes))


def _is_second_version() -> bool:
    return Path("/sys/fs/cgroup/cgroup.controllers").exists()


def _kills(group: Path) -> int:
    counts = (group / ("memory.events" if _is_second_version() else "memory.oom_control")).read_text()
    return next((int(line.split()[1]) for line in counts.splitlines() if line.startswith("oom_kill ")), 0)


def _resident_bytes(target: Embedded) -> int:
    pages = int(Path(f"/proc/{target.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
