"""Starts a server on files that it may refuse, and tells a refusal from all else that can keep a server away."""

import signal

from runbook.targets import Embedded, NotServing, TargetError
from runbook.targets.embedded import START_TIMEOUT_S

# What a server logs before it looks at its files: where it ended earlier, that tells nothing of them.
_INITIALIZED = "Server initialized"
_CRASHED = (-signal.SIGSEGV, -signal.SIGBUS, -signal.SIGABRT, -signal.SIGFPE)
# What keeps it from writing the files of its own that it begins with.
_OF_THE_HOST = ("No space left on device", "Cannot allocate memory")


def start_or_refusal(server: Embedded, timeout_s: float = START_TIMEOUT_S) -> str:
    """Start a server; return with which words it refuses what its folder holds, or nothing if it serves.

    Args:
        server: which does not run.
        timeout_s: how long the start may take, in seconds.

    Raises:
        NotServing: it crashed.
        TargetError: it neither serves nor refuses: it was late, its port was taken meanwhile, or somebody killed it.
    """
    logged = len(server.log())
    try:
        server.start(timeout_s)
    except TargetError as error:
        if server.status in _CRASHED:
            raise NotServing(str(error)) from error
        complaint = complaint_in(server.log()[logged:])
        if not complaint or server.status is None or server.status <= 0:
            raise
        return complaint
    return ""


def complaint_in(log: str) -> str:
    """Return the first complaint about its files in the log of one start, without time and process; empty if there is none."""
    _, initialized, after = log.rpartition(_INITIALIZED)
    if not initialized or any(words in after for words in _OF_THE_HOST):
        return ""
    texts = (line.partition(" # ")[2].strip() for line in after.splitlines())
    return next((text for text in texts if text and not text.startswith("WARNING")), "").partition(": make a backup")[0]
