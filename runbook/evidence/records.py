"""Turns a finished run folder into entries of the archive: what was found, when, on which target, and the digest of all its evidence."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from runbook.evidence.archive import Archive, Entry
from runbook.evidence.store import MANIFEST, RESULT, EvidenceError, RunFolder

# The kind of such an entry.
RUN = "run"
# Under this name a verification is told, beside the notebooks and drills with names of their own.
VERIFY = "verify"


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


def members_of(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return what a verification sums up: a line for each notebook, and one for the run of the drills; each names its `run`.

    Args:
        result: of the verification.
    """
    return [*result["runs"], *([result["drills"]] if result.get("drills") else [])]


def contents_of(result: Mapping[str, Any], manifest_digest: str) -> list[dict[str, Any]]:
    """Say what the archive keeps of a result.

    Args:
        result: of a notebook, a verification or a run of drills.
        manifest_digest: SHA-256 of the run's manifest.
    """
    parts = {"notebook": _notebook, "verification": _verification, "drills": _drills}[result["kind"]]
    common = {
        "target": result["target"] or result.get("parameters", {}).get("target"),
        "parameters": dict(result.get("parameters", {})),
        "engine": result["engine"],
        "host": result["host"],
        "manifest_sha256": manifest_digest,
    }
    return [{"kind": result["kind"].removesuffix("s"), **common, **part} for part in parts(result)]


def _notebook(result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    interrupted = result.get("interrupted", False)
    yield _part(
        result["notebook"],
        result,
        datetime.fromisoformat(result["started_utc"]),
        interrupted,
        result["findings"] if result["verdict"] else (),
    )


def _drills(result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    began, last = datetime.fromisoformat(result["started_utc"]), len(result["drills"])
    for number, drill in enumerate(result["drills"], 1):  # one after the other, and none behind one that was interrupted
        interrupted = result["interrupted"] and number == last
        told = {"parameters": {**result["parameters"], "times": drill["times"]}}
        yield {**_part(drill["name"], drill, began, interrupted, drill["findings"] if drill["verdict"] else ()), **told}
        began += timedelta(seconds=drill["duration_s"])


def _verification(result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    # One of an older version only says when it ended.
    timed = {"started_utc": result["finished_utc"], "duration_s": 0.0, "interrupted": False, **result}
    yield _part(VERIFY, timed, datetime.fromisoformat(timed["started_utc"]), timed["interrupted"], ())


def _part(name: str, part: Mapping[str, Any], began: datetime, interrupted: bool, findings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "name": name,
        "verdict": part["verdict"],
        "broken": part["broken"],
        "interrupted": interrupted,
        "started_utc": began.isoformat(timespec="seconds"),
        "finished_utc": (began + timedelta(seconds=part["duration_s"])).isoformat(timespec="seconds"),
        "duration_s": part["duration_s"],
        "measured": [
            {**{key: finding.get(key, "") for key in ("criterion", "claim", "verdict", "known")}, **measurement}
            for finding in findings
            for measurement in finding["measured"]
        ],
    }
