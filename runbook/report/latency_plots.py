"""Pictures of latencies: by percentile, over time, against the offered rate, and taken apart."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.lines import Line2D

from runbook.drills import attribution, latency, sweep
from runbook.drills.sampling import THRESHOLD_MS
from runbook.load.estimates import JUDGED
from runbook.load.histogram import Histogram
from runbook.load.offered import Mark, Offered
from runbook.load.quantile import estimate
from runbook.load.recording import SECOND_NS
from runbook.report.canvas import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PAPER,
    PURPLE,
    SKY,
    VERMILION,
    canvas,
    curve,
    draw_limit,
    label_ends,
    log_steps,
    percentile_ticks,
    plain_ms,
    say_nothing,
)
from runbook.report.display import Plot

CONTROL = "control"
_COLOURS = dict(zip((*latency.OPERATIONS, latency.CLIENT, CONTROL), (BLUE, VERMILION, GREEN, PURPLE, GREY), strict=True))
# Lines that coincide are told apart by their dashes.
_DASHES = dict(zip(_COLOURS, ("-", "--", "-.", ":", "-"), strict=True))
# Rows of the heat map: so many for each tenfold of latency.
_ROWS_A_DECADE = 12
# So many marks are named, the longest of each kind first; more of them are drawn without a name.
_NAMED_MARKS = 8
# Marks within this share of the width share the place of their numbers; lines within it have their names on both sides.
_TOO_CLOSE = 0.05
# A part of a bar that is narrower, as a share of the longest bar, has no room for its number.
_NARROWEST = 0.022


# The three lines of the sweep, of each step.
_SWEPT: tuple[Callable[[sweep.Step], float | None], ...] = (
    lambda step: step.p50_ms,
    lambda step: step.p99_ms,
    lambda step: step.control_p99_ms,
)


def percentiles(result: latency.Result) -> Plot:
    """Draw latency over the percentile, on HdrHistogram's axis: each operation, all of them through the client, and the control."""
    title = "How long did callers wait?"
    labels = ("percentile", "latency from the intended start, ms")
    figure, axes = canvas(title, *labels)
    lines = _lines(result)
    ends, shown = [], []
    for name, samples in lines.items():
        if not samples:
            continue
        found = estimate(samples, JUDGED)
        shown.append(f"{name} p99 {found.value:.3f} ms" if found else f"{name} too few calls for p99")
        xs, ys = curve(samples)
        if xs:
            axes.plot(xs, ys, color=_COLOURS[name], linewidth=1.6, linestyle=_DASHES[name])
            ends.append((ys[-1], xs[-1], name, _COLOURS[name]))
    percentile_ticks(axes, max((x for _, x, _, _ in ends), default=100.0))
    plain_ms(axes)
    draw_limit(axes, THRESHOLD_MS, f"limit at p99: {THRESHOLD_MS:g} ms")
    label_ends(axes, ends)
    if not ends:
        say_nothing(axes, "too few calls were measured" if shown else "nothing was measured")
    alt = f"{title} {', '.join(shown) or 'Nothing was measured'}; the limit is {THRESHOLD_MS:g} ms."
    return Plot(figure, title, tuple(lines), labels, f"{THRESHOLD_MS:g} ms", alt)


def _lines(result: latency.Result) -> dict[str, Histogram | None]:
    """Return the latencies of each line, by its name; None for what was not measured."""
    bare, client = (result.offered[name].recording if name in result.offered else None for name in (latency.BARE, latency.CLIENT))
    lines = {operation: bare.histogram(operation=operation) if bare else None for operation in latency.OPERATIONS}
    control = bare.control.histogram() if bare and bare.control else None
    return {**lines, latency.CLIENT: client.histogram() if client else None, CONTROL: control}


