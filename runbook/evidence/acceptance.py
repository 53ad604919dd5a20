"""Who accepted which verification, as the archive holds it; nothing else can be accepted."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from runbook.evidence.archive import Archive, Entry
from runbook.evidence.store import RESULT, EvidenceError, RunFolder

ACCEPTANCE = "acceptance"


class Accepted(NamedTuple):
    """An accepted verification.

    Attributes:
        run: name of its folder.
        by: who accepted it.
        accepted_utc: when, in ISO format.
        despite: why, although something spoke against it; empty if nothing did.
    """

    run: str
    by: str
    accepted_utc: str
    despite: str = ""


def last_accepted(archive: Archive, runs: Path, target: str) -> Accepted | None:
    """Find the verification that was accepted last; an older one is no stand-in where its folder is gone.

    Args:
        archive: of the runs.
        runs: the folder in which they lie.
        target: what was verified, such as `embedded`.

    Returns:
        None if none was accepted on this target, or its folder is gone.

    Raises:
        EvidenceError: the archive is damaged, or was altered.
    """
    entry = newest_acceptance(archive, target)
    if entry is None or not (runs / entry.run).is_dir():
        return None
    return Accepted(entry.run, entry.content["by"], entry.recorded_utc, entry.content["despite"])


def newest_acceptance(archive: Archive, target: str) -> Entry | None:
    """Return the entry of the newest acceptance on this target, None if there is none.

    Raises:
        EvidenceError: the archive is damaged, or was altered.
    """
    return next((entry for entry in reversed(archive.entries(ACCEPTANCE)) if entry.content["target"] == target), None)


def accept(archive: Archive, run: str, by: str, manifest_sha256: str, verdict: str, sentence: str, target: str, despite: str = "") -> Entry:
    """Record that somebody accepted a verification.

    Args:
        archive: of the runs.
        run: name of its folder.
        by: who accepts it.
        manifest_sha256: digest of its manifest, which covers all of its evidence.
        verdict: what it came to.
        sentence: what sums it up.
        target: what was verified.
        despite: why it is accepted although something speaks against it; empty if nothing does.

    Returns:
        The entry; the newest of its target where it says the same already.

    Raises:
        EvidenceError: the archive is damaged, was altered, or can't be written.
    """
    newest = newest_acceptance(archive, target)
    if newest and (newest.run, *(newest.content[key] for key in ("by", "manifest_sha256", "despite"))) == (
        run,
        by,
        manifest_sha256,
        despite,
    ):
        return newest
    content = {"by": by, "manifest_sha256": manifest_sha256, "verdict": verdict, "sentence": sentence, "target": target, "despite": despite}
    return archive.append(ACCEPTANCE, run, content)


def read_verification(path: Path) -> Mapping[str, Any]:
    """Read the result of a verification.

    Raises:
        EvidenceError: it is that of something else, missing or damaged.
    """
    result = RunFolder(path).read_json(RESULT)
    if not isinstance(result, dict) or result.get("kind") != "verification":
        raise EvidenceError(f"{path} is no verification, which `runbook verify` makes: name one of those")
    return result
