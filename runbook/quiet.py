"""Keeps a measurement apart from the notebooks beside it: those at work share a lock that a measurement takes for itself."""

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

# Names the lock file of a verification; without it nothing of ours runs beside us.
LOCK_VARIABLE = "RUNBOOK_QUIET_LOCK"
# Names a lock file that those share who have something to remove outside of their own process.
CLEANUP_VARIABLE = "RUNBOOK_CLEANUP_LOCK"


def occupy(lock_path: Path) -> IO[str]:
    """Mark the host as busy until the returned file, and every process that inherited it, is closed."""
    lock = lock_path.open("a")
    fcntl.flock(lock, fcntl.LOCK_SH)
    return lock


@contextlib.contextmanager
def quiet_host(environ: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Wait until no other notebook of the same verification is at work, and keep others from beginning."""
    if not environ.get(LOCK_VARIABLE):
        yield
        return
    with Path(environ[LOCK_VARIABLE]).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
