"""Tables of findings, accounts and percentiles, for notebooks."""

import statistics
from collections.abc import Iterable, Sequence

from runbook.drills import aof_damage, instrument, lost_replies, persistence, power_loss, reconnection_judging, recorder, speed
from runbook.drills.damage import claims
from runbook.drills.persistence_faults import FAULTS
from runbook.drills.persistence_judging import recoveries_by_outage_s
from runbook.evidence import Finding
from runbook.report.display import Measured, Table
from runbook.report.measured import MISSING, measured_text
from runbook.targets.compose import Step


def findings_table(findings: Iterable[Finding], title: str = "What was found") -> Table:
    """Show each claim with its verdict and the numbers that decided it."""
    rows = [
        (
            finding.criterion,
            finding.claim,
            f"{finding.verdict} (known)" if finding.is_known else str(finding.verdict),
            Measured(measured_text(finding.measured)),
            Measured(f"{finding.reason}; known of the server: {finding.known}" if finding.is_known else finding.reason),
        )
        for finding in findings
    ]
    return Table(title, ("criterion", "claim", "verdict", "measured", "why not"), rows)


def account_table(result: persistence.Result) -> Table:
    """Show what became of every append."""
    found = result.account
    rows = [
        ("attempted", found.attempted, ""),
        ("acknowledged", found.acknowledged, "answered with OK"),
        ("certainly not applied", found.failed, "the client said so"),
        ("outcome unknown", found.unknown, f"sent, and the reply was lost: {found.unknown_present} of them are there"),
        ("lost", len(found.lost), "acknowledged, and not there"),
        ("duplicated", len(found.duplicated), "there more than once"),
        ("phantom", len(found.phantom), "there, and never sent"),
        ("out of order", len(found.out_of_order), "behind a later one of the same writer"),
    ]
    title = f"Every append around {FAULTS[result.fault].cause}, accounted for"
    return Table(title, ("appends", "count", "meaning"), [(name, Measured(f"{count:,}"), Measured(note)) for name, count, note in rows])


def outages_table(result: persistence.Result) -> Table:
    """Show each outage: how long it was, what it took of the ledger, and how soon all writers were back."""
    rows: list[Sequence[str | Measured]] = []
    found, recovered = result.account, recoveries_by_outage_s(result.writes, result.outages)
    taken = zip(result.outages, found.lost_per_cut, found.windows_s, recovered, strict=True)
    for number, (outage, lost, window_s, took_s) in enumerate(taken, 1):
        back = f"{max(took_s.values()) * 1e3:.0f}" if took_s else MISSING
        cells = (f"{outage.duration_s:.2f}", f"{lost:,}", f"{window_s:.2f}", back)
        rows.append((str(number), *map(Measured, cells)))
    columns = ("outage", "server down, s", "acknowledged writes lost", "age of the oldest, s", "all writers back after, ms")
    return Table(f"What each outage by {FAULTS[result.fault].cause} took", columns, rows)


def cuts_table(result: power_loss.Result) -> Table:
    """Show each power cut: what it took, and what the model says that it takes."""
    rows: list[Sequence[str | Measured]] = []
    for policy, cuts in result.cuts.items():
        for number, cut in enumerate(cuts, 1):
            found = cut.account
            modelled = MISSING if cut.model_lost is None else f"{cut.model_lost:,}"
            cells = (f"{found.acknowledged:,}", f"{len(found.lost):,}", f"{found.lost_window_s:.2f}", modelled)
            rows.append((f"{policy} {number}", *map(Measured, cells), Measured(cut.outage.unhealed or "by itself")))
    columns = ("appendfsync, cut", "acknowledged", "lost", "window, s", "lost by the model", "the server came back")
    return Table("What each power cut took", columns, rows)


def damage_table(result: aof_damage.Result) -> Table:
    """Show for each kind of damage what the server did with it, and who noticed."""
    told = next(finding for finding in result.findings if finding.claim == claims.TOLD)
    rows = [(str(row.name), Measured(f"{row.samples}"), Measured(str(row.value))) for row in told.measured[1:]]
    return Table("Who noticed the damage", ("damage", "copies", "what the server did, and who accused it"), rows)


