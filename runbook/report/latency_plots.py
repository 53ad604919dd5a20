"""Pictures of latencies: by percentile, over time, against the offered rate, and taken apart."""

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.colors import LogNorm

from runbook.drills import attribution, latency, sweep
from runbook.load.offered import Offered
from runbook.load.quantile import estimate
from runbook.load.recording import SECOND_NS
from runbook.report.canvas import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    canvas,
    curve,
    draw_limit,
    label_ends,
    percentile_ticks,
    plain_ms,
)
from runbook.report.display import Plot

_COLOURS = dict(zip((*latency.OPERATIONS, latency.CLIENT), (BLUE, VERMILION, GREEN, PURPLE), strict=True))
# Rows of the heat map: so many for each tenfold of latency.
_ROWS_A_DECADE = 12
# Marks of the same kind that are named; more of them are drawn without a name.
_NAMED_MARKS = 6


def percentiles(result: latency.Result) -> Plot:
    """Draw latency over the percentile, on HdrHistogram's axis, with the limit: each operation, and all of them through the client."""
    title = "How long did callers wait?"
    labels = ("percentile", "latency from the intended start, ms")
    figure, axes = canvas(title, *labels)
    lines = {operation: (latency.BARE, operation) for operation in latency.OPERATIONS} | {latency.CLIENT: (latency.CLIENT, None)}
    ends, shown = [], []
    for name, (carrier, operation) in lines.items():
        samples = result.offered[carrier].histogram(operation) if carrier in result.offered else None
        if not samples:
            continue
        xs, ys = curve(samples)
        axes.plot(xs, ys, color=_COLOURS[name], linewidth=1.6, linestyle=":" if name == latency.CLIENT else "-")
        ends.append((ys[-1], xs[-1], name, _COLOURS[name]))
        found = estimate(samples, latency.JUDGED)
        shown += [f"{name} p99 {found.value:.3f} ms"] if found else []
    percentile_ticks(axes, max((x for _, x, _, _ in ends), default=100.0))
    plain_ms(axes)
    draw_limit(axes, latency.THRESHOLD_MS, f"limit at p99: {latency.THRESHOLD_MS:g} ms")
    label_ends(axes, ends)
    alt = f"{title} {', '.join(shown) or 'Nothing was measured'}; the limit is {latency.THRESHOLD_MS:g} ms."
    return Plot(figure, title, tuple(lines), labels, f"{latency.THRESHOLD_MS:g} ms", alt)


def heat_map(offered: Offered | None) -> Plot:
    """Draw how many calls took how long, over time; what happened meanwhile, and what was left out, is marked."""
    title = "When were calls slow, and what happened then?"
    labels = ("seconds since the load began", "latency from the intended start, ms")
    series = ("calls, darker for more", "left out: the host stalled", "what happened to the server")
    limit = f"{latency.THRESHOLD_MS:g} ms"
    figure, axes = canvas(title, *labels)
    slices = offered.recording.slices() if offered else {}
    if offered is None or not slices:
        axes.text(0.5, 0.5, "nothing was measured", ha="center", transform=axes.transAxes)
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
    axes.pcolormesh(seconds, edges_ms, np.ma.masked_equal(counts, 0), cmap="cividis_r", norm=LogNorm(1, max(2, counts.max())))
    axes.set_xlim(0, seconds[-1])
    plain_ms(axes)
    for number in slices:
        if number * offered.recording.slice_ns // SECOND_NS in offered.stalled:
            begin_s = place[number] * width_s
            axes.axvspan(begin_s, begin_s + width_s, facecolor="none", edgecolor=ORANGE, hatch="//", linewidth=0, alpha=0.5)
    marked = _marks(offered, place, width_s)
    for position, (at_s, what) in enumerate(marked):
        axes.axvline(at_s, color=VERMILION, linewidth=1.0)
        if position < _NAMED_MARKS:
            box = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1}
            axes.text(at_s, edges_ms[-1], f"{what} ", color=VERMILION, rotation=90, ha="right", va="top", fontsize=7.5, bbox=box)
    draw_limit(axes, latency.THRESHOLD_MS, limit)
    happened = ", ".join(f"{what} at {at_s:.1f} s" for at_s, what in marked[:_NAMED_MARKS]) or "nothing that was watched"
    samples = offered.recording.histogram()
    calls = f"{len(samples):,} calls, the slowest {samples[-1]:.2f} ms; {offered.left_out:,} left out"
    alt = f"{title} {calls}; it happened: {happened}."
    return Plot(figure, title, series, labels, limit, alt)


