"""Waits for what other processes still remove, by a lock that they share and that ends with them."""

import fcntl
import time
from pathlib import Path
from typing import IO

# Names a lock file that those share who have something to remove outside of their own process.
CLEANUP_VARIABLE = "RUNBOOK_CLEANUP_LOCK"
LOOK_S = 0.05


def occupy(lock_path: Path) -> IO[str]:
    """Share the lock until the returned file is closed, here and in every process that inherited it."""
    lock = lock_path.open("a")
    fcntl.flock(lock, fcntl.LOCK_SH)
    return lock


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
