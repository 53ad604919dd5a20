"""Pictures of recorded histories; each answers one question, with its threshold drawn and its lines labelled directly."""

import statistics
from collections.abc import Iterable

import pandas as pd

from runbook.drills import persistence, power_loss, reconnection_judging, restore_time, speed
from runbook.drills.persistence_faults import FAULTS
from runbook.drills.persistence_judging import recoveries_s
from runbook.load import Outcome
from runbook.load.paired_median import paired_median
from runbook.report.canvas import BLUE, GREEN, GREY, ORANGE, VERMILION, canvas, label_ends, log_steps, say_nothing
from runbook.report.display import Plot
from runbook.report.frame import frame

BIN_S = 0.1


def timeline(result: persistence.Result) -> Plot:
    """Draw how many appends were acknowledged over time, the outage shaded."""
    title = f"Who was served, before, during and after {FAULTS[result.fault].cause}?"
    axes_labels = ("seconds since the load began", "acknowledged appends per second")
    figure, axes = canvas(title, *axes_labels)
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
    outages = [((each.broken_ns - start_ns) / 1e9, (each.ready_ns - start_ns) / 1e9) for each in result.outages]
    for span_s in outages:
        axes.axvspan(*span_s, color=VERMILION, alpha=0.18, linewidth=0)
    down_s, up_s = outages[-1]
    top = float(rate.max()) * 1.15
    axes.set_ylim(0, top)
    axes.set_xlim(0, None)
    axes.text((down_s + up_s) / 2, top * 0.97, "server down", color=VERMILION, ha="center", va="top", rotation=90)
    axes.text(outages[0][0] * 0.5, float(rate.median()) * 1.04, "acknowledged", color=BLUE, ha="center", va="bottom")
    recovered_s = min(recoveries_s(result.writes, result.outages[-1]).values(), default=None)
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


def cuts(result: power_loss.Result) -> Plot:
    """Draw how many seconds of acknowledged writes each power cut took."""
    title = "How many seconds of acknowledged writes did each power cut take?"
    axes_labels = ("seconds from the first lost write to the cut", "")
    figure, axes = canvas(title, *axes_labels)
    axes.grid(visible=False)
    for row, (policy, done) in enumerate(reversed(list(result.cuts.items()))):
        windows_s = [cut.account.lost_window_s for cut in done]
        axes.plot(windows_s, [row] * len(windows_s), "o", color=GREY if policy == "no" else BLUE, alpha=0.6, markersize=8)
    names = [f"appendfsync {policy}" for policy in reversed(list(result.cuts))]
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, len(names) - 0.1)
    axes.set_xlim(-0.1, None)
    limit = f"≤ {power_loss.WINDOW_S:g} s"
    axes.axvline(power_loss.WINDOW_S, color=VERMILION, linestyle="--", linewidth=1.4)
    axes.text(power_loss.WINDOW_S + 0.05, len(names) - 0.45, f"promised of everysec: {limit}", color=VERMILION, va="center")
    worst = ", ".join(f"{policy} {max(cut.account.lost_window_s for cut in done):.2f} s" for policy, done in result.cuts.items())
    return Plot(figure, title, tuple(reversed(names)), axes_labels, limit, f"{title} At the most: {worst}. How it was cut: {result.how}.")


def restore_curve(result: restore_time.Result) -> Plot:
    """Draw how long a restoration takes against the size of the data, for each kind of backup."""
    title = "How long does it take to be back, against the size of the data?"
    axes_labels = ("size of the data, MiB", "seconds from the loss to the first read")
    figure, axes = canvas(title, *axes_labels)
    axes.set_xscale("log")
    axes.set_yscale("log")
    ends, told = [], []
    for (kind, timings), colour in zip(result.timings.items(), (BLUE, ORANGE, GREEN), strict=False):
        sizes = sorted({timing.size_mib for timing in timings})
        took_s = [statistics.median(timing.total_s for timing in timings if timing.size_mib == size) for size in sizes]
        axes.plot(sizes, took_s, "o-", color=colour, linewidth=1.5, markersize=5)
        ends.append((took_s[-1], sizes[-1], kind, colour))
        growth = restore_time.growth_of(dict(zip(sizes, took_s, strict=True)))
        told.append(f"{kind}: {took_s[0]:.2f} to {took_s[-1]:.2f} s, {growth.name if growth else 'too few sizes for a growth'}")
    if not ends:
        say_nothing(axes)
        return Plot(figure, title, (), axes_labels, "", f"{title} Nothing was restored.")
    sizes = sorted({timing.size_mib for timings in result.timings.values() for timing in timings})
    axes.plot(sizes, [restore_time.allowed_s(size) for size in sizes], color=VERMILION, linestyle="--", linewidth=1.4)
    ends.append((restore_time.allowed_s(sizes[-1]), sizes[-1], "promised at the latest", VERMILION))
    axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
    steps = log_steps(*axes.get_ylim())
    axes.set_yticks(steps, [f"{step:g}" for step in steps])
    axes.minorticks_off()
    label_ends(axes, ends)
    limit = f"≤ {restore_time.FIXED_S:g} s and {restore_time.PER_100_MIB_S:g} s for each 100 MiB"
    return Plot(figure, title, tuple(result.timings), axes_labels, limit, f"{title} {'; '.join(told)}.")


