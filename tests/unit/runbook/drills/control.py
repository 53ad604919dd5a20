"""Controls for deadlines, written by hand."""

from runbook.load.wait_control import Lateness, Wait

WAIT_NS = 5_000_000


def late(*spans_s: tuple[float, float], cpu_s: float = 0.0) -> Lateness:
    """Return a control whose waits were late: each from its deadline, and for how long, in seconds.

    Args:
        spans_s: when each wait was due, and how late it ended.
        cpu_s: CPU time that this process used during each of them.
    """
    waits, used_ns = [], 0
    for due_s, late_s in sorted(spans_s):
        due_ns, cpu_ns = round(due_s * 1e9), round(cpu_s * 1e9)
        waits.append(Wait(0, due_ns - WAIT_NS, due_ns, due_ns + round(late_s * 1e9), used_ns, used_ns + cpu_ns))
        used_ns += cpu_ns
    return Lateness(tuple(waits))
