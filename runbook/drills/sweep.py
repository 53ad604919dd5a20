"""How much load keeps the limit? Latency against the offered rate, until the server, or our own sender, can do no more.

The knee is the highest rate before p99 leaves twice its lowest value. The highest rate that keeps the limit is found by bisection between
the last rate that kept it and the first that did not; a rate keeps it if most of its runs do. Beyond saturation calls wait for longer and
longer, so their percentiles, counted from their moments, show it.
"""

import dataclasses
import math
import statistics
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from runbook.drills.latency import MOST_LATE_MS, MOST_SERVER_BUSY, THRESHOLD_MS
from runbook.drills.stage import Stage, staged
from runbook.evidence import Finding, Measurement, Verdict, judge
from runbook.load import History
from runbook.load.canary import Canary, stalled_seconds
from runbook.load.estimates import JUDGED
from runbook.load.offered import Offered
from runbook.load.pacer import check_duration, check_rate
from runbook.load.placement import cores
from runbook.load.quantile import estimate
from runbook.load.recording import LATE, together
from runbook.load.sockets import LoadError
from runbook.load.traffic import Traffic
from runbook.targets import Target

# Rates grow by this factor until one does not keep the limit; the bisection ends where the two sides are within a fifth: on one shared
# host the highest rate was found between 58,700 and 98,700 calls a second within ten minutes.
GROWTH, CLOSE_ENOUGH = 2.0, 1.2
HIGHEST_RATE_PER_S = 1_000_000
# Runs of one rate, and the fewest calls in each that tell its p99.
RUNS, FEWEST_CALLS = 3, 2000
# Beyond so many times the limit, or below that part of it, one run leaves no doubt.
CLEARLY = 2.0
# A server that uses less of its core is not what can do no more.
FULLY_BUSY = 0.8
CONNECTIONS, KEYS = 50, 200
# The server has just answered the rate before, so only the connections are new.
WARM_UP_S = 0.1


@dataclass(frozen=True, slots=True)
class Step:
    """One offered rate.

    Attributes:
        rate_per_s: offered.
        served_per_s: answered in time, in the median of the runs.
        p50_ms: median latency from the intended start, in the middle one of the runs; None where too few calls were answered.
        p99_ms: 99th percentile.
        late_ms: 99th percentile of how late our own sender was.
        kept: in how many of the runs p99 stayed below the limit.
        runs: how many there were.
        disturbed: runs that left the limit while the host stalled; they count only where there are no others.
        failed: calls that failed.
        server_busy: share of a core that the server used at the most; None for another's server.
        offered: the load and what it measured, over all runs that count.
    """

    rate_per_s: float
    served_per_s: float
    p50_ms: float | None
    p99_ms: float | None
    late_ms: float
    kept: int
    runs: int
    disturbed: int
    failed: int
    server_busy: float | None = None
    offered: Offered | None = None

    @property
    def keeps_limit(self) -> bool:
        """Whether most of the runs kept the limit, and no call failed."""
        return self.kept * 2 > self.runs and not self.failed

    @property
    def sender_is_limit(self) -> bool:
        """Whether it was our own sender that could do no more."""
        return self.late_ms > MOST_LATE_MS


@dataclass(frozen=True, slots=True)
class Result:
    """A sweep.

    Attributes:
        steps: each rate, ascending.
        placement: which cores were used, in words.
        findings: the claims judged.
    """

    steps: tuple[Step, ...]
    placement: str
    findings: tuple[Finding, ...]

    @property
    def histories(self) -> dict[str, History]:
        """None: histograms are kept instead."""
        return {}

    @property
    def loads(self) -> dict[str, Offered]:
        """What was measured, by name."""
        return {f"sweep-{step.rate_per_s:.0f}": step.offered for step in self.steps if step.offered}

    @property
    def best(self) -> Step | None:
        """The highest rate that keeps the limit, with every lower one."""
        kept = None
        for step in self.steps:
            if not step.keeps_limit:
                break
            kept = step
        return kept

    @property
    def knee(self) -> Step | None:
        """The highest rate before p99 leaves twice its lowest value."""
        return knee(self.steps)


