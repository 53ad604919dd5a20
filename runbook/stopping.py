"""Turns Ctrl-C, and a CI's SIGTERM, into an event, for whoever has something to end, to heal or to write down first."""

import _thread
import contextlib
import os
import signal
import threading
from collections.abc import Iterator

# Why something came to no verdict that was ended by such a signal.
INTERRUPTED = "it was interrupted"


@contextlib.contextmanager
def stoppable(patience: str) -> Iterator[threading.Event]:
    """Yield an event that is set by the first signal; those that follow interrupt nothing either.

    Use it in the main thread, and look at the event wherever something is waited for.

    Args:
        patience: what whoever signals again is told, such as `it heals, and ends then`.
    """
    stop = threading.Event()

    def heed(number: int, frame: object) -> None:
        if stop.is_set():
            os.write(2, f"runbook: {patience}\n".encode())  # not print, which may be what was interrupted
        # In a thread, because what was interrupted may hold the lock of the event: its `wait`, or this handler itself. A `threading.Thread`
        # would take locks in turn.
        _thread.start_new_thread(stop.set, ())

    before = {number: signal.signal(number, heed) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
