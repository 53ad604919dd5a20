"""Holds a run folder against its manifest, and the manifest against everything that noted its digest: what was altered since?

The digest of a run is the SHA-256 of its manifest. A verification's result holds the digests of its runs, so that its own covers all of
them. Whoever can write here can write a fitting manifest too, and the archive: only a digest that was noted elsewhere tells then.
"""

import hashlib
import json
import os
import re
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runbook.evidence.acceptance import ACCEPTANCE
from runbook.evidence.archive import Archive, Entry
from runbook.evidence.records import RUN, members_of
from runbook.evidence.store import MANIFEST, RESULT, EvidenceError

_DIGEST = re.compile("[0-9a-f]{64}")
# A link that took the file's place in between is not followed, and a pipe keeps nobody waiting.
_CAREFULLY = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(slots=True)
class Inspection:
    """What became of a run's evidence.

    Attributes:
        run: name of the run folder.
        digest: SHA-256 of its manifest; empty if there is none.
        members: names of the runs that it sums up, which were checked too.
        files: how many files were read.
        altered: what was altered, missing or added, a sentence each.
        unknown: what could not be checked, a sentence each.
        recorded: entries of the archive that tell of the run.
        accepted: entries of the archive that accept it.
    """

    run: str
    digest: str = ""
    members: list[str] = field(default_factory=list)
    files: int = 0
    altered: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    recorded: list[Entry] = field(default_factory=list)
    accepted: list[Entry] = field(default_factory=list)

    def raise_if_altered(self) -> None:
        """Raise an `EvidenceError` that names what was altered, if anything was."""
        if self.altered:
            raise EvidenceError(
                f"the evidence of {self.run} was altered: {'; '.join(self.altered)}. Bring back what was there, or run it again"
            )


def inspect(path: Path, archive: Archive, noted: str = "", leave_out: Collection[str] = ()) -> Inspection:
    """Check a run's evidence, and that of every run that it sums up.

    Args:
        path: of the run folder; those of a verification's runs lie beside it.
        archive: of the runs.
        noted: digest that somebody noted elsewhere; empty if none.
        leave_out: names of files that may differ, since they can be made from the others.

    Raises:
        EvidenceError: something can't be read.
    """
    path = path.resolve()
    found = Inspection(path.name)
    try:
        entries = archive.entries()
    except EvidenceError as error:
        entries = []
        found.altered.append(str(error))
    try:
        found.digest = _check_folder(path, found, leave_out)
        _check_digest(found, path.name, found.digest, noted, "that was noted")
        _check_entries(found, path.name, found.digest, entries)
        for member, digest in _members(path, found):
            if (path.parent / member).is_symlink() or not (path.parent / member).is_dir():
                found.altered.append(f"{member}, which {path.name} sums up, is missing beside it: its digest was {digest or 'not noted'}")
                continue
            found.members.append(member)
            now = _check_folder(path.parent / member, found, leave_out)
            _check_digest(found, member, now, digest, f"that {path.name} sums up")
            _check_entries(found, member, now, entries)
    except OSError as error:
        raise EvidenceError(f"{error.filename} can't be read ({error.strerror}): let it be readable for who checks it") from error
    if all(entry.run != path.name for entry in entries):
        found.unknown.append(f"no history tells of {path.name}, so a manifest that was written anew is not found out there")
    of_this_run = [entry for entry in entries if entry.run == path.name]
    found.recorded = [entry for entry in of_this_run if entry.kind == RUN]
    found.accepted = [entry for entry in of_this_run if entry.kind == ACCEPTANCE]
    return found


