"""How quiet the host was while something was measured on it."""

import re
import time
from dataclasses import dataclass
from pathlib import Path

from runbook.load.pacer import sharpen_timers
from runbook.load.quantile import estimate

# Beyond one of these the host can't tell a slow server from itself.
MOST_IDLE_LATE_MS = 0.25
MOST_STOLEN = 0.02
MOST_CROWDED = 0.03


@dataclass(frozen=True, slots=True)
class Noise:
    """How quiet the host was.

    Attributes:
        idle_late_ms_p99: 99th percentile of how late a thread woke that only slept and span before the load began, in ms.
        stolen: share of CPU time that the hypervisor took during the load, from 0 to 1; None where the system does not tell.
        crowded: share of the load's time in which some process of the host was kept waiting for a CPU; None where it does not tell.
    """

    idle_late_ms_p99: float
    stolen: float | None = None
    crowded: float | None = None

    @property
    def doubts(self) -> tuple[str, ...]:
        """Say what makes the host too noisy to tell."""
        doubts = []
        if self.idle_late_ms_p99 > MOST_IDLE_LATE_MS:
            doubts.append(f"an idle thread woke {self.idle_late_ms_p99:.2f} ms late at p99 (limit {MOST_IDLE_LATE_MS} ms)")
        if self.stolen is not None and self.stolen > MOST_STOLEN:
            doubts.append(f"the hypervisor took {self.stolen:.1%} of the CPU time (limit {MOST_STOLEN:.0%})")
        if self.crowded is not None and self.crowded > MOST_CROWDED:
            doubts.append(f"some process waited for a CPU in {self.crowded:.1%} of the time (limit {MOST_CROWDED:.0%})")
        return tuple(doubts)


class NoiseMeter:
    """Watches the host from its creation on."""

    def __init__(self) -> None:
        self._idle_late_ms: list[float] = []
        self._started_s, self._cpu_ticks, self._waited_us = time.monotonic(), _cpu_ticks(), _waited_us()

    def nap(self, naps: int = 1200) -> None:
        """Nap for half a millisecond again and again, spinning at the end as a sender does, and note how late each nap ended."""
        sharpen_timers()
        for _ in range(naps):
            due_ns = time.monotonic_ns() + 500_000
            time.sleep(0.0003)
            while time.monotonic_ns() < due_ns:
                pass
            self._idle_late_ms.append((time.monotonic_ns() - due_ns) / 1e6)

    def read(self) -> Noise:
        """Return the noise since the creation."""
        late = estimate(sorted(self._idle_late_ms), 0.99)
        return Noise(late.value if late else 0.0, self._stolen(), self._crowded())

    def _stolen(self) -> float | None:
        now = _cpu_ticks()
        if self._cpu_ticks is None or now is None:
            return None
        spent = [after - before for before, after in zip(self._cpu_ticks, now, strict=True)]
        return max(0, spent[7]) / max(1, sum(spent[:8]))

    def _crowded(self) -> float | None:
        now = _waited_us()
        if self._waited_us is None or now is None:
            return None
        return (now - self._waited_us) / 1e6 / max(1e-6, time.monotonic() - self._started_s)


def _cpu_ticks() -> list[int] | None:
    """Read the host's CPU times since boot; the eighth is stolen time (proc(5), /proc/stat). None where there is no such file."""
    try:
        first = Path("/proc/stat").read_text().splitlines()[0]
    except OSError:
        return None
    return [int(word) for word in first.split()[1:]]


def _waited_us() -> int | None:
    """Read for how many µs since boot some process waited for a CPU (kernel documentation, accounting/psi). None where it is not kept."""
    try:
        total = re.search(r"^some .*total=(\d+)", Path("/proc/pressure/cpu").read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(total[1]) if total else None