def heat_map(offered: Offered | None) -> Plot:
    """Draw how many calls took how long, over time; what happened meanwhile is marked."""
    title = "When were calls slow, and what happened then?"
    labels = ("seconds since the load began", "latency from the intended start, ms")
    series = ("calls, darker for more", "what happened to the server")
    limit = f"{THRESHOLD_MS:g} ms"
    figure, axes = canvas(title, *labels)
    slices = offered.recording.slices() if offered else {}
    if offered is None or not slices:
        plain_ms(axes)
        draw_limit(axes, THRESHOLD_MS, f"limit: {limit}")
        say_nothing(axes)
        return Plot(figure, title, series, labels, limit, f"{title} In this run nothing was measured.")
    width_s = offered.recording.slice_ns / SECOND_NS
    # Seconds without load, between two looks, are left away; so a place on the axis is a number of slices.
    place = {number: position for position, number in enumerate(slices)}
    cells = [(_row(us), place[number], count) for number, pairs in slices.items() for us, count in pairs]
    lowest, highest = min(row for row, _, _ in cells), max(row for row, _, _ in cells)
    counts = np.zeros((highest - lowest + 1, len(slices)))
    for row, column, count in cells:
        counts[row - lowest, column] += count
    edges_ms = [10 ** (row / _ROWS_A_DECADE) / 1e3 for row in range(lowest, highest + 2)]
    seconds = [position * width_s for position in range(len(slices) + 1)]
    cells_drawn = axes.pcolormesh(seconds, edges_ms, np.ma.masked_equal(counts, 0), cmap="cividis_r", norm=LogNorm(1, max(2, counts.max())))
    bar = figure.colorbar(cells_drawn, ax=axes, label=series[0], pad=0.01, aspect=30, format="{x:,g}")
    bar.ax.minorticks_off()
    axes.set_xlim(0, seconds[-1])
    plain_ms(axes)
    draw_limit(axes, THRESHOLD_MS, f"limit: {limit}")
    marked = _marks(offered, place, width_s)
    named = _named(marked)
    for at_s, _ in marked:
        axes.axvline(at_s, color=VERMILION, linewidth=1.0)
    _number_marks(axes, [at_s for at_s, _ in named], seconds[-1])
    key = [f"{number}: at {at_s:.1f} s {mark.what}" for number, (at_s, mark) in enumerate(named, 1)]
    more = [f"and {len(marked) - len(named)} more"] if len(marked) > len(named) else []
    figure.set_figheight(3.9 + 0.17 * (2 + len(key) + len(more)))
    axes.set_title(title, loc="left", fontsize=11, pad=16)  # above the numbers of marks
    handles = [Line2D([], [], color=VERMILION, label=series[1])]
    handles += [Line2D([], [], linestyle="", label=line) for line in (*key, *more)]
    figure.legend(handles=handles, loc="outside lower left", fontsize=8, frameon=False)
    happened = ", ".join([*(f"{mark.what} at {at_s:.1f} s" for at_s, mark in named), *more]) or "nothing that was watched"
    samples, count = offered.recording.histogram(), offered.recording.count()
    slowest = f"{samples[-1]:.2f} ms" if len(samples) and not samples.out_of_range else "above 60 s"
    calls = f"{count:,} {'call' if count == 1 else 'calls'}, the slowest {slowest}"
    alt = f"{title} {calls}; it happened: {happened}."
    return Plot(figure, title, series, labels, limit, alt)


def rate_sweep(result: sweep.Result) -> Plot:
    """Draw p50 and p99 against the offered rate, p99 of the control, the limit, the knee, and the highest rate that keeps the limit."""
    title = "How much load keeps the limit?"
    labels = ("offered calls a second", "latency from the intended start, ms")
    limit = f"{THRESHOLD_MS:g} ms"
    figure, axes = canvas(title, *labels)
    axes.set_xscale("log")
    ends = []
    series = {"p50": (BLUE, "o-"), "p99": (VERMILION, "s-"), "p99 of the control": (GREY, "^-")}
    for (name, (colour, shape)), value_of in zip(series.items(), _SWEPT, strict=True):
        points = [(step.rate_per_s, value) for step in result.steps if (value := value_of(step)) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), shape, color=colour, linewidth=1.6, markersize=4)
            ends.append((points[-1][1], points[-1][0], name, colour))
    rates = [step.rate_per_s for step in result.steps] or [1000.0, 10_000.0]
    ticks = log_steps(min(rates) * 0.9, max(rates) * 1.1)
    ticks = ticks if len(ticks) > 1 else sorted({min(rates), max(rates)})
    axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    axes.set_xlim(min(rates) * 0.85, max(rates) * 1.35)
    plain_ms(axes)
    axes.minorticks_off()
    draw_limit(axes, THRESHOLD_MS, f"limit at p99: {limit}")
    label_ends(axes, ends)
    best, bend = result.best, result.knee
    if best and best == bend:
        _name_rates(axes, [(best.rate_per_s, "knee, and highest that keeps it", GREEN)])
    else:
        found = ((bend, "knee", GREY), (best, "highest that keeps it", GREEN))
        _name_rates(axes, [(step.rate_per_s, text, colour) for step, text, colour in found if step])
    if not ends:
        say_nothing(axes)
    told = f"the highest rate that keeps the limit is {best.rate_per_s:,.0f} calls a second" if best else "no rate kept the limit"
    tried = f"Of {len(result.steps)} {'rate' if len(result.steps) == 1 else 'rates'} {told}" if result.steps else "Nothing was measured"
    alt = f"{title} {tried}; the knee is {f'at {bend.rate_per_s:,.0f}' if bend else 'not reached'}."
    return Plot(figure, title, tuple(series), labels, limit, alt)


