"""Where the percentiles of a verification lie against their limit, as coordinates that a template draws in the colours of the page."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

# Of the drawing, in its own units.
LEFT, RIGHT, TOP, ROW = 62, 404, 34, 30
_CLAIM = re.compile(r"At most 1% of (?P<what>.+?) take over (?P<limit>[\d.]+) ms.*")
# Not that of `own sender late, p99`, which is measured beside them.
_PERCENTILE = re.compile(r"(?P<of>[\w ]+) (?P<name>p50|p90|p99|p99\.9)")
CONTROL = "control"


@dataclass(frozen=True, slots=True)
class Point:
    """One percentile: its name, its value in ms, and where it is drawn."""

    name: str
    value_ms: float
    x: float


@dataclass(frozen=True, slots=True)
class Row:
    """The percentiles of one operation, the smallest first, drawn at the height `y`."""

    name: str
    y: float
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """The drawing.

    Attributes:
        rows: one for each operation.
        limit: what 99 of 100 calls have to stay below.
        ticks: of the logarithmic axis.
        height: of the drawing.
        alt: what it shows, in one sentence with the numbers.
    """

    rows: tuple[Row, ...]
    limit: Point
    ticks: tuple[Point, ...]
    height: float
    alt: str


def latency_chart(result: Mapping[str, Any]) -> Chart | None:
    """Find the percentiles among the findings of a verification, the control's last; None if it measured none.

    Args:
        result: of a verification.
    """
    measured: dict[str, dict[str, float]] = {}
    limits_ms, controls = [], list[dict[str, float]]()
    for finding in (finding for criterion in result["criteria"] for finding in criterion["findings"]):
        if claim := _CLAIM.fullmatch(finding["claim"]):
            percentiles, control = _percentiles(finding["measured"])
            if percentiles:
                measured["client" if "client" in claim["what"] else claim["what"]] = percentiles
                limits_ms.append(float(claim["limit"]))
                controls.append(control)
    if not measured:
        return None
    if controls[0]:  # of bare connections, which come first
        measured[CONTROL] = controls[0]
    values = [*limits_ms, *(value for percentiles in measured.values() for value in percentiles.values())]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values) * 1.2))

    def point(name: str, value_ms: float) -> Point:
        return Point(name, value_ms, round(LEFT + (math.log10(value_ms) - low) / (high - low) * (RIGHT - LEFT), 1))

    rows = tuple(
        Row(name, TOP + (number + 0.5) * ROW, tuple(sorted((point(*each) for each in percentiles.items()), key=lambda each: each.value_ms)))
        for number, (name, percentiles) in enumerate(measured.items())
    )
    ticks = tuple(point(f"{10.0**power:g}", 10.0**power) for power in range(low, high + 1))
    told = "; ".join(f"{row.name} {', '.join(f'{each.name} {each.value_ms:.3g} ms' for each in row.points)}" for row in rows)
    alt = f"Percentiles of the time that calls take, against the limit of {limits_ms[0]:g} ms for p99: {told}."
    return Chart(rows, point("limit", limits_ms[0]), ticks, TOP + len(rows) * ROW + 44, alt)


def _percentiles(measured: Iterable[Mapping[str, Any]]) -> tuple[dict[str, float], dict[str, float]]:
    """Return the percentiles of the calls, and those of the control, in ms by their names."""
    calls: dict[str, float] = {}
    control: dict[str, float] = {}
    for each in measured:
        name, value = _PERCENTILE.fullmatch(each["name"]), each["value"]
        if name and isinstance(value, int | float) and value > 0:
            (control if name["of"] == CONTROL else calls)[name["name"]] = float(value)
    return calls, control
