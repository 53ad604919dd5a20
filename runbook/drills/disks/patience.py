"""Waits for something to become true, and says whether it did."""

import time
from collections.abc import Callable

LOOK_EVERY_S = 0.02


def await_true(question: Callable[[], object], timeout_s: float) -> bool:
    """Ask until the answer is true; return whether it was within so many seconds."""
    until_s = time.monotonic() + timeout_s
    while not question():
        if time.monotonic() > until_s:
            return False
        time.sleep(LOOK_EVERY_S)
    return True
