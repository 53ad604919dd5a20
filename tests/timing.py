"""How long a call took, beside how long this host kept a thread from running that did nothing but wait."""

import logging
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

# The design's bound on how late a call may end after its deadline.
OVERSHOOT_S = 0.05
TICK_S = 0.002
# A timer of a quiet host is late by 0.1 ms.
TIMER_LATE_S = 0.0003


@dataclass(frozen=True)
class End:
    """How a call ended.

    Attributes:
        outcome: what it returned or raised.
        took_s: how long it took.
        stalled_s: for how much of that time the control, a thread that waits on an event, was not woken.
    """

    outcome: Any
    took_s: float
    stalled_s: float

    @property
    def kind(self) -> type:
        return type(self.outcome)

    def is_by(self, limit_s: float) -> bool:
        """Say whether it ended within a time, but for what the host took of it."""
        by = self.took_s - self.stalled_s < limit_s + OVERSHOOT_S
        if not by:  # pytest shows it with a test that fails
            logging.getLogger(__name__).warning("late for %g s: %s", limit_s, self)
        return by

    def is_at(self, deadline_s: float) -> bool:
        """Say whether it ended at its deadline; with a tenth of the time left, another attempt is not worth beginning."""
        if self.took_s < 0.9 * deadline_s:
            logging.getLogger(__name__).warning("early for %g s: %s", deadline_s, self)
            return False
        return self.is_by(deadline_s)


class HostStalls:
    """Measure, as a context manager, for how long a thread that waits on an event is woken too late."""

    def __init__(self) -> None:
        self._stalled_s = 0.0
        self._woken_s = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> "HostStalls":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def until_now_s(self) -> float:
        """Return for how long the thread was kept from running so far, now included."""
        return self._stalled_s + self._late_s(time.monotonic())

    def measure(self, call: Callable[[], Any]) -> End:
        """Make a call, and return how it ended."""
        stalled_s, began_s = self.until_now_s(), time.monotonic()
        try:
            outcome = call()
        except Exception as error:
            outcome = error
        return End(outcome, time.monotonic() - began_s, self.until_now_s() - stalled_s)

    def _late_s(self, now_s: float) -> float:
        return max(0.0, now_s - self._woken_s - TICK_S - TIMER_LATE_S)

    def _tick(self) -> None:
        while not self._over.wait(TICK_S):
            now_s = time.monotonic()
            self._stalled_s, self._woken_s = self._stalled_s + self._late_s(now_s), now_s


class Stopwatch:
    """Measure time since it was started, as a context manager; `own_s` is that time without the stalls of the host."""

    def __init__(self) -> None:
        self._stalls = HostStalls()

    def __enter__(self) -> "Stopwatch":
        self._stalls.__enter__()
        self.restart()
        return self

    def __exit__(self, *error: object) -> None:
        self._stalls.__exit__(*error)

    def restart(self) -> None:
        self._began_s, self._stalled_s = time.monotonic(), self._stalls.until_now_s()

    @property
    def passed_s(self) -> float:
        return time.monotonic() - self._began_s

    @property
    def own_s(self) -> float:
        return self.passed_s - (self._stalls.until_now_s() - self._stalled_s)


def end_of(call: Callable[[], Any]) -> End:
    """Make a call beside the control, and return how it ended."""
    with HostStalls() as stalls:
        return stalls.measure(call)


async def end_of_async(call: Awaitable[Any]) -> End:
    """Await a call beside the control, and return how it ended."""
    with HostStalls() as stalls:
        began_s = time.monotonic()
        try:
            outcome = await call
        except Exception as error:
            outcome = error
        return End(outcome, time.monotonic() - began_s, stalls.until_now_s())
