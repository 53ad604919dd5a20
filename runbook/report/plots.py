"""Pictures of recorded histories; each answers one question, with its threshold drawn and its lines labelled directly."""

import math
import statistics
from collections.abc import Iterable

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from runbook.drills import latency, persistence, reconnection, speed
from runbook.load import Outcome
from runbook.report.display import Plot
from runbook.report.frame import frame

# Okabe and Ito's palette, which colour-blind people can tell apart.
BLUE, ORANGE, GREEN, VERMILION, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#6b7280"
BIN_S = 0.1


def timeline(result: persistence.Result) -> Plot:
    """Draw how many appends were acknowledged over time, the outage shaded."""
    title = f"Who was served, before, during and after {result.fault}?"
    axes_labels = ("seconds since the load began", "acknowledged appends per second")
    figure, axes = _canvas(title, *axes_labels)
    writes = frame(result.writes)
    acknowledged = writes[writes["outcome"] == Outcome.OK]
    if acknowledged.empty:
        nothing = "nothing was acknowledged" if len(writes) else "nothing was recorded"
        axes.text(0.5, 0.5, nothing, ha="center", transform=axes.transAxes)
        return Plot(figure, title, (), axes_labels, "", f"{title} In this run {nothing}.")
    start_ns = int(writes["sent_ns"].min())
    bins = ((acknowledged["done_ns"] - start_ns) / 1e9 // BIN_S).astype(int)
    rate = bins.value_counts().reindex(range(int(bins.max()) + 1), fill_value=0).sort_index() / BIN_S
    seconds = pd.Series(rate.index) * BIN_S
    axes.step(seconds, rate.to_numpy(), where="post", color=BLUE, linewidth=1.5)
    down_s, up_s = ((moment - start_ns) / 1e9 for moment in (result.outage.broken_ns, result.outage.ready_ns))
    axes.axvspan(down_s, up_s, color=VERMILION, alpha=0.18, linewidth=0)
    top = float(rate.max()) * 1.15
    axes.set_ylim(0, top)
    axes.set_xlim(0, None)
    axes.text((down_s + up_s) / 2, top * 0.97, "server down", color=VERMILION, ha="center", va="top", rotation=90)
    axes.text(down_s * 0.5, float(rate.median()) * 1.04, "acknowledged", color=BLUE, ha="center", va="bottom")
    recovered_s = min(persistence.recoveries_s(result.writes, result.outage).values(), default=None)
    back = (
        f"the first writer succeeded {recovered_s * 1e3:.0f} ms after it served again"
        if recovered_s is not None
        else "no writer succeeded again"
    )
    alt = (
        f"{title} {len(acknowledged)} appends were acknowledged in {seconds.iloc[-1]:.1f} s; the server was down from {down_s:.1f} to "
        f"{up_s:.1f} s; {back}. The peak behind the gap is the backlog of the outage."
    )
    return Plot(figure, title, ("acknowledged", "server down"), axes_labels, "", alt)


def percentiles(result: latency.Result) -> Plot:
    """Draw latency over the percentile, on HdrHistogram's axis, with the limit."""
    title = "How long did callers wait?"
    axes_labels = ("percentile", "latency from the intended start, ms")
    figure, axes = _canvas(title, *axes_labels)
    axes.set_xscale("log")
    axes.set_yscale("log")
    ends = []
    for operation, colour in zip(latency.OPERATIONS, (BLUE, VERMILION, GREEN), strict=True):
        samples = result.latencies_ms(operation)
        if not samples:
            continue
        count = len(samples)
        # The axis is 1 / (1 - p): each decade adds a nine. The curve ends where fewer than ten samples lie beyond.
        last = max(1, count - 10)
        axes.plot([count / (count - rank) for rank in range(last)], samples[:last], color=colour, linewidth=1.6)
        ends.append((samples[last - 1], count / (count - last + 1), operation, colour))
    # Labels in the order of the ends, apart from each other even where the lines meet.
    for position, (value, x, operation, colour) in enumerate(sorted(ends)):
        axes.annotate(
            operation,
            (x, value),
            xytext=(8, 12 * (position - 1)),
            textcoords="offset points",
            color=colour,
            va="center",
            weight="bold",
        )
    axes.axhline(latency.THRESHOLD_MS, color=GREY, linestyle="--", linewidth=1.2)
    axes.text(1.05, latency.THRESHOLD_MS * 1.06, f"limit at p99: {latency.THRESHOLD_MS:g} ms", color=GREY, va="bottom")
    _percentile_ticks(axes, max((x for _, x, _, _ in ends), default=100.0))
    _plain_numbers(axes)
    shown = ", ".join(
        f"{m.name} {m.value} ms" for finding in result.findings for m in finding.measured if m.name.endswith(" p99") and m.value is not None
    )
    alt = f"{title} At {result.rate_per_s:g} operations a second: {shown}; the limit is {latency.THRESHOLD_MS:g} ms."
    return Plot(figure, title, latency.OPERATIONS, axes_labels, f"{latency.THRESHOLD_MS:g} ms", alt)


def recovery(result: reconnection.Result) -> Plot:
    """Draw the first outage: each connection attempt, each call that succeeded, each caller who was told that Redis is away."""
    title = "What happened while the server was away?"
    axes_labels = ("seconds since the server was killed", "")
    lanes = ("callers told", "connection attempts", "calls succeeded")
    figure, axes = _canvas(title, *axes_labels)
    axes.set_yticks(range(len(lanes)), lanes)
    axes.set_ylim(-0.6, len(lanes) - 0.2)
    axes.grid(visible=False)
    if not result.returns:
        axes.text(0.5, 0.5, "nothing was recorded", ha="center", transform=axes.transAxes)
        return Plot(figure, title, (), axes_labels, "", f"{title} In this run nothing was recorded.")
    first = result.returns[0]

    def seconds(moments_ns: Iterable[int]) -> list[float]:
        return [(moment - first.outage.broken_ns) / 1e9 for moment in moments_ns]

    low_s, high_s = -0.5, seconds([first.accepted_ns])[0] + 0.7
    told = seconds(look.done_ns for look in result.looks if look.outcome is not Outcome.OK)
    succeeded = seconds(record.done_ns for record in result.basics if record.outcome is Outcome.OK)
    attempts = seconds(attempt.at_ns for attempt in first.attempts)
    for lane, (moments, colour) in enumerate(((told, ORANGE), (attempts, VERMILION), (succeeded, GREEN))):
        shown = [moment for moment in moments if low_s <= moment <= high_s]
        axes.plot(shown, [lane] * len(shown), "|", color=colour, markersize=16, markeredgewidth=1.1)
    axes.axvspan(0.0, seconds([first.accepted_ns])[0], color=VERMILION, alpha=0.10, linewidth=0)
    axes.text(seconds([first.accepted_ns])[0] / 2, len(lanes) - 0.35, "server down", color=VERMILION, ha="center", va="center")
    axes.set_xlim(low_s, high_s)
    alt = (
        f"{title} It was down for {first.outage.duration_s:.1f} s. The client tried {len(attempts)} times to connect, at first after a "
        f"millisecond and then about every 45 ms. The first call succeeded {first.recovery_ms:.0f} ms after the server's return."
    )
    return Plot(figure, title, lanes, axes_labels, "", alt)


def ratios(result: speed.Result) -> Plot:
    """Draw the ratio of each round, and what must be reached."""
    title = "How many times the rate?"
    axes_labels = ("ratio of the rates, a dot for each round", "")
    figure, axes = _canvas(title, *axes_labels)
    axes.set_xscale("log")
    axes.grid(visible=False)
    names = []
    medians = []
    for row, comparison in enumerate(reversed(speed.COMPARISONS)):
        values = result.ratios(comparison.ours, comparison.theirs) if comparison.ours in result.rounds else []
        work, (their_work, theirs) = comparison.ours.split("/")[0], comparison.theirs.split("/")
        names.append(f"{work} against {their_work if theirs == 'cachelib' else theirs}")
        axes.plot(values, [row] * len(values), "o", color=BLUE, alpha=0.6, markersize=7)
        axes.plot([comparison.at_least] * 2, [row - 0.3, row + 0.3], color=GREY, linestyle="--", linewidth=1.4)
        axes.text(comparison.at_least, row + 0.34, f"≥ {comparison.at_least:g} ×", color=GREY, ha="center", va="bottom", fontsize=8)
        if values:
            medians.append(f"{names[-1]} {statistics.median(values):.1f} ×")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.5, len(names) - 0.2)
    axes.set_xlim(0.5, 32)
    axes.set_xticks([0.5, 1, 2, 4, 8, 16, 32], ["0.5", "1", "2", "4", "8", "16", "32"])
    axes.minorticks_off()
    threshold = ", ".join(f"{comparison.at_least:g} ×" for comparison in speed.COMPARISONS)
    alt = f"{title} Medians: {', '.join(reversed(medians)) or 'none'}; asked are {threshold}."
    return Plot(figure, title, tuple(reversed(names)), axes_labels, threshold, alt)


def _canvas(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    # Without pyplot: no global state, and no figure is shown twice.
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e5e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _percentile_ticks(axes: Axes, reach: float) -> None:
    ticks = {2.0: "50 %", 10.0: "90 %", 100.0: "99 %", 1000.0: "99.9 %", 10_000.0: "99.99 %"}
    shown = {x: label for x, label in ticks.items() if x <= max(100.0, reach)}
    axes.set_xticks(list(shown), list(shown.values()))
    axes.minorticks_off()
    axes.set_xlim(1, max(100.0, reach) * 1.6)


def _plain_numbers(axes: Axes) -> None:
    low, high = axes.get_ylim()
    low, high = min(low, 0.05), max(high, 2.0)
    axes.set_ylim(low, high)
    steps = [step * 10.0**exponent for exponent in range(math.floor(math.log10(low)), math.ceil(math.log10(high))) for step in (1, 2, 5)]
    shown = [step for step in steps if low <= step <= high]
    axes.set_yticks(shown, [f"{step:g}" for step in shown])
