"""What all pictures share: a palette that colour-blind people can tell apart, an empty canvas, and axes that read in plain numbers."""

import math
from collections.abc import Iterable

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from runbook.load.histogram import Histogram
from runbook.load.quantile import FEWEST_BEYOND

# Okabe and Ito's palette.
BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#6b7280"


def canvas(title: str, x: str, y: str, *, height_inch: float = 3.6) -> tuple[Figure, Axes]:
    """Make an empty picture with its title and the labels of its axes."""
    # Without pyplot: no global state, and no figure is shown twice.
    figure = Figure(figsize=(8, height_inch), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e5e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def curve(samples: Histogram) -> tuple[list[float], list[float]]:
    """Return the points of a percentile curve: 1 / (1 - p), of which each decade adds a nine, and the latency in ms.

    It ends where fewer than ten samples lie beyond.
    """
    count, below = len(samples), 0
    xs, ys = [], []
    for us, occurred in samples.pairs():
        if below and count - below < FEWEST_BEYOND:
            break
        xs.append(count / (count - below))
        ys.append(us / 1e3)
        below += occurred
        if count - below >= FEWEST_BEYOND:  # a step: this latency holds up to here
            xs.append(count / (count - below))
            ys.append(us / 1e3)
    return xs, ys


def percentile_ticks(axes: Axes, reach: float) -> None:
    """Label the axis of percentiles, up to 1 / (1 - p) = `reach`."""
    ticks = {2.0: "50 %", 10.0: "90 %", 100.0: "99 %", 1000.0: "99.9 %", 10_000.0: "99.99 %"}
    shown = {x: label for x, label in ticks.items() if x <= max(100.0, reach)}
    axes.set_xscale("log")
    axes.set_xticks(list(shown), list(shown.values()))
    axes.minorticks_off()
    axes.set_xlim(1, max(100.0, reach) * 1.6)


def plain_ms(axes: Axes) -> None:
    """Label a logarithmic axis of latencies in plain numbers, 1 ms within it."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    low, high = min(low, 0.05), max(high, 2.0)
    axes.set_ylim(low, high)
    steps = [step * 10.0**exponent for exponent in range(math.floor(math.log10(low)), math.ceil(math.log10(high))) for step in (1, 2, 5)]
    shown = [step for step in steps if low <= step <= high]
    axes.set_yticks(shown, [f"{step:g}" for step in shown])
    axes.minorticks_off()


def label_ends(axes: Axes, ends: Iterable[tuple[float, float, str, str]]) -> None:
    """Label lines at their right ends, apart from each other even where they meet.

    Args:
        axes: with the lines.
        ends: y and x of each end, the label, and its colour.
    """
    ordered = sorted(ends)
    for position, (y, x, label, colour) in enumerate(ordered):
        offset = (8, 12 * (position - (len(ordered) - 1) / 2))
        axes.annotate(label, (x, y), xytext=offset, textcoords="offset points", color=colour, va="center", weight="bold")


def draw_limit(axes: Axes, limit_ms: float, text: str) -> None:
    """Draw a limit as a dashed line, and name it."""
    axes.axhline(limit_ms, color=GREY, linestyle="--", linewidth=1.2)
    axes.text(axes.get_xlim()[0], limit_ms * 1.06, f" {text}", color=GREY, va="bottom")
