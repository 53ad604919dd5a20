"""Renders the history as one self-contained page: trends as pictures, and the runs as a table."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from runbook.evidence.archive import Entry
from runbook.report.chart import chart_of
from runbook.report.history import deciding, verdict_text
from runbook.report.measured import measured_text
from runbook.report.rendering import fill
from runbook.report.trends import Series, number, series_of, split, told

# More lines would hide the trends; all of them are in the exports.
MOST_RUNS = 200


def history_page(entries: Sequence[Entry]) -> str:
    """Render a page.

    Args:
        entries: of runs, at least one, the oldest first.
    """
    changed, steady = split(series_of(entries))
    return fill(
        "history.html.j2",
        entries=entries[::-1][:MOST_RUNS],
        count=len(entries),
        changed=_by_name(changed),
        steady=_by_name(steady),
        sentence=_sentence(entries, changed, steady),
        chart=chart_of,
        told=told,
        deciding=_deciding,
        number=number,
        verdict_text=verdict_text,
    )


def _sentence(entries: Sequence[Entry], changed: Sequence[Series], steady: Sequence[Series]) -> str:
    verdicts = [verdict_text(entry.content) for entry in entries]
    counts = ", ".join(f"{verdicts.count(verdict):,} {verdict}" for verdict in dict.fromkeys(sorted(verdicts)))
    days = [entry.content["started_utc"][:10] for entry in entries]
    runs = f"{len(entries):,} runs" if len(entries) > 1 else "1 run"
    span = f"from {min(days)} to {max(days)}" if min(days) < max(days) else f"on {days[0]}"
    return (
        f"{runs} {span}: {counts}. Of {len(changed) + len(steady):,} numbers held against a threshold, "
        f"{len(changed):,} changed from run to run."
    )


def _by_name(series: Sequence[Series]) -> list[tuple[str, list[Series]]]:
    """Put together what belongs to a notebook or drill on one target."""

    def name(each: Series) -> str:
        return f"{each.name} on {each.target}" if each.target else each.name

    return [(key, list(group)) for key, group in groupby(sorted(series, key=name), key=name)]


def _deciding(content: Mapping[str, Any]) -> str:
    measurement = deciding(content)
    return measured_text([measurement]) if measurement else ""