def measure(
    target: Target,
    *,
    from_rate_per_s: float,
    step_s: float = 0.5,
    patience_s: float = 30.0,
    operations: tuple[str, ...] = ("GET", "SET"),
    size_bytes: int = 64,
) -> Result:
    """Sweep from a rate upwards until the limit is left, and find the highest rate that keeps it.

    Args:
        target: which server.
        from_rate_per_s: where to begin; the claim is that twice as much keeps the limit.
        step_s: seconds of each of the three runs of a rate.
        patience_s: for how long runs in which the host stalled are run again.
        operations: offered in equal shares.
        size_bytes: length of the values.

    Raises:
        ValueError: one of the numbers is impossible.
    """
    traffic = Traffic(f"runbook:sweep:{uuid.uuid4().hex}:", dict.fromkeys(operations, 1.0), {size_bytes: 1}, keys=KEYS)
    check_rate(from_rate_per_s)
    check_duration(step_s)
    processes = max(1, min(4, len(cores()) - 1))
    try:
        with staged(target, traffic) as stage, Canary() as canary:
            until_s = time.monotonic() + patience_s
            steps = search(lambda rate_per_s: _step(stage, canary, rate_per_s, step_s, processes, until_s), from_rate_per_s)
            placement = stage.placement.words
    except LoadError as error:
        return Result((), "", (Finding("P-2", _claim(from_rate_per_s), Verdict.INCONCLUSIVE, str(error)),))
    result = Result(steps, placement, ())
    return Result(steps, placement, (judge_headroom(result, from_rate_per_s),))


def search(step: Callable[[float], Step], from_rate_per_s: float) -> tuple[Step, ...]:
    """Double the rate until one does not keep the limit, then bisect; return each step that was taken, ascending.

    Args:
        step: offers a rate.
        from_rate_per_s: where to begin.
    """
    taken = [step(from_rate_per_s)]
    while taken[-1].keeps_limit and taken[-1].rate_per_s * GROWTH <= HIGHEST_RATE_PER_S:
        taken.append(step(taken[-1].rate_per_s * GROWTH))
    if len(taken) > 1 and not taken[-1].keeps_limit:
        low, high = taken[-2].rate_per_s, taken[-1].rate_per_s
        while high / low > CLOSE_ENOUGH:
            between = step((low * high) ** 0.5)
            taken.append(between)
            low, high = (between.rate_per_s, high) if between.keeps_limit else (low, between.rate_per_s)
    return tuple(sorted(taken, key=lambda one: one.rate_per_s))


def knee(steps: tuple[Step, ...]) -> Step | None:
    """Find the highest rate before p99 leaves twice its lowest value; None where it never does, or nothing was measured."""
    lowest = min((step.p99_ms for step in steps if step.p99_ms is not None), default=None)
    if lowest is None:
        return None
    before = None
    for step in steps:
        if step.p99_ms is None or step.p99_ms > 2 * lowest:
            return before
        before = step
    return None


def limiter(beyond: Step | None) -> str:
    """Say what could do no more at the first rate that does not keep the limit."""
    if beyond is None:
        return "nothing: no rate was too high"
    if beyond.sender_is_limit:
        return "our own sender"
    if beyond.server_busy is not None and beyond.server_busy < FULLY_BUSY:
        return f"unclear: the server used {beyond.server_busy:.0%} of its core"
    return "the server"


