"""A small chart as numbers that a template draws: matplotlib took 14 s and 2.4 MB for a page of a hundred, and none of it turned dark."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from runbook.report.trends import KNOWN, Point, Series, limit_of, number

WIDTH, HEIGHT = 320.0, 150.0
# Where the values are drawn: beside them the labels of the axes.
LEFT, RIGHT, TOP, BOTTOM = 46.0, 310.0, 24.0, 122.0
# A limit farther away than so many times the values is named, and not drawn: it would press them to the ground.
FARTHEST_LIMIT = 4.0
_MOST_TICKS = 4


@dataclass(frozen=True, slots=True)
class Mark:
    """A run: where it is drawn, as what, and what it says when it is pointed at."""

    x: float
    y: float
    look: str
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """What is drawn, in units of the picture, whose origin is at the top on the left.

    Attributes:
        ticks: of the axis of values: height and label.
        ends: labels of the axis of time: the first and the last run.
        line: through all marks.
        marks: one a run.
        limit: what was held against, from run to run; empty if that is no number, or too far away.
        far: the limit that is too far away, with an arrow; else empty.
    """

    ticks: tuple[tuple[float, str], ...]
    ends: tuple[str, str]
    line: str
    marks: tuple[Mark, ...]
    limit: str
    far: str


def chart_of(series: Series) -> Chart:
    """Lay out a number over time, the axis of values from 0 where nothing lies below."""
    points = series.points
    limits = [limit_of(point.threshold, series.unit) for point in points]
    greatest = max(abs(point.value) for point in points)
    near = [limit for limit in limits if limit is not None and abs(limit) <= FARTHEST_LIMIT * greatest]
    values = [*(point.value for point in points), *near]
    low, high = min(0.0, *values), max(0.0, *values)
    step = _step(high - low)
    low, high = math.floor(low / step) * step, max(math.ceil(high / step), 1) * step

    def y(value: float) -> float:
        return round(BOTTOM - (value - low) / (high - low) * (BOTTOM - TOP), 1)

    xs = _places([point.when for point in points])
    marks = tuple(Mark(x, y(point.value), _look(point), _text(point, series.unit)) for x, point in zip(xs, points, strict=True))
    drawn = [(x, y(limit)) for x, limit in zip(xs, limits, strict=True) if limit is not None] if len(near) == len(points) else []
    last = limits[-1]
    far = "" if last is None or drawn else f"{'↑' if last > high else '↓' if last < low else ''} {points[-1].threshold}".strip()
    ticks = tuple((y(value), f"{value:,.12g}") for value in (low + step * number for number in range(round((high - low) / step) + 1)))
    return Chart(ticks, _ends(points), _path([(mark.x, mark.y) for mark in marks]), marks, _path(_steps(drawn)), far)


def _step(span: float) -> float:
    """Return the smallest of 1, 2, 5, 10 and so on that parts a span into few steps."""
    exponent = math.floor(math.log10(span or 1.0)) - 1
    return next(
        step for power in range(exponent, exponent + 3) for base in (1, 2, 5) if (step := base * 10.0**power) * _MOST_TICKS >= (span or 1.0)
    )


def _places(whens: Sequence[datetime]) -> list[float]:
    span_s = (whens[-1] - whens[0]).total_seconds() or 1.0
    return [round(LEFT + 8 + (when - whens[0]).total_seconds() / span_s * (RIGHT - LEFT - 16), 1) for when in whens]


def _steps(places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Let a limit hold from its run up to the next, and reach both ends of the picture."""
    if not places:
        return []
    ends = [x for x, _ in places[1:]] + [RIGHT]
    return [(LEFT, places[0][1]), *(corner for (x, y), end in zip(places, ends, strict=True) for corner in ((x, y), (end, y)))]


def _path(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in places)


def _ends(points: Sequence[Point]) -> tuple[str, str]:
    days = [f"{point.when:%Y-%m-%d}" for point in (points[0], points[-1])]
    return (f"{points[0].when:%Y-%m-%d %H:%M}", f"{points[-1].when:%H:%M}") if days[0] == days[1] else (days[0], days[1])


def _look(point: Point) -> str:
    return "known" if point.verdict == KNOWN else point.verdict


def _text(point: Point, unit: str) -> str:
    return f"{point.run}: {number(point.value, unit)}, {point.verdict}"
