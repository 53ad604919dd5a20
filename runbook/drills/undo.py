"""The ledger on disk of what drills have broken: written before they break it, so that `runbook heal` can undo it after a crash.

What a drill breaks inside of its own process, such as a proxy, ends with it, and so does every server that is tethered to it. What outlives
a process is written down here: a mount, a folder, a process, a control group.
"""

import contextlib
import json
import os
import platform
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from runbook.evidence.store import write_atomically

STATE_VARIABLE = "RUNBOOK_STATE_DIR"
# A file system stays busy for a moment after the last process that used it has ended.
UNMOUNT_TIMEOUT_S = 10.0
# What we remove as a whole is named so: a path that came into the ledger by whatever mistake is left alone.
OWN_PREFIX = "runbook-"


class UndoError(Exception):
    """Something could not be undone; the message says what is left, and what to do."""


def state_folder(environ: Mapping[str, str]) -> Path:
    """Return where the ledger and the locks are kept: `$RUNBOOK_STATE_DIR`, else the user's folder for state."""
    if named := environ.get(STATE_VARIABLE):
        return Path(named)
    home = environ.get("XDG_STATE_HOME") or os.path.join(environ.get("HOME") or os.path.expanduser("~"), ".local", "state")
    return Path(home) / "redis-runbook"


class UndoLog:
    """What this process has broken and must undo.

    Args:
        folder: of the state, see `state_folder`; it is made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "undo"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._owner = {"pid": os.getpid(), "born": birth_of(os.getpid()), "boot": _boot(), "place": _place()}

    @contextlib.contextmanager
    def undoing(self, kind: str, **what: Any) -> Iterator[None]:
        """Write down how to undo what the block does, and undo it at its end; what can't be undone stays written.

        Args:
            kind: one of `UNDO`.
            what: its arguments.

        Raises:
            UndoError: it could not be undone.
        """
        path = self._folder / f"{uuid.uuid4().hex}.json"
        write_atomically(path, json.dumps({"owner": self._owner, "at_ns": time.monotonic_ns(), "kind": kind, "what": what}).encode())
        try:
            yield
        finally:
            UNDO[kind](**what)
            path.unlink(missing_ok=True)


def left_behind(folder: Path) -> list[Path]:
    """Return the entries of processes that have ended, the newest first: a mount before the folder that holds it."""
    entries = []
    for path in (folder / "undo").glob("*.json"):
        with contextlib.suppress(FileNotFoundError):
            entry = json.loads(path.read_text())
            owner = entry["owner"]
            alive = owner["boot"] == _boot() and birth_of(owner["pid"]) == owner["born"]
            if owner["place"] == _place() and not alive:
                entries.append((-entry["at_ns"], path))
    return [path for _, path in sorted(entries)]


def heal(folder: Path) -> Iterator[str]:
    """Undo what drills that crashed have left, and tell of each thing in words.

    Raises:
        UndoError: something could not be undone; everything else was tried.
    """
    problems = []
    for path in left_behind(folder):
        entry = json.loads(path.read_text())
        named = f"{entry['kind']} {' '.join(map(str, entry['what'].values()))}"
        try:
            UNDO[entry["kind"]](**entry["what"])
        except UndoError as error:
            problems.append(str(error))
            continue
        path.unlink(missing_ok=True)
        yield named
    if problems:
        raise UndoError("; ".join(problems))


def birth_of(pid: int) -> int | None:
    """Return when a process was started, in ticks since boot, which tells it from a later one of the same id; None if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def _boot() -> str:
    """Name this boot of the host: process ids, and when processes were born, begin anew with each."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else ""


def _place() -> str:
    """Name the host, or the container: what is written down in a folder that several share is undone where it was done."""
    namespace = Path("/proc/self/ns/pid")
    return f"{platform.node()} {os.readlink(namespace) if namespace.is_symlink() else ''}"


def _end_process(pid: int, born: int) -> None:
    """End a process, stopped or not, if it is still the same."""
    if birth_of(pid) == born:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _resume_process(pid: int, born: int) -> None:
    """Let a process go on, if it is still the same."""
    if birth_of(pid) == born:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def _check_own(path: str) -> None:
    if not Path(path).name.startswith(OWN_PREFIX):
        raise UndoError(f"{path} is not named as what is ours: undo it by hand if it is")


def unmount(path: str) -> None:
    """Unmount a folder; its loop device goes with it."""
    _check_own(path)
    until_s = time.monotonic() + UNMOUNT_TIMEOUT_S
    while os.path.ismount(path):
        done = subprocess.run(["umount", path], capture_output=True, text=True, check=False)
        if done.returncode and time.monotonic() > until_s:
            raise UndoError(f"{path} can't be unmounted ({done.stderr.strip()}): end what uses it, then run `runbook heal`")
        if done.returncode:
            time.sleep(0.05)


def _remove_folder(path: str) -> None:
    _check_own(path)
    shutil.rmtree(path, ignore_errors=True)
    if os.path.exists(path):
        raise UndoError(f"{path} can't be removed as a whole: look what is mounted there, or who owns it")


def _remove_control_group(path: str) -> None:
    """Remove a control group; what still runs in it, which we put there, is ended."""
    _check_own(path)
    procs = Path(path) / "cgroup.procs"
    until_s = time.monotonic() + UNMOUNT_TIMEOUT_S
    while procs.exists():
        for pid in procs.read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        with contextlib.suppress(OSError):  # busy for a moment after the last process has ended
            os.rmdir(path)
        if time.monotonic() > until_s:
            raise UndoError(f"the control group {path} can't be removed: end what runs in it, then run `runbook heal`")
        time.sleep(0.02)


UNDO: dict[str, Callable[..., None]] = {
    "process": _end_process,
    "stopped process": _resume_process,
    "mount": unmount,
    "folder": _remove_folder,
    "control group": _remove_control_group,
}
