"""Waits for others, by locks that they share: a measurement for the notebooks beside it, an end for what is still removed."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

# Names the lock file of a verification; without it nothing of ours runs beside us.
LOCK_VARIABLE = "RUNBOOK_QUIET_LOCK"
# Names a lock file that those share who have something to remove outside of their own process.
CLEANUP_VARIABLE = "RUNBOOK_CLEANUP_LOCK"
LOOK_S = 0.05


def occupy(lock_path: Path) -> IO[str]:
    """Mark the host as busy until the returned file, and every process that inherited it, is closed."""
    lock = lock_path.open("a")
    fcntl.flock(lock, fcntl.LOCK_SH)
    return lock


@contextlib.contextmanager
def busy_host(environ: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Wait until nothing is measured beside us, and keep a measurement from beginning."""
    if not environ.get(LOCK_VARIABLE):
        yield
        return
    with occupy(Path(environ[LOCK_VARIABLE])):
        yield


@contextlib.contextmanager
def quiet_host(environ: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Wait until no other notebook of the same verification is at work, and keep others from beginning."""
    if not environ.get(LOCK_VARIABLE):
        yield
        return
    with Path(environ[LOCK_VARIABLE]).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def await_all(lock_path: Path, timeout_s: float) -> bool:
    """Wait until nobody shares the lock any more, and tell whether that came to pass in time.

    Args:
        lock_path: given to `occupy`.
        timeout_s: for how long to wait, in seconds.
    """
    until_s = time.monotonic() + timeout_s
    with lock_path.open("a") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if time.monotonic() > until_s:
                    return False
                time.sleep(LOOK_S)