def judge_headroom(result: Result, from_rate_per_s: float) -> Finding:
    """Judge that there is room above the rate at which the sweep began."""

    def compare() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        best, bend = result.best, result.knee
        beyond = next((step for step in result.steps if not step.keeps_limit), None)
        measured = (
            Measurement(
                "highest rate that keeps the limit", round(best.rate_per_s) if best else None, "calls/s", None, f"≥ {2 * from_rate_per_s:g}"
            ),
            Measurement(
                "p99 there", round(best.p99_ms, 3) if best and best.p99_ms is not None else None, "ms", None, f"< {THRESHOLD_MS:g} ms"
            ),
            Measurement("knee", round(bend.rate_per_s) if bend else None, "calls/s"),
            Measurement("what could do no more", limiter(beyond)),
        )
        if best and best.rate_per_s >= 2 * from_rate_per_s:
            return Verdict.PASS, "", measured
        if beyond and (doubt := _doubt(beyond)):
            return Verdict.INCONCLUSIVE, f"at {beyond.rate_per_s:g} calls/s the limit was left, but {doubt}", measured
        return Verdict.FAIL, f"p99 left the limit at {beyond.rate_per_s:g} calls/s" if beyond else "nothing was measured", measured

    return judge("P-2", _claim(from_rate_per_s), compare)


def _step(stage: Stage, canary: Canary, rate_per_s: float, step_s: float, processes: int, until_s: float) -> Step:
    """Run one rate three times, unless one run leaves no doubt, and again, until a moment, for one in which the host stalled."""
    runs: list[Offered] = []
    disturbed: list[Offered] = []
    busy: list[float | None] = []
    duration_s = max(step_s, FEWEST_CALLS / rate_per_s)
    while len(runs) < RUNS and (len(runs) + len(disturbed) < RUNS or time.monotonic() < until_s):
        began_s = math.ceil(time.monotonic())
        before_s = stage.server_cpu_s()
        plan = {"rate_per_s": rate_per_s, "connections": CONNECTIONS, "arrivals": "poisson", "warm_up_s": WARM_UP_S}
        made = stage.offer(duration_s=duration_s, processes=processes, **plan)
        used_s = stage.server_cpu_s()
        busy.append(None if before_s is None or used_s is None else (used_s - before_s) / duration_s)
        # Where the server itself keeps a core busy, or may do so, nothing is excused.
        quiet_server = busy[-1] is not None and busy[-1] <= MOST_SERVER_BUSY
        stalls = {second for second in stalled_seconds(canary.overslept()) if second >= began_s} if quiet_server else set()
        # A host can make a rate look too high, but never low enough.
        (disturbed if stalls and _p99(made) >= THRESHOLD_MS else runs).append(made)
        # Beyond all doubt there is no need to look again.
        if _p99(made) < THRESHOLD_MS / CLEARLY or (_p99(made) > CLEARLY * THRESHOLD_MS and not stalls):
            break
    counted = runs or disturbed
    merged = together(run.recording for run in counted)
    late = estimate(merged.histogram(LATE), JUDGED)
    # Of the run in the middle, as it is the runs that are counted.
    middle = sorted(counted, key=_p99)[len(counted) // 2].recording.histogram()
    p50, p99 = (estimate(middle, p) for p in (0.5, JUDGED))
    return Step(
        rate_per_s,
        statistics.median(run.recording.rate_per_s for run in counted),
        p50.value if p50 else None,
        p99.value if p99 else None,
        late.value if late else 0.0,
        sum(_p99(run) < THRESHOLD_MS for run in counted),
        len(counted),
        len(disturbed),
        merged.failed().total(),
        max((share for share in busy if share is not None), default=None),
        dataclasses.replace(counted[0], recording=merged),
    )


def _doubt(beyond: Step) -> str:
    if beyond.failed:
        return ""
    if beyond.disturbed:
        return f"the host stalled in {beyond.disturbed} of its runs"
    if 0 < beyond.kept < beyond.runs:
        return "its runs disagree"
    return "our own sender could do no more" if beyond.sender_is_limit else ""


def _p99(offered: Offered) -> float:
    found = estimate(offered.recording.histogram(), JUDGED)
    return found.value if found else float("inf")


def _claim(from_rate_per_s: float) -> str:
    return f"At twice {from_rate_per_s:g} calls a second the 99th percentile is still below {THRESHOLD_MS:g} ms"
