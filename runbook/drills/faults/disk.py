"""Breaks the disk under a server: no room is left on it, its fsync fails, or takes seconds.

A file system of our own is filled to its last block. An fsync is bent on its way into the kernel by strace, whose log shows every call. The
one takes the right to mount, the other the right to trace: where that is missing, a `Refusal` says so.
"""

import contextlib
import errno
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runbook.drills.safety import Refusal
from runbook.drills.undo import UndoLog
from runbook.targets import Local
from runbook.tether import tethered

DISK_MIB = 16
BALLAST = "runbook-ballast"
# How long strace may take to seize every thread, and to let go of them.
TRACE_TIMEOUT_S = 10.0
# Redis calls fdatasync on Linux, and its rewriting child fsync.
SYNCS = "fsync,fdatasync"


@dataclass(slots=True, eq=False)
class FullDisk:
    """A file system without room; times are of `time.monotonic_ns`.

    Attributes:
        full_ns: when nothing more could be written.
        freed_ns: just before room was made; 0 until then.
        doubts: why it can't be said that it was full; empty if it was.
    """

    full_ns: int = 0
    freed_ns: int = 0
    doubts: tuple[str, ...] = ()


@contextlib.contextmanager
def small_disk(undo: UndoLog, parent: Path) -> Iterator[Path]:
    """Mount a small file system of our own for the length of the block.

    Args:
        undo: where that is written down.
        parent: the folder in which it is mounted.

    Raises:
        Refusal: it can't be mounted.
    """
    folder = Path(tempfile.mkdtemp(prefix="runbook-disk-", dir=parent))
    try:
        with undo.undoing("mount", path=str(folder)):
            command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=700", "runbook", str(folder)]
            try:
                subprocess.run(command, capture_output=True, text=True, check=True)
            except (OSError, subprocess.CalledProcessError) as error:
                said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()[0]
                raise Refusal(f"no file system can be mounted ({said}): run this drill as root, where it is allowed") from error
            yield folder
    finally:
        with contextlib.suppress(OSError):  # what could not be unmounted stays, and the error that says so
            folder.rmdir()


@contextlib.contextmanager
def full(disk: Path) -> Iterator[FullDisk]:
    """Fill a file system of our own to its last block; make room again at the end of the block."""
    ballast, fault = disk / BALLAST, FullDisk()
    try:
        _fill(ballast)
        fault.full_ns = time.monotonic_ns()
        yield fault
        if left := os.statvfs(disk).f_bavail:
            fault.doubts += (f"{left} blocks of the disk were free again before room was made",)
    finally:
        fault.freed_ns = time.monotonic_ns()
        ballast.unlink(missing_ok=True)
    if not os.statvfs(disk).f_bavail:
        fault.doubts += ("the disk was still full after room was made",)


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise


class BentSync:
    """The fsync calls of one server, as strace tells of them.

    Args:
        log: what it writes.
        mark: what it writes behind each call that it bent.
    """

    def __init__(self, log: Path, mark: str) -> None:
        self._log, self._mark = log, mark
        self._last_words: str | None = None
        self.unhealed: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<BentSync {self.bent} bent{', inside of a call' if self.inside else ''}>"

    @property
    def bent(self) -> int:
        """How many calls have been bent so far, and have ended."""
        return self._told().count(self._mark)

    @property
    def inside(self) -> bool:
        """Whether a call is under way, or was when the server ended: strace then gives it a `?`."""
        told = self._told()
        return len(re.findall(r"\bf(?:data)?sync\(", told)) > len(re.findall(r"\) += (?!\?)", told))

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why it can't be said, as of now, that a call was bent; empty if one was."""
        return self.unhealed + (() if self.bent or self.inside else ("strace bent no fsync of the server",))

    def close(self, unhealed: tuple[str, ...]) -> None:
        """Remember what was told, since the log goes; and how the server could not be healed."""
        self._last_words, self.unhealed = self._told(), unhealed

    def _told(self) -> str:
        return self._log.read_text() if self._last_words is None else self._last_words


@contextlib.contextmanager
def failing_fsync(target: Local, folder: Path, *, when: str = "1+") -> Iterator[BentSync]:
    """Let fsync calls of a server fail with EIO, without reaching the disk, until the end of the block.

    Args:
        target: a server of ours.
        folder: for the log of strace.
        when: which calls of each thread, as strace counts them: `1` is the first alone, `5+` all from the fifth on.

    Raises:
        Refusal: it can't be traced.
    """
    with _bending(target, folder, f"error=EIO:when={when}", "(INJECTED)") as fault:
        yield fault


@contextlib.contextmanager
def slow_fsync(target: Local, folder: Path, *, delay_s: float) -> Iterator[BentSync]:
    """Delay each fsync call of a server before it reaches the disk, until the end of the block.

    Args:
        target: a server of ours.
        folder: for the log of strace.
        delay_s: by how many seconds.

    Raises:
        Refusal: it can't be traced.
    """
    with _bending(target, folder, f"delay_enter={round(delay_s * 1e6)}", "(DELAYED)") as fault:
        yield fault


@contextlib.contextmanager
def _bending(target: Local, folder: Path, how: str, mark: str) -> Iterator[BentSync]:
    pid, program = target.pid, shutil.which("strace")
    assert pid is not None
    if program is None:
        raise Refusal("there is no strace, which bends the fsync: install it (apt-get install strace)")
    with tempfile.TemporaryDirectory(prefix="runbook-strace-", dir=folder) as scratch:
        log, complaints = Path(scratch, "log"), Path(scratch, "stderr")
        log.touch()
        command = [program, "-f", "-qq", "-e", "signal=none", "-e", f"trace={SYNCS}", "-e", f"inject={SYNCS}:{how}"]
        with complaints.open("w") as stderr:
            tracer = subprocess.Popen(
                tethered([*command, "-o", str(log), "-p", str(pid)]),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,
            )
        fault = BentSync(log, mark)
        try:
            _await_seized(pid, tracer, complaints)
            yield fault
        finally:
            _let_go(tracer)
            held = _tracers(pid) - {0}
            fault.close((f"the server is still traced, by process {min(held)}",) if held else ())


def _await_seized(pid: int, tracer: subprocess.Popen[bytes], complaints: Path) -> None:
    until_s = time.monotonic() + TRACE_TIMEOUT_S
    while _tracers(pid) != {tracer.pid}:
        if tracer.poll() is not None or time.monotonic() > until_s:
            said = complaints.read_text().strip() or f"it did not seize every thread within {TRACE_TIMEOUT_S:g} s"
            raise Refusal(f"the server can't be traced ({said}): run this drill as root, where ptrace is allowed")
        time.sleep(0.01)


def _let_go(tracer: subprocess.Popen[bytes]) -> None:
    """End strace; the kernel lets go of what it traced even if it has to be killed."""
    tracer.terminate()
    try:
        tracer.wait(TRACE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        tracer.kill()
        tracer.wait()


def _tracers(pid: int) -> set[int]:
    """Return by which processes the threads of a process are traced, 0 for none; empty if it has ended."""
    tracers = set()
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            tracers |= {int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("TracerPid:")}
    return tracers
