"""Holds the median of a paired measurement against a limit: decided only where its whole confidence interval lies on one side."""

from collections.abc import Sequence
from dataclasses import dataclass

from runbook.evidence import Measurement, Verdict
from runbook.load.paired_median import PairedMedian, paired_median


@dataclass(frozen=True, slots=True)
class Limit:
    """What a median has to keep.

    Attributes:
        what: is measured in each pair, such as `ratio of the rates`.
        value: the limit.
        unit: of it, such as `×`.
        at_most: whether the median must not exceed it; otherwise it must reach it.
    """

    what: str
    value: float
    unit: str = "×"
    at_most: bool = False

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.value:g} {self.unit}"

    def verdict(self, found: PairedMedian) -> Verdict:
        """Return PASS or FAIL if the whole interval is on one side of the limit, otherwise INCONCLUSIVE."""
        low, high = (-found.high, -found.low) if self.at_most else (found.low, found.high)
        value = -self.value if self.at_most else self.value
        if low >= value:
            return Verdict.PASS
        return Verdict.FAIL if high < value else Verdict.INCONCLUSIVE

    def judge(self, values: Sequence[float]) -> tuple[Verdict, str, tuple[Measurement, ...]]:
        """Judge the values of pairs, as `runbook.evidence.judge` takes it; without any it is INCONCLUSIVE."""
        if not values:
            return Verdict.INCONCLUSIVE, "nothing was measured: give it more seconds", ()
        found = paired_median(values)
        interval = f"{found.low:.3g} to {found.high:.3g}"
        measured = (
            Measurement(self.what, float(f"{found.median:.3g}"), self.unit, found.pairs, str(self)),
            Measurement("confidence interval", interval, self.unit, found.pairs),
        )
        verdict = self.verdict(found)
        if verdict is Verdict.PASS:
            return verdict, "", measured
        if verdict is Verdict.FAIL:
            return verdict, f"the median of {found.pairs} pairs is {found.median:.3g} {self.unit}, its interval {interval}", measured
        return verdict, f"the interval after {found.pairs} pairs, {interval} {self.unit}, holds the limit: give it more seconds", measured
