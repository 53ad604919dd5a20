"""The control for deadlines: threads of this process that wait with a deadline and no Redis, and record how late each wait ended.

A caller that ends after its deadline may be late because of the client, or because the host did not run the process. The control waits on
the same primitive as a caller of `cachelib` (a lock with a timeout), in the same process, so that both are late when the host stalls. Only
the excess of the caller over the control is held against a limit.

What excuses nothing:

- Time in which this process itself was on a CPU, by its own CPU clock: a client that computes, or holds the interpreter lock while it does,
  makes the control late as well. The clock stands still while the hypervisor takes the CPU, where Linux is told of it; where it is not,
  such time is held against the client.
- A wait that was less than `FLOOR_NS` late. A busy thread keeps the interpreter lock for 5 ms (`sys.getswitchinterval`), and a runnable
  thread waits some 4 ms for a CPU that is shared. Such short delays don't add up to an excuse.

Measured on two shared cores, over ten spans each: a client that ends 300 ms late because it sleeps keeps an excess of 300 ms, also beside
two busy loops on both cores. One that computes in Python for 300 ms keeps 300 ms, and 200 to 291 beside the busy loops; one that holds
the interpreter lock for 250 ms of CPU time keeps all of them. A healthy one has 1 ms.

Known limit: a thread that sleeps while it holds the interpreter lock makes the control late without CPU time. Python code can't do that;
an extension written in C can. The extensions under test, `hiredis` and `_socket`, release the lock before each call that may block.
"""

import bisect
import contextlib
import os
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

from runbook.load.history import History, Outcome, Record
from runbook.load.pacer import sharpen_timers

# How long each wait is: what a stall lasts is known to that precision.
WAIT_S = 0.005
# How late a wait has to end to excuse anything. A fifth of the lowest limit that is held against a control.
FLOOR_NS = 10_000_000
# On a host with more cores the threads are not pinned: they go where the scheduler puts those of the callers, too.
MOST_PINNED = 4


@dataclass(frozen=True, slots=True)
class Wait:
    """One wait of the control; times are of `time.monotonic_ns`.

    Attributes:
        thread: number of the thread that waited.
        begin_ns: when it began.
        due_ns: its deadline.
        done_ns: when it ended.
        cpu_begin_ns: CPU time of the whole process, read just before it began.
        cpu_done_ns: CPU time of the whole process, read just after it ended.
    """

    thread: int
    begin_ns: int
    due_ns: int
    done_ns: int
    cpu_begin_ns: int
    cpu_done_ns: int

    @property
    def late_ns(self) -> int:
        """How long after its deadline it ended."""
        return self.done_ns - self.due_ns


@dataclass(frozen=True, slots=True)
class Lateness:
    """How late the control was, and when: what a caller may be late without any fault of the client.

    Attributes:
        waits: every wait, in any order.
    """

    waits: tuple[Wait, ...] = ()
    _late: tuple[tuple[int, int], ...] = field(init=False, repr=False, compare=False)
    _begins: tuple[tuple[int, int], ...] = field(init=False, repr=False, compare=False)
    _ends: tuple[tuple[int, int], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        late = ((wait.due_ns, wait.done_ns) for wait in self.waits if wait.late_ns >= FLOOR_NS)
        object.__setattr__(self, "_late", tuple(_merged(late)))
        object.__setattr__(self, "_begins", tuple(sorted((wait.begin_ns, wait.cpu_begin_ns) for wait in self.waits)))
        object.__setattr__(self, "_ends", tuple(sorted((wait.done_ns, wait.cpu_done_ns) for wait in self.waits)))

    @property
    def worst_ms(self) -> float | None:
        """By how many milliseconds the latest wait of all ended after its deadline; None if there was none."""
        return max((wait.late_ns / 1e6 for wait in self.waits), default=None)

    @property
    def history(self) -> History:
        """The waits as records, for the evidence; the value of each is the CPU time of the process meanwhile, in ns."""
        return History(
            Record(wait.thread, "WAIT", str(wait.cpu_done_ns - wait.cpu_begin_ns), wait.due_ns, wait.begin_ns, wait.done_ns, Outcome.OK)
            for wait in self.waits
        )

    def within_ns(self, begin_ns: int, end_ns: int) -> int:
        """Return for how long within a span of time the control was late, and this process did not run.

        Args:
            begin_ns: of the span.
            end_ns: of the span.
        """
        excused_ns = 0
        first = bisect.bisect_left(self._late, begin_ns, key=lambda span: span[1])
        for late_begin_ns, late_end_ns in self._late[first:]:
            if late_begin_ns >= end_ns:
                break
            begun_ns, ended_ns = max(begin_ns, late_begin_ns), min(end_ns, late_end_ns)
            excused_ns += max(0, ended_ns - begun_ns - self._cpu_ns(begun_ns, ended_ns))
        return excused_ns

    def excess_ns(self, due_ns: int, done_ns: int) -> int:
        """Return by how much more than the control something was late; 0 if it was in time.

        Args:
            due_ns: by when it had to end.
            done_ns: when it ended.
        """
        return max(0, done_ns - due_ns - self.within_ns(due_ns, done_ns)) if done_ns > due_ns else 0

    def _cpu_ns(self, begin_ns: int, end_ns: int) -> int:
        """Return how much CPU time this process used within a span, or a little more: between the samples that enclose it."""
        before = bisect.bisect_right(self._begins, begin_ns, key=lambda sample: sample[0]) - 1
        after = bisect.bisect_left(self._ends, end_ns, key=lambda sample: sample[0])
        if before < 0 or after == len(self._ends):
            return end_ns - begin_ns  # it is not known, so that nothing is excused
        return self._ends[after][1] - self._begins[before][1]


class WaitControl:
    """The waiting threads; they run inside the `with` block, in which the callers run that they are the control for.

    There is one for each core, pinned to it, since a host may stall one core and not the other.
    """

    def __init__(self) -> None:
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        pinned: list[int | None] = [*cores] if 0 < len(cores) <= MOST_PINNED else [None] * MOST_PINNED
        self._stop = threading.Event()
        self._waits: list[list[Wait]] = [[] for _ in pinned]
        self._threads = [
            threading.Thread(target=self._wait, args=(number, core), daemon=True, name=f"wait-control-{number}")
            for number, core in enumerate(pinned)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def lateness(self) -> Lateness:
        """How late the waits have ended so far."""
        return Lateness(tuple(wait for waits in self._waits for wait in tuple(waits)))

    def _wait(self, number: int, core: int | None) -> None:
        sharpen_timers()
        if core is not None:
            with contextlib.suppress(OSError):  # a container may have lost the core meanwhile
                os.sched_setaffinity(0, {core})
        waits, never = self._waits[number], threading.Lock()
        never.acquire()
        cpu_begin_ns = time.process_time_ns()
        while not self._stop.is_set():
            begin_ns = time.monotonic_ns()
            due_ns = begin_ns + round(WAIT_S * 1e9)
            never.acquire(timeout=WAIT_S)
            done_ns = time.monotonic_ns()
            cpu_done_ns = time.process_time_ns()  # after the clock, so that it holds no less than what was used until then
            waits.append(Wait(number, begin_ns, due_ns, done_ns, cpu_begin_ns, cpu_done_ns))
            cpu_begin_ns = cpu_done_ns


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return spans of time in order, those that overlap as one."""
    merged: list[tuple[int, int]] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged
