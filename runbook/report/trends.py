"""How measured numbers developed from run to run: which there are, which of them changed, and each told in a sentence."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from runbook.evidence.archive import Entry
from runbook.evidence.verdict import is_known
from runbook.report.history import OF_ENGINE, OF_HOST

# What makes another place of it; how busy the host was, and the like, does not.
_PLACE = {"host": OF_HOST, "engine": OF_ENGINE}
# More marks could not be told apart in a small picture.
MOST_POINTS = 100
# Which parameters make no other series of it: chance is to be levelled out, and the target is told by itself.
_LEFT_OUT = ("seed", "target")
KNOWN = "known failure of the server"
_LIMIT = re.compile(r"[<>≤≥=] *(-?[\d,]*\.?\d+) *(\D*)")


@dataclass(frozen=True, slots=True)
class Point:
    """A number in one run.

    Attributes:
        when: the run began.
        run: its name.
        value: the number.
        threshold: what it was held against, in words.
        verdict: on the claim for which it was measured, or `KNOWN`.
        where: host and engine, so that a change of them can be told.
    """

    when: datetime
    run: str
    value: float
    threshold: str
    verdict: str
    where: str


@dataclass(frozen=True, slots=True)
class Series:
    """A number over time.

    Attributes:
        name: of the notebook or the drill.
        target: on which it ran.
        claim: for which it was measured.
        measured: what.
        unit: of the number; empty for a count.
        parameters: of the runs, but for their seeds, in words; empty if they had none, or were recorded before these were kept.
        points: the oldest first.
    """

    name: str
    target: str
    claim: str
    measured: str
    unit: str
    parameters: str
    points: tuple[Point, ...]

    @property
    def changed(self) -> bool:
        """Whether there is anything to draw: it was not the same in all runs."""
        return len({(point.value, point.verdict) for point in self.points}) > 1

    @property
    def places(self) -> int:
        """On how many hosts, or servers, it was measured."""
        return len({point.where for point in self.points})


def series_of(entries: Iterable[Entry]) -> list[Series]:
    """Gather each number that was held against a threshold, apart for each target, claim and parameters, as they first appeared.

    Of each, the newest `MOST_POINTS` are kept.
    """
    found: dict[tuple[str, str, str, str, str, str], list[Point]] = {}
    for entry in entries:
        content = entry.content
        where = repr([(content[side] or {}).get(name) for side, names in _PLACE.items() for name in names])
        given = content.get("parameters", {})
        parameters = ", ".join(f"{name}={given[name]}" for name in sorted(given) if name not in _LEFT_OUT)
        for each in content["measured"]:
            if each["threshold"] and isinstance(each["value"], int | float):
                key = (content["name"], content["target"] or "", each["claim"], each["name"], each["unit"], parameters)
                verdict = KNOWN if is_known(each) else each["verdict"]
                when = datetime.fromisoformat(content["started_utc"])
                found.setdefault(key, []).append(Point(when, entry.run, each["value"], each["threshold"], verdict, where))
    in_order = partial(sorted, key=lambda point: point.when)  # two runs side by side are recorded in either order
    return [Series(*key, tuple(in_order(points))[-MOST_POINTS:]) for key, points in found.items()]


def limit_of(threshold: str, unit: str) -> float | None:
    """Return the number in a threshold such as `< 1 ms`; None if it is another text, or of another unit than the number itself."""
    match = _LIMIT.fullmatch(threshold)
    if not match or match[2].strip() not in ("", unit):
        return None
    return float(match[1].replace(",", ""))


def told(series: Series) -> str:
    """Tell in a sentence how a number developed, for those who can't see its picture."""
    points, values = series.points, [point.value for point in series.points]
    verdicts = ", ".join(f"{count} × {verdict}" for verdict, count in Counter(point.verdict for point in points).items())
    given = f", with {series.parameters}" if series.parameters else ""
    runs = f"{len(points)} runs from {_day(points[0])} to {_day(points[-1])}{given}"
    return (
        f"{series.measured} of {series.name} in {runs}: between {number(min(values), series.unit)} and {number(max(values), series.unit)}, "
        f"in the last run {number(values[-1], series.unit)}, held against {points[-1].threshold}; {verdicts}."
    )


def number(value: float, unit: str) -> str:
    """Write a number with its unit."""
    return f"{value:,} {unit}".rstrip()


def split(series: Sequence[Series]) -> tuple[list[Series], list[Series]]:
    """Part numbers that changed from those that did not, or were measured once."""
    return [each for each in series if each.changed], [each for each in series if not each.changed]


def _day(point: Point) -> str:
    return point.when.strftime("%Y-%m-%d")
