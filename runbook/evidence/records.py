"""Turns a finished run folder into entries of the archive: what was found, when, on which target, and the digest of all its evidence."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from runbook.evidence.archive import Archive, Entry
from runbook.evidence.store import MANIFEST, RESULT, EvidenceError, RunFolder

# The kind of such an entry.
RUN = "run"
# Under this name a verification is told, beside the notebooks and drills with names of their own.
VERIFY = "verify"
# How the reason begins for which a run is broken that its user has ended.
_INTERRUPTED = "it was interrupted"
# What the name of a run folder begins with.
_STAMP = re.compile(r"(\d{8}T\d{6}Z)-")


def record(path: Path, archive: Archive) -> list[Entry]:
    """Append what a run found: one entry for a notebook or a verification, one for each drill; nothing if that was done before.

    Args:
        path: of the run folder, with its manifest.
        archive: of the folder in which it lies.

    Raises:
        EvidenceError: it holds no result or no manifest, or the archive can't be written.
    """
    folder = RunFolder(path)
    try:
        contents = contents_of(folder.read_json(RESULT), manifest_sha256(path))
    except (KeyError, TypeError, ValueError) as error:
        raise EvidenceError(f"{path / RESULT} is no result of this version ({error}): run it again") from error
    return archive.append_once(RUN, folder.name, contents)


def manifest_sha256(path: Path) -> str:
    """Return the digest of a run folder's manifest, and so of all evidence in it.

    Raises:
        EvidenceError: there is no manifest.
    """
    try:
        return hashlib.sha256((path / MANIFEST).read_bytes()).hexdigest()
    except OSError as error:
        raise EvidenceError(f"{path} holds no {MANIFEST}: is it the folder of a finished run?") from error


def contents_of(result: Mapping[str, Any], manifest_digest: str) -> list[dict[str, Any]]:
    """Say what the archive keeps of a result.

    Args:
        result: of a notebook, a verification or a run of drills.
        manifest_digest: SHA-256 of the run's manifest.
    """
    parts = {"notebook": _notebook, "verification": _verification, "drills": _drills}[result["kind"]]
    common = {
        "target": result["target"] or result.get("parameters", {}).get("target"),
        "engine": result["engine"],
        "host": result["host"],
        "manifest_sha256": manifest_digest,
    }
    return [{"kind": result["kind"].removesuffix("s"), **part, **common} for part in parts(result)]


def _notebook(result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    began = datetime.fromisoformat(result["started_utc"])
    yield _part(result["notebook"], result, began, result["duration_s"], result["findings"] if result["verdict"] else ())


def _drills(result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    began = datetime.fromisoformat(result["started_utc"])
    for drill in result["drills"]:  # one after the other
        yield _part(drill["name"], drill, began, drill["duration_s"], drill["findings"] if drill["verdict"] else ())
        began += timedelta(seconds=drill["duration_s"])


def _verification(result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    finished = datetime.fromisoformat(result["finished_utc"])
    stamps = [stamp[1] for run in result["runs"] if (stamp := _STAMP.match(run["run"]))]
    began = min([datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC) for stamp in stamps], default=finished)
    interrupted = any(run["broken"].startswith(_INTERRUPTED) for run in result["runs"])
    yield {**_part(VERIFY, result, began, (finished - began).total_seconds(), ()), "interrupted": interrupted}


def _part(name: str, part: Mapping[str, Any], began: datetime, duration_s: float, findings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "name": name,
        "verdict": part["verdict"],
        "broken": part["broken"],
        "interrupted": part["broken"].startswith(_INTERRUPTED),
        "started_utc": began.isoformat(timespec="seconds"),
        "finished_utc": (began + timedelta(seconds=duration_s)).isoformat(timespec="seconds"),
        "duration_s": duration_s,
        "measured": [
            {**{key: finding.get(key, "") for key in ("criterion", "claim", "verdict", "known")}, **measurement}
            for finding in findings
            for measurement in finding["measured"]
        ],
    }
