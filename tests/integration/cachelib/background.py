"""Functions that run beside a test, each in a thread."""

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from tests.timing import End, HostStalls


class Task:
    """A function in a thread.

    Attributes:
        took_s: how long it took, after `result`.
    """

    def __init__(self, run: Callable[[], object]) -> None:
        self._outcome: Any = None
        self.took_s = 0.0

        def work() -> None:
            began_s = time.monotonic()
            try:
                self._outcome = run()
            except BaseException as error:
                self._outcome = error
            self.took_s = time.monotonic() - began_s

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def result(self) -> Any:
        """Wait for what the function returned or raised."""
        self._thread.join(60.0)
        assert not self.running, "it does not end"
        return self._outcome


def results(tasks: Iterable[Task]) -> list[Any]:
    return [task.result() for task in tasks]


def ends_of(calls: Iterable[Callable[[], Any]], spacing_s: float = 0.0) -> list[End]:
    """Make calls beside each other, each in a thread and so long after the one before, and return how they ended."""
    with HostStalls() as stalls:
        tasks = []
        for call in calls:
            tasks.append(Task(lambda call=call: stalls.measure(call)))
            time.sleep(spacing_s)
        return results(tasks)
