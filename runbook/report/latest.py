"""The folder `runs/latest`: the scorecard, and the newest verification under names that never change. A view, and no evidence."""

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from runbook.evidence.acceptance import ACCEPTANCE
from runbook.evidence.archive import Archive, Entry
from runbook.evidence.decision import Decision, decision_of
from runbook.evidence.records import RUN
from runbook.evidence.store import JUNIT, METRICS, PAGE, RESULT, SUMMARY, EvidenceError, RunFolder, write_atomically
from runbook.report.history import verdict_text
from runbook.report.rendering import fill
from runbook.report.scorecard import FRESH_DAYS, RECENT, Row, Scorecard, age_text, finished, scorecard_of
from runbook.report.sentence import sentence

LATEST = "latest"
# What is copied of the newest verification, and under which name.
COPIES = {PAGE: "acceptance.html", JUNIT: JUNIT, SUMMARY: SUMMARY, METRICS: METRICS, RESULT: RESULT}


def write_latest(runs: Path, archive: Archive, catalogue: Mapping[str, Sequence[str]]) -> Scorecard:
    """Write the scorecard as of now, and copy the newest verification beside it.

    Args:
        runs: folder of the evidence.
        archive: of it.
        catalogue: names of all that there is, by kind: `notebook` and `drill`.

    Raises:
        EvidenceError: the archive is damaged, or the folder can't be written.
    """
    try:
        with _held(runs / LATEST) as folder:
            entries = archive.entries()
            recorded = [entry for entry in entries if entry.kind == RUN]
            card = scorecard_of(recorded, catalogue, datetime.now(UTC))
            verification = newest_verification(runs, recorded)
            for name, copy in COPIES.items():
                if verification and (verification / name).exists():
                    write_atomically(folder / copy, (verification / name).read_bytes())
                else:  # it would be of an older one
                    (folder / copy).unlink(missing_ok=True)
            acceptance = next((entry for entry in reversed(entries) if entry.kind == ACCEPTANCE), None)
            write_atomically(folder / PAGE, _page(card, verification, acceptance).encode())
    except OSError as error:
        raise EvidenceError(f"{runs / LATEST} can't be written ({error.strerror}): move away what is in its place") from error
    return card


def newest_verification(runs: Path, entries: Sequence[Entry]) -> Path | None:
    """Return the folder of the newest verification whose folder is still there; None if there is none.

    Args:
        runs: folder of the evidence.
        entries: of runs, the oldest first.
    """
    whole = (entry for entry in entries if entry.content["kind"] == "verification" and not entry.content["interrupted"])
    verifications = sorted(whole, key=finished)
    folders = (runs / entry.run for entry in reversed(verifications))
    return next((folder for folder in folders if (folder / RESULT).exists()), None)


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[Path]:
    """Make the folder, and keep others from writing into it, so that the newest of them writes last."""
    if folder.is_symlink():  # as it was before there was a scorecard
        folder.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield folder
    finally:
        os.close(descriptor)  # which lets go of the lock


def _page(card: Scorecard, verification: Path | None, acceptance: Entry | None) -> str:
    return fill(
        "scorecard.html.j2",
        card=card,
        verified=_verified(verification) if verification else None,
        acceptance=acceptance,
        fresh_days=FRESH_DAYS,
        recent=RECENT,
        address=_address,
        age=lambda then: age_text(then, card.now),
        finished=finished,
        verdict_text=verdict_text,
        when=lambda moment: f"{moment:%Y-%m-%d %H:%M}",
    )


def _verified(folder: Path) -> dict[str, str]:
    try:
        result = RunFolder(folder).read_json(RESULT)
        return {"run": folder.name, "sentence": sentence(result), "look": decision_of(result)}
    except (EvidenceError, KeyError, TypeError):  # of an older version, or altered: no reason to have no scorecard
        return {"run": folder.name, "sentence": f"What {folder.name} found can't be read any more.", "look": Decision.BROKEN}


def _address(row: Row) -> str:
    """Return where the newest run is told, seen from the scorecard."""
    assert row.last
    return f"../{quote(row.last.run)}/{PAGE}" + (f"#{quote(row.name)}" if row.kind == "drill" else "")
