"""How much CPU time the hypervisor took from this host, and how much a process has used."""

import os
from pathlib import Path

# A host from which more is taken is slow at times for reasons of its own.
MUCH_STEAL = 0.02


class StealMeter:
    """Counts from its creation on."""

    def __init__(self) -> None:
        self._before = _cpu_ticks()

    def share(self) -> float | None:
        """Return the share of CPU time that the hypervisor took so far, 0 to 1; None where the system does not tell."""
        now = _cpu_ticks()
        if self._before is None or now is None:
            return None
        spent = [after - before for before, after in zip(self._before, now, strict=True)]
        return max(0, spent[7]) / max(1, sum(spent[:8]))


def cpu_seconds(pid: int | str) -> float | None:
    """Return how many seconds of CPU time a process has used (proc(5), /proc/PID/stat); None where the system does not tell."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # the name before the parenthesis may hold anything
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None


def _cpu_ticks() -> list[int] | None:
    """Read the host's CPU times since boot; the eighth is stolen time (proc(5), /proc/stat). None where there is no such file."""
    try:
        first = Path("/proc/stat").read_text().splitlines()[0]
    except OSError:
        return None
    return [int(word) for word in first.split()[1:]]
