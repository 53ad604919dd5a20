"""How much load keeps the limit? Latency against the offered rate, until the server, or our own sender, can do no more.

A rate keeps the limit if at most 1 % of its calls are over it beyond the control. The highest one is found by bisection between the last
rate that kept it and the first that did not. The knee is the highest rate before p99 leaves twice its lowest value. Beyond saturation calls
wait for longer and longer, so their percentiles, counted from their moments, show it.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass

from runbook.drills.sampling import LOOKS, MOST_OVER, THRESHOLD_MS, judge_excess, measured_excess, sampled
from runbook.drills.stage import Stage, staged
from runbook.evidence import Finding, Measurement, Verdict, judge
from runbook.load import History
from runbook.load.estimates import JUDGED
from runbook.load.excess import Excess, excess_over
from runbook.load.offered import Offered
from runbook.load.pacer import check_duration, check_rate
from runbook.load.placement import cores
from runbook.load.quantile import estimate
from runbook.load.recording import LATE, SECOND_NS
from runbook.load.sockets import LoadError
from runbook.load.traffic import Traffic
from runbook.progress import progress
from runbook.targets import Target

# Rates grow by this factor until one does not keep the limit; the bisection ends where the two sides are this close: on one shared
# host the highest rate was found between 58,700 and 98,700 calls a second within ten minutes.
GROWTH, CLOSE_ENOUGH = 2.0, 1.5
HIGHEST_RATE_PER_S = 1_000_000
# The fewest calls that tell the p99 of a rate.
FEWEST_CALLS = 2000
# A step is too short for blocks of 250 ms.
STEP_BLOCK_NS = SECOND_NS // 20
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
        served_per_s: answered.
        p50_ms: median latency from the intended start; None where too few calls were answered.
        p99_ms: 99th percentile.
        late_ms: median of how late our own sender was; one that can't keep up is later and later.
        excess: share of the calls over the limit beyond the control; None where too few were answered.
        failed: calls that failed.
        server_busy: share of a core that the server used; None where this host can't see it.
        offered: the load and what it measured.
    """

    rate_per_s: float
    served_per_s: float
    p50_ms: float | None
    p99_ms: float | None
    late_ms: float
    excess: Excess | None
    failed: int
    server_busy: float | None = None
    offered: Offered | None = None

    @property
    def control_p99_ms(self) -> float | None:
        """The control's 99th percentile; None where too few of its calls were answered."""
        control = self.offered.recording.control if self.offered else None
        found = estimate(control.histogram(), JUDGED) if control else None
        return found.value if found else None

    @property
    def keeps_limit(self) -> bool:
        """Whether the server kept the limit, our sender kept the rate, and no call failed."""
        return self.excess is not None and self.excess.value < MOST_OVER and not self.failed and not self.sender_is_limit

    @property
    def sender_is_limit(self) -> bool:
        """Whether it was our own sender that could do no more."""
        return self.late_ms > THRESHOLD_MS


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
    rate_per_s: float,
    step_s: float = 0.5,
    longest_s: float = 12.0,
    operations: tuple[str, ...] = ("GET", "SET"),
    size_bytes: int = 64,
) -> Result:
    """Judge twice a rate, then sweep upwards until the limit is left, and find the highest rate that keeps it.

    Args:
        target: which server.
        rate_per_s: the claim is that twice as much keeps the limit.
        step_s: seconds of each higher rate.
        longest_s: seconds of the rate that is judged, at most; it is looked at three times.
        operations: offered in equal shares.
        size_bytes: length of the values.

    Raises:
        ValueError: one of the numbers is impossible.
    """
    traffic = Traffic(f"runbook:sweep:{uuid.uuid4().hex}:", dict.fromkeys(operations, 1.0), {size_bytes: 1}, keys=KEYS)
    judged_per_s = GROWTH * rate_per_s
    check_rate(judged_per_s)
    check_duration(step_s)
    check_duration(longest_s)
    processes = max(1, min(4, len(cores()) - 1))
    try:
        with staged(target, traffic) as stage, stage.controlled() as controlled:
            first = sampled(
                lambda seconds: _offer(controlled, judged_per_s, seconds, processes), lambda load: [judge_twice(load)], longest_s
            )
            steps = search(lambda rate: _step(controlled, rate, step_s, processes), _as_step(first))
            placement = stage.placement.words
    except LoadError as error:
        return Result((), "", (Finding("P-2", _claim(judged_per_s), Verdict.INCONCLUSIVE, str(error)),))
    found = Result(steps, placement, ())
    return Result(steps, placement, (judge_twice(first, found),))


