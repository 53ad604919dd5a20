"""Cuts the power of a disk: what the kernel had not yet written is gone, as if the host had lost its power; or a model of that.

The true cut: the server's data lie on an ext4 image on a loop device. The server is stopped first, so that nothing is acknowledged
after the cut; then the file system is shut down without flushing its log (`EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`,
fs/ext4/ioctl.c, which file system developers test crashes with), and mounted anew, which replays its journal as a boot does.

The model: cachestat(2), of kernel 6.5 and later, tells which pages of a file are not on disk yet. The append-only file is cut off at the
first of them. What it can't know is what the journal would have made of it; against 17 true cuts it agreed to a page.

A true cut can leave zeros at the end of the file: ext4 orders what it writes into new blocks before the length of the file, not what it
writes into a block that was there, and whoever syncs anything commits that length. Redis refuses to start on such a file.
"""

import contextlib
import ctypes
import fcntl
import os
import platform
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from runbook.drills.damage.check_aof import MISSING, find_check_aof
from runbook.drills.faults.process import Outage, run_id
from runbook.drills.undo import UndoError, UndoLog, unmount
from runbook.targets import Embedded, TargetError

EXT4_IOC_SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2
CACHESTAT = 451  # the number of the system call on every architecture but alpha
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
DISK_MIB = 256
WITNESS, FORGOTTEN = "witness-on-disk", "witness-in-cache"
REFUSED = "Bad file format reading the append only file"


