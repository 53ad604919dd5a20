"""Tables of latencies, for notebooks."""

from collections.abc import Mapping, Sequence

from runbook.drills import attribution, latency, sweep
from runbook.drills.sampling import LOOKS, MOST_OVER, THRESHOLD_MS
from runbook.load.estimates import JUDGED, SHOWN, estimated
from runbook.load.excess import excess_over
from runbook.load.histogram import Histogram
from runbook.load.offered import Offered
from runbook.load.quantile import estimate
from runbook.load.recording import SECOND_NS, Recording
from runbook.report.display import Measured, Table
from runbook.report.measured import MISSING


def shares_table(result: latency.Result) -> Table:
    """Show side by side what a caller on this host saw, what the control saw, and what is left for the server."""
    rows: list[Sequence[str | Measured]] = []
    stolen = Measured(MISSING if result.stolen is None else f"{100 * result.stolen:.1f}")
    for name, operation in (*((latency.BARE, operation) for operation in latency.OPERATIONS), (latency.CLIENT, None)):
        made = result.offered[name].recording if name in result.offered else Recording(SECOND_NS)
        excess = excess_over(made, THRESHOLD_MS, operation, looks=len(LOOKS))
        seen = [made.histogram(operation=operation), made.control.histogram(operation=operation) if made.control else Histogram([])]
        percentiles = [
            Measured(f"{cell.value:.3f}" if (cell := estimate(samples, p)) else MISSING) for samples in seen for p in (0.5, JUDGED)
        ]
        shares = (excess.server, excess.control, excess.value) if excess else (None, None, None)
        interval = f"{100 * excess.low:.2f} to {100 * excess.high:.2f}" if excess else MISSING
        told = [Measured(MISSING if share is None else f"{100 * share:.2f}") for share in shares]
        rows.append((operation or f"all, through {name}", *percentiles, *told, Measured(interval), stolen))
    over = f"over {THRESHOLD_MS:g} ms, %"
    columns = (
        "operation",
        "a caller saw: p50, ms",
        "p99, ms",
        "the control saw: p50, ms",
        "p99, ms",
        f"server {over}",
        f"control {over}",
        f"beyond the control, % (limit {100 * MOST_OVER:g})",
        "99 % interval",
        "hypervisor took, % of the CPU",
    )
    return Table("What a caller saw, and what the server's share of it is", columns, rows)


def percentile_table(offered: Mapping[str, Offered]) -> Table:
    """Show percentiles of each load and operation; one with fewer than ten samples beyond it stays blank."""
    rows: list[Sequence[str | Measured]] = []
    for name, load in offered.items():
        for operation in (*load.recording.operations, None):
            samples = load.histogram(operation)
            judged = estimated(load, operation, JUDGED)
            values = [Measured(f"{cell.value:.3f}" if (cell := estimate(samples, p)) else MISSING) for p in SHOWN]
            interval = Measured(f"{judged.low:.3f} to {judged.high:.3f}" if judged else MISSING)
            longest = Measured(f"{samples[-1]:.3f}" if len(samples) else MISSING)
            failed = Measured(f"{load.recording.failed(operation).total()}")
            rows.append((name, operation or "all", Measured(f"{len(samples):,}"), *values, interval, longest, failed))
    shown = (f"p{p * 100:g}, ms" for p in SHOWN)
    columns = ("load", "operation", "samples", *shown, "99 % confidence of p99", "maximum, ms", "failed")
    return Table("Latency from the intended start", columns, rows)


def loads_table(offered: Mapping[str, Offered]) -> Table:
    """Show each load as a whole: how it was offered, what was answered, and how long that took."""
    rows: list[Sequence[str | Measured]] = []
    for name, load in offered.items():
        description, samples = load.description, load.histogram()
        rate = description["rate_per_s"]
        how = f"open loop, {rate:g} calls/s, {description['arrivals']}" if rate else "closed loop: capacity"
        values = [Measured(f"{cell.value:.3f}" if (cell := estimate(samples, p)) else MISSING) for p in (0.5, JUDGED)]
        answered, failed = Measured(f"{load.recording.rate_per_s:,.0f}"), Measured(f"{load.recording.failed().total()}")
        where = Measured(f"{description['waiting']}; {description['placement']}")
        rows.append((name, how, str(description["connections"]), where, answered, *values, failed))
    return Table("Loads", ("load", "how", "connections", "sender", "answered a second", "p50, ms", "p99, ms", "failed"), rows)


def layers_table(result: latency.Result) -> Table:
    """Show where the time of a call through the client went; blank where the host left too few calls."""
    rows: list[Sequence[str | Measured]] = []
    found = {(layer.operation, layer.p): (layer.whole_ms, *layer.parts_ms, layer.rest_ms) for layer in result.layers}
    for operation in latency.OPERATIONS:
        for p in (0.5, JUDGED):
            times_ms = found.get((operation, p), (None,) * (len(attribution.PARTS) + 2))
            rows.append((f"{operation} p{p * 100:g}", *(Measured(MISSING if ms is None else f"{ms:.3f}") for ms in times_ms)))
    return Table("Where the time went, in ms", ("percentile", "whole", *attribution.PARTS, attribution.REST), rows)


def sweep_table(result: sweep.Result) -> Table:
    """Show what the sweep found; how many rates were tried depends on the host."""
    best, bend = result.best, result.knee
    beyond = next((step for step in result.steps if not step.keeps_limit), None)
    found = {
        "rates tried": f"{len(result.steps)}",
        "highest that keeps the limit, calls/s": f"{best.rate_per_s:,.0f}" if best else MISSING,
        "p99 there, ms": f"{best.p99_ms:.3f}" if best and best.p99_ms is not None else MISSING,
        "knee, calls/s": f"{bend.rate_per_s:,.0f}" if bend else "not reached",
        "what could do no more": sweep.limiter(beyond),
        "placement": result.placement,
    }
    return Table("The sweep", ("found", "value"), [(name, Measured(text)) for name, text in found.items()])
