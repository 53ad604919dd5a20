"""Ties the life of a child process to ours: it is killed when we end, by whatever cause, SIGKILL included."""

import os
import sys
from collections.abc import Sequence

# Becomes the command (same pid) after asking the kernel to be killed when the parent dies (prctl(2), PR_SET_PDEATHSIG). A function
# between fork and exec (`preexec_fn`) could do the same, but may deadlock in a process that has threads, as a Jupyter kernel does.
_TETHER = """
import ctypes, os, sys
if sys.platform == "linux":
    PR_SET_PDEATHSIG, SIGKILL = 1, 9
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGKILL)
    if os.getppid() != int(sys.argv[1]):  # it died before we asked
        sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


def tethered(command: Sequence[str]) -> list[str]:
    """Return the command line that runs a command and kills it when this process ends (Linux; elsewhere it just runs it).

    Linux counts the *thread* that starts the child as its parent, so start it from a thread that lives as long as it should: the main one.

    Args:
        command: path of the program, and its arguments.
    """
    return [sys.executable, "-I", "-S", "-c", _TETHER, str(os.getpid()), *command]
