"""How long a process ran and how long it waited for a CPU, sampled during a load: what of a slow call was its own doing.

The kernel counts both for each thread in `/proc/PID/task/TID/schedstat` (Documentation/scheduler/sched-stats.rst): the time on the CPU, and
the time in which the thread could have run while something else had its core. Where the hypervisor reports stolen time, that is in neither.
"""

import bisect
import contextlib
import os
from typing import Self

# How often a load samples, at most.
SAMPLE_NS = 100_000
_NEVER_NS = 1 << 62


class CpuClock:
    """Samples of the main thread of one process; use it in a `with` statement.

    Args:
        pid: of the process; None for one whose clock can't be read: it then never ran and never waited.

    Attributes:
        next_ns: when the next sample is due, on the clock of `time.monotonic_ns`.
    """

    def __init__(self, pid: int | None) -> None:
        self._pid, self._file = pid, -1
        self._at_ns: list[int] = []
        self._ran_ns: list[int] = []
        self._waited_ns: list[int] = []
        self.next_ns = _NEVER_NS

    def __enter__(self) -> Self:
        if self._pid is not None:
            with contextlib.suppress(OSError):  # the process has ended or is another user's, or this is not Linux
                self._file = os.open(f"/proc/{self._pid}/task/{self._pid}/schedstat", os.O_RDONLY)
                self.next_ns = 0
        return self

    def __exit__(self, *error: object) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    @property
    def running(self) -> bool:
        """Whether there is a clock to sample."""
        return self.next_ns != _NEVER_NS

    def sample(self, now_ns: int) -> None:
        """Take a sample if there is a clock.

        Args:
            now_ns: on the clock of `time.monotonic_ns`.
        """
        if self._file < 0:
            return
        try:
            ran, waited, _ = os.pread(self._file, 100, 0).split()
        except (OSError, ValueError):  # the process has ended
            self.next_ns = _NEVER_NS
            return
        self._at_ns.append(now_ns)
        self._ran_ns.append(int(ran))
        self._waited_ns.append(int(waited))
        self.next_ns = now_ns + SAMPLE_NS

    def ran_share(self, begin_ns: int, end_ns: int) -> float:
        """Return the share of a span of time in which the process ran, 0 to 1, by the samples around it; 0 without samples."""
        first, last = self._around(begin_ns, end_ns)
        if last <= first:
            return 0.0
        return min(1.0, (self._ran_ns[last] - self._ran_ns[first]) / (self._at_ns[last] - self._at_ns[first]))

    def waited_ns(self, begin_ns: int, end_ns: int) -> int:
        """Return how long the process waited for a CPU within a span of time, in ns, by the samples around it; 0 without samples."""
        first, last = self._around(begin_ns, end_ns)
        return min(end_ns - begin_ns, self._waited_ns[last] - self._waited_ns[first]) if last > first else 0

    def _around(self, begin_ns: int, end_ns: int) -> tuple[int, int]:
        first = max(0, bisect.bisect_right(self._at_ns, begin_ns) - 1)
        return first, min(len(self._at_ns) - 1, bisect.bisect_left(self._at_ns, end_ns))
