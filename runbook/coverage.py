"""How much of the code the tests cover, as `make test` measured it: what the criterion D-1 is decided by.

Run as `python -m runbook.coverage REPORT` with the JSON report of coverage.py. It notes the digest of the sources beside the figures, so
that a later verification can tell whether these are still the sources that were tested.
"""

import hashlib
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runbook.evidence.store import write_atomically
from runbook.evidence.verdict import Finding, Measurement, Verdict

ROOT = Path(__file__).resolve().parent.parent
COVERAGE = "coverage.json"
PACKAGES = ("cachelib", "runbook")
CLAIM = "The tests cover more than 80 % of the code"
LEAST_PERCENT = 80.0


def note(report: Path, root: Path = ROOT) -> None:
    """Keep of a report of coverage.py what decides, with the digest of the sources, in the repository's `coverage.json`.

    Args:
        report: written by `coverage json`.
        root: of the repository.
    """
    totals = json.loads(report.read_text(encoding="utf-8"))["totals"]
    noted = {
        "percent_covered": round(totals["percent_covered"], 2),
        "statements": totals["num_statements"],
        "branches": totals.get("num_branches", 0),
        "sources_sha256": sources_digest(root),
        "measured_utc": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_atomically(root / COVERAGE, json.dumps(noted, indent=1).encode() + b"\n")


def coverage_finding(root: Path = ROOT) -> Finding | None:
    """Judge what the last `make test` noted; None if it noted nothing, or if the code was changed since.

    Args:
        root: of the repository.
    """
    try:
        noted: dict[str, Any] = json.loads((root / COVERAGE).read_text(encoding="utf-8"))
        percent = float(noted["percent_covered"])
        measured = (
            Measurement("covered", percent, "%", int(noted["statements"]), f"> {LEAST_PERCENT:g} %"),
            Measurement("measured", str(noted["measured_utc"])),
        )
        if noted["sources_sha256"] != sources_digest(root):
            return None
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        return Finding("D-1", CLAIM, Verdict.INCONCLUSIVE, f"{COVERAGE} can't be read ({error}): run `make test` again")
    if percent <= LEAST_PERCENT:
        return Finding("D-1", CLAIM, Verdict.FAIL, f"{percent:g} % of the code is covered", measured)
    return Finding("D-1", CLAIM, Verdict.PASS, "", measured)


def sources_digest(root: Path) -> str:
    """Return the SHA-256 over the names and the contents of all sources that are measured."""
    digest = hashlib.sha256()
    for path in sorted(path for package in PACKAGES for path in (root / package).rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()


if __name__ == "__main__":
    note(Path(sys.argv[1]))
