"""Shows that the engine's memory does not grow with the number of calls."""

from runbook.drills.engine_bench.part import CONNECTIONS, Part, Row, judge_figure, undecided
from runbook.drills.stage import Stage

MANY_CALLS, MOST_MIB, DEPTH = 3_000_000, 200.0, 64
CLAIM = f"{MANY_CALLS:,} calls take less than {MOST_MIB:g} MiB"


def memory(stage: Stage) -> Part:
    """Make many calls at full speed."""
    rate_per_s = stage.offer(duration_s=0.5, connections=CONNECTIONS, depth=DEPTH).recording.rate_per_s
    made = stage.offer(duration_s=2.5 * MANY_CALLS / rate_per_s, connections=CONNECTIONS, depth=DEPTH).recording
    if made.count() < MANY_CALLS:
        yield undecided(CLAIM, f"only {made.count():,} calls were made: the host slowed down")
        return
    limit = f"< {MOST_MIB:g} MiB"
    finding = judge_figure(CLAIM, made.peak_mib, "MiB", (0.0, MOST_MIB), limit, made.failed().total())
    yield Row(f"{made.count():,} calls", "runbook", f"{made.peak_mib:.0f} MiB", limit), finding
