"""What the parts share: rows, budgets of time, and sampling until a limit is decided."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from runbook.drills.paired_limit import Limit
from runbook.evidence import Finding, Measurement, Verdict, judge
from runbook.load.paired_median import LOOKS, paired_median
from runbook.load.recording import Recording

CRITERION = "bench"
CONNECTIONS = 50


@dataclass(frozen=True, slots=True)
class Row:
    """One line of what was measured.

    Attributes:
        what: was done.
        who: did it.
        value: with its unit.
        limit: that it is held against; empty if none.
    """

    what: str
    who: str
    value: str
    limit: str = ""


Part = Iterator[tuple[Row, Finding | None]]


class Budget:
    """Shares out time among claims; what one leaves over goes to those that follow.

    Args:
        seconds: for all of them.
        claims: how many there are.
    """

    def __init__(self, seconds: float, claims: int) -> None:
        self._left_s, self._claims = seconds, claims

    def sample(self, take: Callable[[int], Sequence[float]], limit: Limit) -> list[float]:
        """Take values of pairs, round by round, until a limit is decided, the last look was taken, or the claim's share of time is up.

        Args:
            take: returns the values of a round, whose number it gets.
            limit: that the median is held against.
        """
        began_s = time.monotonic()
        share_s = self._left_s / max(1, self._claims)
        values: list[float] = []
        number = 0
        while len(values) < LOOKS[-1] and (not number or time.monotonic() - began_s < share_s):
            before = len(values)
            values += take(number)
            number += 1
            is_look = any(before < look <= len(values) for look in LOOKS)
            if is_look and limit.verdict(paired_median(values)) is not Verdict.INCONCLUSIVE:
                break
        self._claims -= 1
        self._left_s -= time.monotonic() - began_s
        return values


def judge_values(claim: str, limit: Limit, values: Sequence[float], wrong: int) -> Finding:
    """Judge the values of pairs.

    Args:
        claim: what must hold.
        limit: that their median is held against.
        values: of the pairs.
        wrong: replies that were wrong or missing; with any the claim fails.
    """

    def compare() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        verdict, reason, measured = limit.judge(values)
        return _without_wrong(wrong, verdict, reason, measured)

    return judge(CRITERION, claim, compare)


def judge_figure(claim: str, figure: float, unit: str, bounds: tuple[float, float], limit: str, wrong: int) -> Finding:
    """Judge a single figure that no host's noise can change much: memory, or what follows from a fault that was measured itself.

    Args:
        claim: what must hold.
        figure: that was measured.
        unit: of it.
        bounds: the lowest and the highest figure that hold.
        limit: both in words.
        wrong: replies that were wrong or missing; with any the claim fails.
    """

    def compare() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        measured = (Measurement("measured", round(figure, 3), unit, None, limit),)
        holds = bounds[0] <= figure <= bounds[1]
        return _without_wrong(wrong, Verdict.PASS if holds else Verdict.FAIL, "" if holds else f"it is {figure:.3g} {unit}", measured)

    return judge(CRITERION, claim, compare)


def undecided(claim: str, reason: str) -> tuple[Row, Finding]:
    """Return the row and the finding of what could not be measured."""
    return Row(claim, "runbook", "—"), Finding(CRITERION, claim, Verdict.INCONCLUSIVE, reason)


def interval(values: Sequence[float], unit: str) -> str:
    """Say a median with its confidence interval."""
    found = paired_median(values)
    return f"{found.median:.3g} {unit} ({found.low:.3g} to {found.high:.3g}, {found.pairs} pairs)"


def intervals(made: Recording, series: str, operation: str | None = None) -> list[list[tuple[int, int]]]:
    """Return the pairs of value in µs and count of each whole interval of a recording, ascending; those at its ends are not whole."""
    return list(numbered_intervals(made, series, operation).values())


def numbered_intervals(made: Recording, series: str, operation: str | None = None) -> dict[int, list[tuple[int, int]]]:
    """Return the same by the number of the interval, counted from the zero of `time.monotonic_ns`."""
    found: dict[int, list[tuple[int, int]]] = {}
    for cell in sorted(made.cells, key=lambda cell: cell.slice):
        if cell.series == series and operation in (None, cell.operation):
            found.setdefault(cell.slice, []).extend(zip(cell.values_us, cell.counts, strict=True))
    return {number: found[number] for number in sorted(found)[1:-1]}


def _without_wrong(
    wrong: int, verdict: Verdict, reason: str, measured: tuple[Measurement, ...]
) -> tuple[Verdict, str, tuple[Measurement, ...]]:
    measured += (Measurement("wrong or missing replies", wrong, "calls", None, "= 0"),)
    return (Verdict.FAIL, f"{wrong} replies were wrong or missing", measured) if wrong else (verdict, reason, measured)
