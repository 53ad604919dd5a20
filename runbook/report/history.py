"""The entries of the archive as a table for a terminal, as CSV with a row for each measurement, and as JSON."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from runbook.evidence.archive import Entry
from runbook.evidence.verdict import CONTROL, Measurement, is_known
from runbook.report.measured import MISSING, measured_text

BROKEN = "BROKEN"

_OF_RUN = ("kind", "name", "target", "verdict", "broken", "interrupted", "started_utc", "finished_utc", "duration_s", "manifest_sha256")
OF_ENGINE = ("product", "version", "found_by")
OF_HOST = ("system", "kernel", "machine", "cpus")
_OF_FINDING = ("criterion", "claim", "verdict", "known")
_OF_MEASUREMENT = tuple(field.name for field in fields(Measurement))
COLUMNS = (
    *("entry", "recorded_utc", "run", *_OF_RUN),
    *(f"engine_{name}" for name in OF_ENGINE),
    *(f"host_{name}" for name in OF_HOST),
    *("criterion", "claim", "claim_verdict", "known", "measured", *_OF_MEASUREMENT[1:]),
)


def as_text(entries: Sequence[Entry]) -> str:
    """Write a line for each run, the newest last: when, what, where, verdict, how long, and the number that decided it."""
    lines = [("when, UTC", "name", "target", "verdict", "took", "decided by"), *map(_line, entries)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def as_csv(entries: Sequence[Entry]) -> str:
    """Write a row for each measurement of each run; a run without any has one row, with nothing in the columns of a measurement."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for entry in entries:
        content = entry.content
        of_run = [entry.number, entry.recorded_utc, entry.run, *(content[name] for name in _OF_RUN)]
        of_run += [(content["engine"] or {}).get(name) for name in OF_ENGINE]
        of_run += [(content["host"] or {}).get(name) for name in OF_HOST]
        for measured in content["measured"] or [{}]:
            writer.writerow([*of_run, *(measured.get(name) for name in (*_OF_FINDING, *_OF_MEASUREMENT))])
    return text.getvalue()


def as_json(entries: Sequence[Entry]) -> str:
    """Write the entries as a list, as the archive keeps them."""
    return json.dumps([asdict(entry) for entry in entries], indent=1, ensure_ascii=False) + "\n"


def verdict_text(content: Mapping[str, Any]) -> str:
    """Return the verdict of a run, or that it is broken."""
    return content["verdict"] or BROKEN


def deciding(content: Mapping[str, Any]) -> Measurement | None:
    """Return the number that decided a run: the first that was held against a limit, of the first claim with the run's verdict.

    Claims that a check makes of itself come last, and a documented failure of the server itself decides nothing.
    """
    found = [each for each in content["measured"] if each["verdict"] == content["verdict"] and not is_known(each)]
    ordered = sorted(found, key=lambda each: (each["claim"].startswith(CONTROL), not each["threshold"]))
    return Measurement(**{name: ordered[0][name] for name in _OF_MEASUREMENT}) if ordered else None


def _line(entry: Entry) -> tuple[str, ...]:
    content = entry.content
    decided = deciding(content)
    why = content["broken"] if content["broken"] else measured_text([decided]) if decided else ""
    when = content["started_utc"][:16].replace("T", " ")
    return when, content["name"], content["target"] or MISSING, verdict_text(content), _took(content["duration_s"]), why


def _took(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} min"