def returns_table(result: reconnection_judging.Result) -> Table:
    """Show each outage: how long it was, how often the client tried, and how soon it was back."""
    rows: list[Sequence[str | Measured]] = []
    for number, done in enumerate(result.returns, 1):
        duration_s = done.outage.duration_s
        cells = (
            f"{duration_s:.2f}",
            f"{len(done.attempts)}",
            f"{len(done.attempts) / duration_s:.1f}",
            f"{done.recovery_ms:.1f}" if done.first_success_ns else MISSING,
            f"{result.recovery_excess_ms(done):.1f}" if done.first_success_ns else MISSING,
        )
        rows.append((str(number), *(Measured(cell) for cell in cells)))
    columns = (
        "outage",
        "server down, s",
        "connection attempts",
        "a second",
        "first success after its return, ms",
        "beyond the control, ms",
    )
    return Table(f"Outages, with {result.callers + 2} callers at work", columns, rows)


def lost_replies_table(result: lost_replies.Result) -> Table:
    """Show what each client made of increments whose reply was lost."""
    rows: list[Sequence[str | Measured]] = []
    for client, tally in result.tallies.items():
        numbers = (tally.asked, tally.lost, tally.acknowledged, tally.unknown, tally.counted, tally.counted - tally.asked)
        rows.append((client, *(Measured(f"{number:,}") for number in numbers)))
    columns = ("client", "increments", "replies lost", "acknowledged", "outcome unknown", "counter", "applied too often")
    return Table("Increments that the server applied, and whose reply was lost", columns, rows)


def steps_table(steps: Sequence[Step]) -> Table:
    """Show what was done to a project of Compose, how often, and how long it took."""
    rows: list[Sequence[str | Measured]] = []
    for name in dict.fromkeys(step.name for step in steps):
        took_s = [step.took_s for step in steps if step.name == name]
        rows.append((name, str(len(took_s)), *(Measured(f"{value:.2f}") for value in (statistics.median(took_s), max(took_s)))))
    return Table("What was done, and how long it took", ("step", "times", "median, s", "longest, s"), rows)


def speed_table(result: speed.Result) -> Table:
    """Show each client: medians over its slices."""
    rows: list[Sequence[str | Measured]] = []
    for name, slices in result.slices.items():
        work, client = name.split("/")
        cells = (
            *(
                f"{statistics.median(rates):,.0f}"
                for rates in zip(*((each.own_rate_per_s, each.rate_per_s) for each in slices), strict=True)
            ),
            *(_median_ms([getattr(each, field) for each in slices]) for field in ("p50_us", "p99_us", "longest_us")),
            f"{sum(each.errors for each in slices)}",
        )
        rows.append((work, Measured(client), *(Measured(cell) for cell in cells)))
    columns = ("work", "client", "calls/s", "by the clock", "p50, ms", "p99, ms", "longest, ms", "failed")
    return Table(f"A closed loop, medians of the slices; {result.placement}", columns, rows)


def instrument_table(result: instrument.Result) -> Table:
    """Show what was measured of the load engine."""
    rows = [(row.what, row.who, Measured(row.value), row.limit) for row in result.rows]
    return Table(f"The load engine; {result.placement}", ("what", "who", "measured", "limit"), rows)


def recorder_table(result: recorder.Result) -> Table:
    """Show what was measured of the journal and of its account."""
    rates = [(f"{result.records / seconds:,.0f}" if seconds else MISSING) for seconds in (result.write_s, result.check_s)]
    rows = [
        ("recorded", f"{rates[0]} records/s", ""),
        ("read back and accounted for", f"{rates[1]} records/s", ""),
        ("on disk", f"{result.size_mib:,.0f} MiB", ""),
        ("most memory held", f"{result.peak_mib:,.0f} MiB", f"< {recorder.MOST_MEMORY_MIB:g} MiB"),
    ]
    columns = ("what", "measured", "limit")
    return Table(f"The recorder, over {result.records:,} records", columns, [(what, Measured(value), limit) for what, value, limit in rows])


def _median_ms(values_us: Sequence[float | None]) -> str:
    known = [value for value in values_us if value is not None]
    return f"{statistics.median(known) / 1e3:.3f}" if known else MISSING
