"""Tells the time that a process had for itself from the time in which other processes had its core."""

import contextlib
import time
from pathlib import Path


class OwnTime:
    """Tells how much of a slice client and server had their cores for themselves, where other processes use them as well.

    Time in which one of their threads was ready to run and another process had the core says nothing about the client. The kernel counts
    it for each thread, beside the time on the core (`/proc/PID/task/TID/schedstat`, see the kernel's Documentation/scheduler/sched-stats).
    A client that sleeps or waits is not ready to run, so that its waiting counts.

    Args:
        server_pid: of the server; 0 for one that this host can't see.
        together: whether both share a core.
    """

    def __init__(self, server_pid: int, together: bool) -> None:
        self._server_pid, self._together = server_pid, together
        self.start()

    def start(self) -> None:
        """Begin."""
        self._before = self._read()

    def since_start(self, seconds: float) -> float:
        """Return how many of the seconds since `start` were their own: no fewer than the busier core spent on them."""
        client_s, server_s, waited_s = (after - before for after, before in zip(self._read(), self._before, strict=True))
        busy_s = client_s + server_s if self._together else max(client_s, server_s)
        # Threads that are ready at the same moment are counted once each, so their sum may exceed the time that there was.
        return max(min(busy_s, seconds), seconds - waited_s)

    def _read(self) -> tuple[float, float, float]:
        """Return how long the client ran, how long the server ran, and how long their threads were ready and did not run, in s."""
        _, waited_ns = _scheduled("self")
        server_ns, server_waited_ns = _scheduled(self._server_pid) if self._server_pid else (0, 0)
        return time.process_time(), server_ns / 1e9, (waited_ns + server_waited_ns) / 1e9


def _scheduled(pid: int | str) -> tuple[int, int]:
    """Sum up how long the threads of a process ran and how long they were ready to run, in ns; 0 where the system does not tell."""
    ran_ns = waited_ns = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # the thread has ended
            ran, waited, _ = path.read_text().split()
            ran_ns, waited_ns = ran_ns + int(ran), waited_ns + int(waited)
    return ran_ns, waited_ns
