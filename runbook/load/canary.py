"""A process that does nothing but nap, so that a stall of the host shows on something else than the server under test.

On a shared host, seconds in which our calls were slow were seconds in which the canary overslept: by 20 to 130 ms in all where 1 to 16 %
of the calls took over 1 ms, by under 8 ms where hardly any did (seen on two shared cores, with and without a process that kept one
of them busy).
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from runbook.load.histogram import Histogram, bucket_us
from runbook.tether import tethered

# How much oversleep in a second makes it a second in which the host stalled.
MOST_OVERSLEPT_MS = 8.0
SECOND_NS = 1_000_000_000
_LONGEST_START_S = 30.0

# Writes the start of each nap of a millisecond that ended at least so late as asked, and by how much, both in ns.
_NAPS = """
import ctypes, sys, time
if sys.platform == "linux":
    PR_SET_TIMERSLACK = 29
    ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1)
worth_ns = int(sys.argv[2])
with open(sys.argv[1], "a", buffering=1) as log:
    while True:
        begun_ns = time.monotonic_ns()
        time.sleep(0.001)
        late_ns = time.monotonic_ns() - begun_ns - 1_000_000
        if late_ns >= worth_ns:
            log.write(f"{begun_ns} {late_ns}\\n")
"""


class Canary:
    """The napping process; it runs inside the `with` block.

    Args:
        core: to pin it to; None lets it run anywhere.
        worth_ns: how late a nap has to end to be noted.
    """

    def __init__(self, core: int | None = None, worth_ns: int = 300_000) -> None:
        self._core, self._worth_ns = core, worth_ns

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as opened:
            folder = opened.enter_context(tempfile.TemporaryDirectory(prefix="runbook-canary-"))
            self._log = Path(folder) / "overslept"
            self._log.touch()
            self._process = subprocess.Popen(tethered([sys.executable, "-I", "-S", "-c", _NAPS, str(self._log), str(self._worth_ns)]))
            opened.callback(self._process.wait)
            opened.callback(self._process.kill)
            if self._core is not None:
                os.sched_setaffinity(self._process.pid, {self._core})
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()

    def overslept(self) -> list[tuple[int, int]]:
        """Return each nap that ended late so far: when it began, on the clock of `time.monotonic_ns`, and by how many ns."""
        lines = self._log.read_text().splitlines()
        return [(int(begun), int(late)) for begun, _, late in (line.partition(" ") for line in lines) if late]


def sleep_jitter(duration_s: float, core: int | None = None) -> Histogram:
    """Measure how late the host wakes a process that naps for a millisecond, again and again, with the finest timer slack.

    Args:
        duration_s: for how long; a second gives some 900 naps.
        core: to measure; None lets it run anywhere.
    """
    with Canary(core, worth_ns=0) as canary:
        until_s = time.monotonic() + _LONGEST_START_S
        while not canary.overslept():
            if time.monotonic() > until_s:
                raise TimeoutError(f"no nap of a millisecond ended within {_LONGEST_START_S:g} s: can {sys.executable} be started here?")
            time.sleep(0.005)
        time.sleep(duration_s)
        return Histogram((bucket_us(late_ns), 1) for _, late_ns in canary.overslept())


def stalled_seconds(overslept: Iterable[tuple[int, int]]) -> frozenset[int]:
    """Tell in which seconds the host itself stalled.

    Args:
        overslept: naps that ended late: when each began, and by how many ns.
    """
    late_ns = dict[int, int]()
    for begun_ns, late in overslept:
        for second in range(begun_ns // SECOND_NS, (begun_ns + late) // SECOND_NS + 1):
            late_ns[second] = late_ns.get(second, 0) + late
    return frozenset(second for second, late in late_ns.items() if late > MOST_OVERSLEPT_MS * 1e6)
