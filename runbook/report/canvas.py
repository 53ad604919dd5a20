"""What all pictures share: a palette that colour-blind people can tell apart, an empty canvas, and axes that read in plain numbers."""

import math
from collections.abc import Iterable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import offset_copy

from runbook.load.histogram import Histogram
from runbook.load.quantile import FEWEST_BEYOND

# Okabe and Ito's palette.
BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#6b7280"
# Behind a text that lies on lines or on colours.
PAPER = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1}
_LABEL_HEIGHT_PT = 13
# A logarithmic axis over more decades than this has only powers of ten on it.
_MOST_DECADES = 3


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

    It ends where fewer than ten samples lie beyond; of fewer than ten samples there is none.
    """
    count, below = len(samples), 0
    xs, ys = [], []
    for us, occurred in samples.pairs():
        if count - below < FEWEST_BEYOND:
            break
        xs.append(count / (count - below))
        ys.append(us / 1e3)
        below += occurred
        xs.append(count / max(count - below, FEWEST_BEYOND))  # a step: this latency holds up to here
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
    shown = log_steps(low, high)
    axes.set_yticks(shown, [f"{step:,g}" for step in shown])
    axes.minorticks_off()


def log_steps(low: float, high: float) -> list[float]:
    """Return the round numbers of a logarithmic axis: 1, 2, 5, 10 and so on, over many decades the powers of ten alone."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    bases = (1, 2, 5) if math.log10(high / low) <= _MOST_DECADES else (1,)
    return [step for exponent in decades for base in bases if low <= (step := base * 10.0**exponent) <= high]


def label_ends(axes: Axes, ends: Iterable[tuple[float, float, str, str]]) -> None:
    """Label lines to the right of where the last one ends, apart from each other even where they meet; a thin line leads to each label.

    Args:
        axes: with the lines, and with their final limits.
        ends: y and x of each end, the label, and its colour.
    """
    ordered = sorted(ends)
    if not ordered:
        return
    to_share = axes.transData + axes.transAxes.inverted()
    height_pt = axes.get_window_extent().height * 72 / axes.figure.dpi
    wanted = [float(to_share.transform((x, y))[1]) for y, x, _, _ in ordered]
    right = max(x for _, x, _, _ in ordered)
    beside = offset_copy(axes.get_xaxis_transform(), axes.get_figure(root=True), x=14, units="points")
    line = {"arrowstyle": "-", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 0}
    for (y, x, label, colour), share in zip(ordered, _apart(wanted, _LABEL_HEIGHT_PT / height_pt), strict=True):
        how: dict[str, Any] = {"color": colour, "va": "center", "weight": "bold", "arrowprops": line | {"color": colour}}
        axes.annotate(label, (x, y), xytext=(right, share), textcoords=beside, annotation_clip=False, **how)


def draw_limit(axes: Axes, limit_ms: float, text: str) -> None:
    """Draw a limit as a dashed line, and name it."""
    axes.axhline(limit_ms, color=GREY, linestyle="--", linewidth=1.2)
    axes.annotate(
        text, (0, limit_ms), xycoords=axes.get_yaxis_transform(), xytext=(4, 6), textcoords="offset points", color="#4b5563", bbox=PAPER
    )


def say_nothing(axes: Axes, text: str = "nothing was measured") -> None:
    """Write into a picture why there is nothing in it."""
    axes.text(0.5, 0.25, text, ha="center", transform=axes.transAxes, bbox=PAPER)


def _apart(wanted: list[float], gap: float) -> list[float]:
    """Move ascending places apart by at least a gap, each as little upwards as downwards, within 0 and 1 where there is room."""
    up, down = list(wanted), list(wanted)
    for number in range(1, len(wanted)):
        up[number] = max(up[number], up[number - 1] + gap)
        down[-1 - number] = min(down[-1 - number], down[-number] - gap)
    last = len(wanted) - 1
    places = [min((high + low) / 2, 1 - gap * (last - number)) for number, (high, low) in enumerate(zip(up, down, strict=True))]
    return [max(place, gap * number) for number, place in enumerate(places)]
