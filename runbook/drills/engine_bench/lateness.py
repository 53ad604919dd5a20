"""Holds how late an open loop sends against a bare loop that only waits for the same moments, on the same core."""

from collections.abc import Sequence

from runbook.drills.engine_bench.part import CONNECTIONS, Budget, Part, Row, interval, intervals, judge_values, undecided
from runbook.drills.paired_limit import Limit
from runbook.drills.stage import Stage
from runbook.load.bare_loop import BareLoop, bare_loop
from runbook.load.recording import LATE

# Calls a second, how the loop waits, and what counts as late, in µs. A loop that sleeps at a high rate computes more than its control, so
# that other processes on its core delay it more.
CASES = ((1000, "sleeping", 150.0), (1000, "spinning", 30.0), (10_000, "spinning", 30.0))
LIMIT = Limit("late calls beyond the control's", 1.0, "% of all", at_most=True)
_LOAD_S, _WARM_UP_S = 0.6, 0.05


def lateness(stage: Stage, budget: Budget) -> Part:
    """Measure each rate, sleeping and spinning: intervals of 0.1 s of an open loop and of the bare loop, in turn."""
    with bare_loop(stage.placement.load) as bare:
        for rate_per_s, waiting, late_us in CASES:
            what = f"{rate_per_s:,} calls/s, {waiting}"
            claim = f"At {what}, at most {LIMIT.value:g} % more calls leave over {late_us:g} µs late than a bare loop is late"
            if waiting == "spinning" and not stage.placement.apart:
                yield undecided(claim, "to spin, the load needs a core of its own")
                continue
            sampler = _Sampler(stage, bare, rate_per_s, waiting, late_us)
            values = budget.sample(sampler.take, LIMIT)
            row = Row(f"open loop, {what}: over {late_us:g} µs late", "runbook", interval(values, LIMIT.unit), str(LIMIT))
            yield row, judge_values(claim, LIMIT, values, sampler.wrong)


class _Sampler:
    """Alternates between an open loop and the control."""

    def __init__(self, stage: Stage, bare: BareLoop, rate_per_s: int, waiting: str, late_us: float) -> None:
        self._stage, self._bare = stage, bare
        self._rate_per_s, self._waiting, self._late_us = rate_per_s, waiting, late_us
        self.wrong = 0

    def take(self, number: int) -> list[float]:
        """Return by how many percentage points more calls were late in each interval; who begins changes."""
        if number % 2:
            control, ours = self._control(), self._ours()
        else:
            ours, control = self._ours(), self._control()
        return [100 * (mine - other) for mine, other in zip(ours, control, strict=False)]

    def _ours(self) -> list[float]:
        spin = self._waiting == "spinning"
        load = {"rate_per_s": self._rate_per_s, "connections": CONNECTIONS, "spin": spin}
        made = self._stage.offer(duration_s=_LOAD_S, warm_up_s=_WARM_UP_S, **load).recording
        self.wrong += made.failed().total()
        return [self._share_late(pairs) for pairs in intervals(made, LATE)]

    def _control(self) -> list[float]:
        late_us = self._bare.ask("wait", self._waiting, self._rate_per_s, _LOAD_S)
        size = self._rate_per_s // 10
        return [self._share_late([(us, 1) for us in late_us[at : at + size]]) for at in range(0, len(late_us) - size + 1, size)][1:]

    def _share_late(self, counted: Sequence[tuple[float, int]]) -> float:
        return sum(count for us, count in counted if us > self._late_us) / sum(count for _, count in counted)