def recovery(result: reconnection_judging.Result) -> Plot:
    """Draw the first outage: each connection attempt, each call that succeeded, each caller who was told that Redis is away."""
    title = "What happened while the server was away?"
    axes_labels = ("seconds since the server was killed", "")
    lanes = ("callers told", "connection attempts", "calls succeeded")
    figure, axes = canvas(title, *axes_labels)
    axes.set_yticks(range(len(lanes)), lanes)
    axes.set_ylim(-0.6, len(lanes) - 0.2)
    axes.grid(visible=False)
    if not result.returns:
        axes.text(0.5, 0.5, "nothing was recorded", ha="center", transform=axes.transAxes)
        return Plot(figure, title, (), axes_labels, "", f"{title} In this run nothing was recorded.")
    first = result.returns[0]

    def seconds(moments_ns: Iterable[int]) -> list[float]:
        return [(moment - first.outage.broken_ns) / 1e9 for moment in moments_ns]

    low_s, high_s = -0.5, seconds([first.answered_ns])[0] + 0.7
    told = seconds(look.done_ns for look in result.looks if look.outcome is not Outcome.OK)
    succeeded = seconds(record.done_ns for record in result.basics if record.outcome is Outcome.OK)
    attempts = seconds(attempt.at_ns for attempt in first.attempts)
    for lane, (moments, colour) in enumerate(((told, ORANGE), (attempts, VERMILION), (succeeded, GREEN))):
        shown = [moment for moment in moments if low_s <= moment <= high_s]
        axes.plot(shown, [lane] * len(shown), "|", color=colour, markersize=16, markeredgewidth=1.1)
    axes.axvspan(0.0, seconds([first.answered_ns])[0], color=VERMILION, alpha=0.10, linewidth=0)
    axes.text(seconds([first.answered_ns])[0] / 2, len(lanes) - 0.35, "server down", color=VERMILION, ha="center", va="center")
    axes.set_xlim(low_s, high_s)
    alt = (
        f"{title} It was down for {first.outage.duration_s:.1f} s. The client tried {len(attempts)} times to connect, at first after a "
        f"millisecond and then about every 45 ms. The first call succeeded {first.recovery_ms:.0f} ms after the server's return."
    )
    return Plot(figure, title, lanes, axes_labels, "", alt)


def ratios(result: speed.Result) -> Plot:
    """Draw the ratio of the rates of each pair, the interval of their median, and the limit."""
    title = "How many times the rate?"
    axes_labels = ("ratio of the rates: a dot for each pair of slices, a line for the interval of the median", "")
    figure, axes = canvas(title, *axes_labels)
    axes.set_xscale("log")
    axes.grid(visible=False)
    drawn = [(comparison, limit) for comparison in speed.COMPARISONS for limit in comparison.limits if limit.what == speed.RATE]
    names, medians = [comparison.name for comparison, _ in drawn], []
    for row, (comparison, limit) in enumerate(reversed(drawn)):
        values = speed.ratios(limit, result.pairs.get(comparison, ()))
        axes.plot(values, [row] * len(values), "o", color=BLUE, alpha=0.35, markersize=5, markeredgewidth=0)
        axes.plot([limit.value] * 2, [row - 0.3, row + 0.3], color=GREY, linestyle="--", linewidth=1.4)
        axes.text(limit.value, row + 0.34, str(limit), color=GREY, ha="center", va="bottom", fontsize=8)
        if values:
            found = paired_median(values)
            axes.plot([found.low, found.high], [row - 0.16] * 2, color=VERMILION, linewidth=2.4, solid_capstyle="butt")
            axes.plot([found.median], [row - 0.16], "|", color=VERMILION, markersize=12, markeredgewidth=2.4)
            medians.append(f"{comparison.name} {found.median:.1f} × ({found.low:.2g} to {found.high:.2g})")
    axes.set_yticks(range(len(names)), reversed(names))
    axes.set_ylim(-0.5, len(names) - 0.2)
    axes.set_xlim(0.25, 32)
    axes.set_xticks([0.25, 0.5, 1, 2, 4, 8, 16, 32], ["0.25", "0.5", "1", "2", "4", "8", "16", "32"])
    axes.minorticks_off()
    threshold = ", ".join(f"{limit.value:g} ×" for _, limit in drawn)
    alt = f"{title} Medians with their intervals: {', '.join(reversed(medians)) or 'none'}; asked are {threshold}."
    return Plot(figure, title, tuple(names), axes_labels, threshold, alt)
