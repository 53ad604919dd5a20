"""How quiet the host was while something was measured on it."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from runbook.load.pacer import sharpen_timers
from runbook.load.quantile import estimate

# Beyond one of these the host can't tell a slow server from itself.
MOST_IDLE_LATE_MS = 0.25
MOST_STOLEN = 0.02
MOST_CPUS_OF_OTHERS = 0.5


@dataclass(frozen=True, slots=True)
class Noise:
    """How quiet the host was.

    Attributes:
        idle_late_ms_p99: 99th percentile of how late a thread woke that only slept and span before the load began, in ms.
        stolen: share of CPU time that the hypervisor took during the load, from 0 to 1; None where the system does not tell.
        cpus_of_others: how many CPUs other processes kept busy meanwhile; None where it does not tell.
    """

    idle_late_ms_p99: float
    stolen: float | None = None
    cpus_of_others: float | None = None

    @property
    def doubts(self) -> tuple[str, ...]:
        """Say what makes the host too noisy to tell."""
        doubts = []
        if self.idle_late_ms_p99 > MOST_IDLE_LATE_MS:
            doubts.append(f"an idle thread woke {self.idle_late_ms_p99:.2f} ms late at p99 (limit {MOST_IDLE_LATE_MS} ms)")
        if self.stolen is not None and self.stolen > MOST_STOLEN:
            doubts.append(f"the hypervisor took {self.stolen:.1%} of the CPU time (limit {MOST_STOLEN:.0%})")
        if self.cpus_of_others is not None and self.cpus_of_others > MOST_CPUS_OF_OTHERS:
            doubts.append(f"other processes kept {self.cpus_of_others:.1f} CPUs busy (limit {MOST_CPUS_OF_OTHERS})")
        return tuple(doubts)


class NoiseMeter:
    """Watches the host from its creation on.

    Args:
        server_pid: of a server of ours, which is no other process.
    """

    def __init__(self, server_pid: int | None = None) -> None:
        self._ours = {str(os.getpid()), str(server_pid)}
        self._idle_late_ms: list[float] = []
        self._started_s, self._cpu_ticks, self._others_s = time.monotonic(), _cpu_ticks(), self._seconds_of_others()

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
        return Noise(late.value if late else 0.0, self._stolen(), self._cpus_of_others())

    def _stolen(self) -> float | None:
        now = _cpu_ticks()
        if self._cpu_ticks is None or now is None:
            return None
        spent = [after - before for before, after in zip(self._cpu_ticks, now, strict=True)]
        return max(0, spent[7]) / max(1, sum(spent[:8]))

    def _cpus_of_others(self) -> float | None:
        now = self._seconds_of_others()
        if not self._others_s or not now:
            return None
        # A process that began or ended meanwhile is left out rather than counted with all its life.
        spent_s = sum(now[pid] - before_s for pid, before_s in self._others_s.items() if pid in now)
        return spent_s / max(1e-6, time.monotonic() - self._started_s)

    def _seconds_of_others(self) -> dict[str, float]:
        others = {path.name for path in Path("/proc").glob("[0-9]*")} - self._ours
        return {pid: used_s for pid in others if (used_s := cpu_seconds(pid)) is not None}


def _cpu_ticks() -> list[int] | None:
    """Read the host's CPU times since boot; the eighth is stolen time (proc(5), /proc/stat). None where there is no such file."""
    try:
        first = Path("/proc/stat").read_text().splitlines()[0]
    except OSError:
        return None
    return [int(word) for word in first.split()[1:]]


def cpu_seconds(pid: int | str) -> float | None:
    """Read how many seconds of CPU time a process has used (proc(5), /proc/PID/stat); None where the system does not tell."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # the name before the parenthesis may hold anything
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None