def layers(result: latency.Result) -> Plot:
    """Draw where the time of a call went, as stacked bars: median and 99th percentile of each operation."""
    title = "Where did the time of a call through the client go?"
    labels = ("ms", "")
    figure, axes = canvas(title, *labels, height_inch=4.2)
    axes.grid(visible=False)
    series = (*attribution.PARTS, attribution.REST)
    colours: Mapping[str, str] = dict(zip(series, (SKY, ORANGE, GREEN, PURPLE, VERMILION, "#d1d5db"), strict=True))
    bars = [f"{layer.operation} {'median' if layer.p == 0.5 else f'p{layer.p * 100:g}'}" for layer in result.layers]
    longest = max((layer.whole_ms for layer in result.layers), default=1.0)
    told = []
    for row, layer in enumerate(result.layers):
        left = 0.0
        parts = dict(zip(series, (*layer.parts_ms, layer.rest_ms), strict=True))
        for number, (name, part) in enumerate(parts.items(), 1):
            width = part or 0.0
            axes.barh(
                row, width, left=left, color=colours[name], edgecolor="white", linewidth=0.5, label=None if row else f"{number} {name}"
            )
            if width > _NARROWEST * longest:
                axes.text(left + width / 2, row, f"{number}", color="black", ha="center", va="center", fontsize=8.5)
            left += width
        axes.plot([layer.whole_ms] * 2, [row - 0.42, row + 0.42], color="black", linewidth=1.6)
        axes.annotate(
            f"{layer.whole_ms:.3f} ms", (layer.whole_ms, row), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8.5
        )
        biggest = max(parts, key=lambda name: parts[name] or 0.0)
        unmeasured = "".join(f", {name} not measured" for name, part in parts.items() if part is None)
        told.append(f"{bars[row]} {layer.whole_ms:.3f} ms, the largest part {biggest} ({parts[biggest] or 0.0:.3f} ms){unmeasured}")
    axes.set_yticks(range(len(bars)), bars)
    axes.invert_yaxis()
    if bars:
        axes.set_xlim(0, longest * 1.12)  # with room for the longest bar's number
        figure.legend(loc="outside lower center", ncols=3, fontsize=8.5, frameon=False)
    else:
        say_nothing(axes)
    alt = f"{title} {'; '.join(told) or 'Nothing was measured'}. The black line is the whole."
    return Plot(figure, title, series, labels, "", alt)


def _row(us: int) -> int:
    """Return the row of the heat map in which a latency falls; each is as high as the others on a logarithmic axis."""
    return math.floor(_ROWS_A_DECADE * math.log10(us))


def _marks(offered: Offered, place: Mapping[int, int], width_s: float) -> list[tuple[float, Mark]]:
    """Return when, in seconds of the axis, and what happened, as far as it happened under load."""
    marked = []
    for mark in offered.marks:
        number, within = divmod(mark.at_ns, offered.recording.slice_ns)
        if number in place:
            marked.append((place[number] * width_s + within / SECOND_NS, mark))
    return sorted(marked, key=lambda one: one[0])


def _named(marked: Iterable[tuple[float, Mark]]) -> list[tuple[float, Mark]]:
    """Choose the marks that are named: the longest of each kind, then the second longest of each, and so on; return them by time."""
    seen: Counter[str] = Counter()
    ranked = []
    for at_s, mark in sorted(marked, key=lambda one: -one[1].took_ns):
        kind = re.sub(r"[\d.]+", "", mark.what)
        ranked.append((seen[kind], at_s, mark))
        seen[kind] += 1
    chosen = sorted(ranked, key=lambda one: one[0])[:_NAMED_MARKS]
    return sorted(((at_s, mark) for _, at_s, mark in chosen), key=lambda one: one[0])


def _number_marks(axes: Axes, at_s: list[float], width_s: float) -> None:
    """Write the numbers of marks above their lines; those of lines close together share a place."""
    groups: list[list[int]] = []
    for number, at in enumerate(at_s):
        if groups and at - at_s[groups[-1][0]] < _TOO_CLOSE * width_s:
            groups[-1].append(number)
        else:
            groups.append([number])
    for group in groups:
        text = f"{group[0] + 1}" if len(group) == 1 else f"{group[0] + 1}–{group[-1] + 1}"
        where: dict[str, Any] = {"xycoords": axes.get_xaxis_transform(), "xytext": (0, 2), "textcoords": "offset points", "ha": "center"}
        axes.annotate(text, (at_s[group[0]], 1.0), color=VERMILION, weight="bold", fontsize=8.5, annotation_clip=False, **where)


def _name_rates(axes: Axes, rates: list[tuple[float, str, str]]) -> None:
    """Draw rates as upright lines with their names; those of lines close together stand on both sides."""
    low, high = axes.get_xlim()
    ordered = sorted(rates)
    close = len(ordered) > 1 and math.log(ordered[1][0] / ordered[0][0]) < _TOO_CLOSE * math.log(high / low)
    for number, (rate, text, colour) in enumerate(ordered):
        axes.axvline(rate, color=colour, linewidth=1.2, linestyle=":")
        side = 1 if close and number else -1
        how: dict[str, Any] = {
            "color": colour,
            "rotation": 90,
            "ha": "left" if side > 0 else "right",
            "va": "top",
            "fontsize": 8.5,
            "bbox": PAPER,
        }
        where: dict[str, Any] = {"xycoords": axes.get_xaxis_transform(), "xytext": (3 * side, 0), "textcoords": "offset points"}
        axes.annotate(text, (rate, 0.98), **how, **where)
