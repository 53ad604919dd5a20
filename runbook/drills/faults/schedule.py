"""Does things at their time, in the thread that asks for it."""

import heapq
import itertools
import time
from collections.abc import Callable


class Schedule:
    """Actions and when each is due, by `time.monotonic_ns`."""

    def __init__(self) -> None:
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def add(self, due_ns: int, action: Callable[[], None]) -> None:
        """Have something done at a time, and after what was added earlier for the same time."""
        heapq.heappush(self._due, (due_ns, next(self._numbers), action))

    def wait_s(self) -> float | None:
        """Return the seconds until something is due, None if nothing ever is."""
        return max(0.0, (self._due[0][0] - time.monotonic_ns()) / 1e9) if self._due else None

    def run(self) -> None:
        """Do what is due."""
        while self._due and self._due[0][0] <= time.monotonic_ns():
            heapq.heappop(self._due)[2]()