def _check_folder(path: Path, found: Inspection, leave_out: Collection[str]) -> str:
    """Hold a folder's files against its manifest, and return the manifest's digest, which is empty without one."""
    there = dict(_entries(path))
    entry = there.pop(MANIFEST, None)
    if entry is None or not stat.S_ISREG(entry.st_mode):
        found.altered.append(f"{path.name}/{MANIFEST} is missing, so nothing in that folder can be checked")
        return ""
    with open(os.open(path / MANIFEST, _CAREFULLY), "rb") as file:
        content = file.read()
    found.files += 1
    noted = _noted(content)
    if noted is None:
        found.altered.append(f"{path.name}/{MANIFEST} is damaged, so nothing in that folder can be checked")
        return hashlib.sha256(content).hexdigest()
    for name in sorted((noted.keys() | there.keys()) - set(leave_out)):
        what = _difference(path, name, noted.get(name), there.get(name), found)
        if what:
            found.altered.append(f"{path.name}/{name if name.isprintable() else ascii(name)} {what}")
    return hashlib.sha256(content).hexdigest()


def _difference(path: Path, name: str, was: str | None, entry: os.stat_result | None, found: Inspection) -> str:
    """Say what became of a file; empty if it is as it was."""
    if entry is None:  # nothing is opened that was not found in the folder, wherever a forged manifest may point
        return f"is missing: its SHA-256 was {was}"
    if not stat.S_ISREG(entry.st_mode):
        kind = "symbolic link" if stat.S_ISLNK(entry.st_mode) else "special file"
        return f"is a {kind}, which was not followed" + (f": its SHA-256 was {was}" if was else ", and was added")
    with open(os.open(path / name, _CAREFULLY), "rb") as file:
        now = hashlib.file_digest(file, "sha256").hexdigest()
    found.files += 1
    if was is None:
        return f"was added: its SHA-256 is {now}"
    return "" if now == was else f"was altered: its SHA-256 was {was}, and is {now}"


def _check_digest(found: Inspection, run: str, now: str, was: str, which: str) -> None:
    if was and now != was:
        found.altered.append(f"{run}/{MANIFEST} is not the one {which}: its SHA-256 was {was}, and is {now or 'unknown'}")


def _check_entries(found: Inspection, run: str, now: str, entries: Collection[Entry]) -> None:
    for entry in entries:
        if entry.run != run:
            continue
        how = f"accepted by {entry.content.get('by')}" if entry.kind == ACCEPTANCE else "recorded"
        _check_digest(found, run, now, entry.content.get("manifest_sha256", ""), f"that was {how} on {entry.recorded_utc}")


def _members(path: Path, found: Inspection) -> Iterator[tuple[str, str]]:
    """List the runs that a verification sums up, each with the digest that it had; empty in those of older versions."""
    try:
        with open(os.open(path / RESULT, _CAREFULLY), "rb") as file:
            result = json.load(file)
        its_run = result["run"]
        runs = [(run["run"], run.get("manifest_sha256") or "") for run in members_of(result)] if result["kind"] == "verification" else []
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        found.unknown.append(f"{path.name}/{RESULT} can't be read, so it is not known which runs it sums up")
        return
    if its_run != path.name:
        found.altered.append(f"{path.name}/{RESULT} is that of {its_run!r}: a run keeps the name of its folder")
    if without := sum(not digest for _, digest in runs):
        found.unknown.append(f"{path.name}, of an older version, lacks the digests of {without} of its runs: their own manifests count")
    for run, digest in runs:
        if not isinstance(run, str) or run in ("", ".", "..") or "/" in run or "\0" in run:
            found.altered.append(f"{path.name}/{RESULT} sums up {run!r}, which is no name of a run")
            continue
        yield run, str(digest)


def _entries(path: Path, under: str = "") -> Iterator[tuple[str, os.stat_result]]:
    """List all that a folder holds, by its path in there; links to folders are entries, not folders."""
    with os.scandir(path / under) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(path, f"{under}{entry.name}/")
            else:
                yield f"{under}{entry.name}", entry.stat(follow_symlinks=False)


def _noted(content: bytes) -> Mapping[str, str] | None:
    """Read the digests of a manifest; None if it is damaged."""
    try:
        noted: Any = json.loads(content)["sha256"]
        fits = all(_DIGEST.fullmatch(digest) for digest in noted.values())
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None
    return noted if fits else None
