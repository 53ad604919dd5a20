"""A picture of one load in two runs: for each operation, the latency curves over each other, as callers saw them."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from runbook.report.canvas import BLUE, GREEN, GREY, ORANGE, VERMILION, curve, percentile_ticks, plain_ms
from runbook.report.diff import LoadDiff
from runbook.report.display import Plot

_ABREAST = 3
_COLOURS = (BLUE, VERMILION, GREEN, ORANGE)


def overlay(load: LoadDiff) -> Plot:
    """Draw latency over the percentile before and after, a panel for each operation.

    Args:
        load: what both runs measured.
    """
    title = f"How long did callers wait in {load.name}, before and after?"
    axes_labels = ("percentile", "latency from the intended start, ms")
    operations = sorted({*load.before.recording.operations, *load.after.recording.operations})
    columns = max(1, min(_ABREAST, len(operations)))
    rows = max(1, math.ceil(len(operations) / columns))
    figure = Figure(figsize=(10, 0.5 + 3.1 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    figure.supxlabel(axes_labels[0], fontsize=10)
    figure.supylabel(axes_labels[1], fontsize=10)
    for axes in list(grid.flat)[len(operations) :]:
        axes.set_axis_off()
    reach = 100.0
    for number, (operation, axes) in enumerate(zip(operations, grid.flat, strict=False)):
        colour = _COLOURS[number % len(_COLOURS)]
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_title(operation, loc="left", fontsize=10, color=colour, weight="bold")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e5e7eb", linewidth=0.8)
        axes.set_axisbelow(True)
        curves = [curve(offered.histogram(operation)) for offered in (load.before, load.after)]
        reach = max([reach, *(x for xs, _ in curves for x in xs)])
        _draw(axes, curves, colour)
    last: Axes = grid.flat[0]
    percentile_ticks(last, reach * 1.5)  # room for the labels
    plain_ms(last)
    told = [f"{change.what} {_ms(change.before)} → {_ms(change.after)} ms" for change in load.changes if change.unit == "ms"]
    alt = f"{title} {'; '.join(text for text in told if '—' not in text) or 'There were too few samples'}."
    return Plot(
        figure, title, tuple(f"{operation} {side}" for operation in operations for side in ("before", "after")), axes_labels, "", alt
    )


def _draw(axes: Axes, curves: Sequence[tuple[list[float], list[float]]], colour: str) -> None:
    ends = [values[-1] if values else 0.0 for _, values in curves]
    styles = (("before", GREY, "--", ends[0] > ends[1]), ("after", colour, "-", ends[1] >= ends[0]))
    for (xs, values), (label, shade, line, above) in zip(curves, styles, strict=True):
        if not xs:
            continue
        axes.plot(xs, values, color=shade, linestyle=line, linewidth=1.6)
        offset = (5, 7 if above else -7)
        axes.annotate(label, (xs[-1], values[-1]), xytext=offset, textcoords="offset points", color=shade, va="center", fontsize=9)


def _ms(interval: object) -> str:
    value = getattr(interval, "value", None)
    return "—" if value is None else f"{value:.3g}"