def search(step: Callable[[float], Step], first: Step) -> tuple[Step, ...]:
    """Double the rate until one does not keep the limit, then bisect; return each step that was taken, ascending.

    Args:
        step: offers a rate.
        first: of the rate with which the search begins.
    """
    taken = [first]
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


def judge_twice(offered: Offered, found: Result | None = None) -> Finding:
    """Judge that the rate with which the sweep begins keeps the limit; what the sweep found is shown beside it."""
    step = _as_step(offered)

    def compare() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        excess = excess_over(offered.recording, THRESHOLD_MS, looks=len(LOOKS))
        measured = (*measured_excess(excess, "calls", offered.recording.count()), *(_measured(found) if found else ()))
        if step.failed:
            first = next(iter(offered.recording.failed()))
            return Verdict.FAIL, f"{step.failed} calls failed, first: {first}", measured
        if step.sender_is_limit:
            return Verdict.INCONCLUSIVE, f"our own sender could do no more: it was {step.late_ms:.1f} ms late in the median", measured
        if excess is None:
            return Verdict.INCONCLUSIVE, f"{offered.recording.count()} calls are too few: measure for longer", measured
        return *judge_excess(excess, "calls"), measured

    return judge("P-2", _claim(step.rate_per_s), compare)


def _measured(found: Result) -> tuple[Measurement, ...]:
    best, bend = found.best, found.knee
    beyond = next((step for step in found.steps if not step.keeps_limit), None)
    return (
        Measurement("highest rate that keeps the limit", round(best.rate_per_s) if best else None, "calls/s"),
        Measurement("p99 there", round(best.p99_ms, 3) if best and best.p99_ms is not None else None, "ms"),
        Measurement("knee", round(bend.rate_per_s) if bend else None, "calls/s"),
        Measurement("what could do no more", limiter(beyond)),
    )


def _offer(stage: Stage, rate_per_s: float, seconds: float, processes: int) -> Offered:
    plan = {"rate_per_s": rate_per_s, "connections": CONNECTIONS, "arrivals": "poisson", "warm_up_s": WARM_UP_S}
    return stage.offer(duration_s=seconds, processes=processes, **plan)


def _step(stage: Stage, rate_per_s: float, step_s: float, processes: int) -> Step:
    progress(f"{rate_per_s:,.0f} calls a second")
    duration_s, before_s = max(step_s, FEWEST_CALLS / rate_per_s), stage.server_cpu_s()
    made = _offer(stage, rate_per_s, duration_s, processes)
    used_s = stage.server_cpu_s()
    busy = None if before_s is None or used_s is None else (used_s - before_s) / (duration_s + WARM_UP_S)
    return _as_step(made, busy)


def _as_step(offered: Offered, busy: float | None = None) -> Step:
    made = offered.recording
    p50, p99 = (estimate(made.histogram(), p) for p in (0.5, JUDGED))
    late = estimate(made.histogram(LATE), 0.5)
    return Step(
        offered.description["rate_per_s"],
        made.rate_per_s,
        p50.value if p50 else None,
        p99.value if p99 else None,
        late.value if late else 0.0,
        excess_over(made, THRESHOLD_MS, block_ns=STEP_BLOCK_NS),
        made.failed().total(),
        busy,
        offered,
    )


def _claim(rate_per_s: float) -> str:
    return f"At {rate_per_s:g} calls a second, twice the stated rate, at most {MOST_OVER:.0%} take over {THRESHOLD_MS:g} ms"