def rate_sweep(result: sweep.Result) -> Plot:
    """Draw p50 and p99 against the offered rate, with the limit, the knee, and the highest rate that keeps the limit."""
    title = "How much load keeps the limit?"
    labels = ("offered calls a second", "latency from the intended start, ms")
    limit = f"{latency.THRESHOLD_MS:g} ms"
    figure, axes = canvas(title, *labels)
    axes.set_xscale("log")
    ends = []
    for name, colour in (("p50", BLUE), ("p99", VERMILION)):
        points = [(step.rate_per_s, value) for step in result.steps if (value := getattr(step, f"{name}_ms")) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), "o-", color=colour, linewidth=1.6, markersize=4)
            ends.append((points[-1][1], points[-1][0], name, colour))
    rates = [step.rate_per_s for step in result.steps] or [1000.0, 10_000.0]
    ticks = [base * 10**power for power in range(1, 7) for base in (1, 2, 5) if min(rates) * 0.9 <= base * 10**power <= max(rates) * 1.1]
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.set_xlim(min(rates) * 0.85, max(rates) * 1.35)
    plain_ms(axes)
    axes.minorticks_off()
    draw_limit(axes, latency.THRESHOLD_MS, f"limit at p99: {limit}")
    label_ends(axes, ends)
    best, bend = result.best, result.knee
    low = axes.get_ylim()[0]
    for step, text, colour in ((bend, "knee", GREY), (best, "highest that keeps it", GREEN)):
        if step:
            axes.axvline(step.rate_per_s, color=colour, linewidth=1.0, linestyle=":")
            axes.text(step.rate_per_s, low * 1.1, f"{text} ", color=colour, rotation=90, ha="right", va="bottom", fontsize=8)
    told = f"the highest rate that keeps the limit is {best.rate_per_s:,.0f} calls a second" if best else "no rate kept the limit"
    alt = f"{title} Of {len(result.steps)} rates {told}; the knee is {f'at {bend.rate_per_s:,.0f}' if bend else 'not reached'}."
    return Plot(figure, title, ("p50", "p99"), labels, limit, alt)


def layers(result: latency.Result) -> Plot:
    """Draw where the time of a call went, as stacked bars: median and 99th percentile of each operation."""
    title = "Where did the time of a call through the client go?"
    labels = ("ms", "")
    figure, axes = canvas(title, *labels, height_inch=4.2)
    axes.grid(visible=False)
    series = (*attribution.PARTS, attribution.REST)
    colours: Mapping[str, str] = dict(zip(series, (SKY, BLUE, ORANGE, GREEN, PURPLE, VERMILION, "#d1d5db"), strict=True))
    bars = [f"{layer.operation} {'median' if layer.p == 0.5 else f'p{layer.p * 100:g}'}" for layer in result.layers]
    told = []
    for row, layer in enumerate(result.layers):
        left = 0.0
        for name, part in zip(series, (*layer.parts_ms, max(0.0, layer.rest_ms)), strict=True):
            width = part or 0.0
            axes.barh(row, width, left=left, color=colours[name], edgecolor="white", linewidth=0.5, label=name if row == 0 else None)
            left += width
        axes.plot([layer.whole_ms] * 2, [row - 0.42, row + 0.42], color="black", linewidth=1.6)
        biggest = max(zip((part or 0.0 for part in layer.parts_ms), attribution.PARTS, strict=True))
        told.append(f"{bars[row]} {layer.whole_ms:.3f} ms, most of it {biggest[1]} ({biggest[0]:.3f} ms)")
    axes.set_yticks(range(len(bars)), bars)
    axes.invert_yaxis()
    if bars:
        figure.legend(loc="outside lower center", ncols=4, fontsize=7.5, frameon=False)
    alt = f"{title} {'; '.join(told) or 'Nothing was measured'}. The black line is the whole."
    return Plot(figure, title, series, labels, "", alt)


def _row(us: int) -> int:
    """Return the row of the heat map in which a latency falls; each is as high as the others on a logarithmic axis."""
    return math.floor(_ROWS_A_DECADE * math.log10(us))


def _marks(offered: Offered, place: Mapping[int, int], width_s: float) -> list[tuple[float, str]]:
    """Return when, in seconds of the axis, and what happened, as far as it happened under load."""
    marked = []
    for mark in offered.marks:
        number, within = divmod(mark.at_ns, offered.recording.slice_ns)
        if number in place:
            marked.append((place[number] * width_s + within / SECOND_NS, mark.what))
    return sorted(marked)