@dataclass(frozen=True, slots=True)
class Disk:
    """An ext4 image that is mounted through a loop device.

    Attributes:
        image: the file.
        mount_point: where it is mounted.
    """

    image: Path
    mount_point: Path

    def mount(self) -> None:
        """Mount it; what its journal holds is replayed.

        Raises:
            TargetError: it can't be mounted here.
        """
        _run("mount", "-o", "loop", str(self.image), str(self.mount_point))

    def cut(self) -> None:
        """Shut the file system down at once, and write nothing more of what it was told."""
        descriptor = os.open(self.mount_point, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def own_disk(undo: UndoLog, folder: Path, size_mib: int = DISK_MIB) -> Iterator[Disk]:
    """Make and mount a disk for the length of the block.

    Args:
        undo: where the mount is written down.
        folder: in which the image and the mount point are made.
        size_mib: of the disk.

    Raises:
        TargetError: it can't be done here; the message says why.
    """
    if os.geteuid() != 0:
        raise TargetError("only root may mount a disk and cut its power: run it as root")
    for program in ("mkfs.ext4", "mount"):
        if not shutil.which(program):
            raise TargetError(f"{program} is not installed: install e2fsprogs and mount")
    disk = Disk(folder / "disk.img", folder / "runbook-disk")
    disk.mount_point.mkdir()
    with disk.image.open("wb") as image:
        image.truncate(size_mib * 1024 * 1024)
    _run("mkfs.ext4", "-q", "-F", str(disk.image))
    with undo.undoing("mount", path=str(disk.mount_point)):
        disk.mount()
        # Once, at the beginning: whoever syncs just before a cut commits what ext4 knows of other files as well.
        _write(disk.mount_point / WITNESS, synced=True)
        yield disk
    disk.image.unlink()
    disk.mount_point.rmdir()


@contextlib.contextmanager
def power_cut(server: Embedded, disk: Disk, look: Callable[[Path], object] = lambda folder: None) -> Iterator[Outage]:
    """Cut the power of a server and of the disk on which its folder lies; at the end of the block both are back.

    Args:
        server: its folder lies on the disk.
        disk: to be cut.
        look: is handed the server's folder once nothing is acknowledged any more, just before the cut.

    A server that refuses the file that the cut has left is no failure of the fault: it is repaired, and `unhealed` tells so.
    """
    before = run_id(server.config)
    kept, forgotten = disk.mount_point / WITNESS, disk.mount_point / FORGOTTEN
    outage = Outage("power cut", broken_ns=time.monotonic_ns())
    server.pause()
    try:
        look(server.folder)
        _write(forgotten, synced=False)
        disk.cut()
        with contextlib.suppress(OSError):
            _write(disk.mount_point / "after", synced=True)
            outage.doubts += ("the disk could still be written after the cut",)
    finally:
        _check_killed(server.kill(), outage)
        outage.down_ns = time.monotonic_ns()
        try:
            _remount(disk)
            if not kept.exists() or kept.stat().st_size == 0:
                outage.doubts += ("what was synced before the cut is gone",)
            if forgotten.exists() and forgotten.stat().st_size:
                outage.doubts += ("what was never synced survived the cut",)
            forgotten.unlink(missing_ok=True)
            yield outage
        finally:
            outage.unhealed = start_or_repair(server)
            outage.ready_ns = time.monotonic_ns()
    if run_id(server.config) == before:
        outage.doubts += ("the same server process answers as before",)


@contextlib.contextmanager
def modelled_cut(server: Embedded) -> Iterator[Outage]:
    """Kill a server, and cut its append-only file off where the kernel had not yet written it; start it again at the end of the block."""
    outage = Outage("modelled power cut", broken_ns=time.monotonic_ns())
    if not _tells_dirty_from_clean(server.folder):
        outage.doubts += (f"the file system of {server.folder} does not tell what is on disk: set TMPDIR to a folder on a disk",)
    server.pause()
    try:
        lengths = {path: first_dirty_byte(path) for path in append_only_files(server.folder)}
    finally:
        _check_killed(server.kill(), outage)
        outage.down_ns = time.monotonic_ns()
    try:
        for path, length in lengths.items():
            if length is not None:
                os.truncate(path, length)
        yield outage
    finally:
        server.start()
        outage.ready_ns = time.monotonic_ns()


def start_or_repair(server: Embedded) -> str:
    """Start a server, and if it refuses its append-only file, repair that first, as Redis documents it.

    Returns:
        What had to be done; empty if it started by itself.

    Raises:
        TargetError: it does not start after the repair either, or for another reason.
    """
    try:
        server.start()
        return ""
    except TargetError as error:
        if REFUSED not in str(error):
            raise
    tool = find_check_aof({**os.environ, "REDIS_SERVER": server.program}, server.folder)
    if tool is None:
        raise TargetError(f"the server refuses the file that the cut left, and {MISSING}")
    cut_off = 0
    for path in append_only_files(server.folder):
        size = path.stat().st_size
        if (report := tool.fix(path)).status:
            raise TargetError(f"`redis-check-aof --fix` could not repair {path.name}, which the cut left: {report.said}")
        cut_off += size - path.stat().st_size
    server.start()
    return f"the server refused its append-only file until `redis-check-aof --fix` had cut {cut_off} bytes off its end"


def copy_as_cut(folder: Path, copy: Path) -> bool:
    """Copy a stopped server's folder, as the model says that a cut would leave it.

    Returns:
        Whether the model speaks of one moment: a sync that was under way when the server was stopped goes on in the kernel.

    Raises:
        TargetError: the kernel does not tell which pages are dirty.
    """
    files = append_only_files(folder)
    lengths = {path.relative_to(folder): first_dirty_byte(path) for path in files}
    writing = any(map(_is_being_written, files))
    shutil.copytree(folder, copy)
    for name, length in lengths.items():
        if length is not None:
            os.truncate(copy / name, length)
    return not writing and lengths == {path.relative_to(folder): first_dirty_byte(path) for path in files}


def append_only_files(folder: Path) -> list[Path]:
    """Return the files to which a server in this folder appends its commands."""
    return sorted(folder.glob("appendonlydir/*.incr.aof"))


def first_dirty_byte(path: Path) -> int | None:
    """Return the offset of the first page of a file that is not on disk yet; None if all are.

    Raises:
        TargetError: the kernel does not tell.
    """
    with path.open("r+b") as file:
        low, high = 0, os.fstat(file.fileno()).st_size
        if not _unwritten(file.fileno(), low, high):
            return None
        while high - low > PAGE_BYTES:  # the first one lies in [low, high)
            middle = low + (high - low) // 2 // PAGE_BYTES * PAGE_BYTES
            middle = max(middle, low + PAGE_BYTES)
            if _unwritten(file.fileno(), low, middle):
                high = middle
            else:
                low = middle
        return low


def _tells_dirty_from_clean(folder: Path) -> bool:
    """Try whether a file that was just written is dirty, and one that was synced is clean; on a tmpfs neither need be."""
    witness = folder / WITNESS
    try:
        _write(witness, synced=False)
        dirty = first_dirty_byte(witness)
        _write(witness, synced=True)
        return dirty == 0 and first_dirty_byte(witness) is None
    finally:
        witness.unlink(missing_ok=True)


def _unwritten(descriptor: int, begin: int, end: int) -> int:
    return sum(_pages(descriptor, begin, end))


def _is_being_written(path: Path) -> bool:
    with path.open("rb") as file:
        _, writeback = _pages(file.fileno(), 0, os.fstat(file.fileno()).st_size)
        return writeback > 0


def _pages(descriptor: int, begin: int, end: int) -> tuple[int, int]:
    """Count the pages of a file that are dirty, and those that are being written to the disk."""
    span, counts = (ctypes.c_uint64 * 2)(begin, end - begin), (ctypes.c_uint64 * 5)()
    if begin == end:
        return 0, 0
    libc = ctypes.CDLL(None, use_errno=True)
    if platform.system() != "Linux" or libc.syscall(CACHESTAT, descriptor, ctypes.byref(span), ctypes.byref(counts), 0):
        raise TargetError(f"this kernel does not tell which pages are on disk ({os.strerror(ctypes.get_errno())}): it takes Linux 6.5")
    _, dirty, writeback, _, _ = counts
    return int(dirty), int(writeback)


def _remount(disk: Disk) -> None:
    try:
        unmount(str(disk.mount_point))
    except UndoError as error:
        raise TargetError(str(error)) from error
    disk.mount()


def _check_killed(status: int, outage: Outage) -> None:
    if status != -signal.SIGKILL:
        outage.doubts += (f"the server ended with status {status}",)


def _write(path: Path, *, synced: bool) -> None:
    with path.open("wb") as file:
        file.write(b"x" * PAGE_BYTES)
        file.flush()
        if synced:
            os.fsync(file.fileno())


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise TargetError(f"`{' '.join(command[:3])}` failed here: {done.stderr.strip() or done.returncode}")
