"""Renders a run again, and never over evidence that was altered, or over a page that somebody relies on."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from runbook.evidence.archive import Archive
from runbook.evidence.integrity import Inspection, inspect
from runbook.evidence.records import members_of
from runbook.evidence.store import DERIVED, MANIFEST, PAGE, RESULT, EvidenceError, RunFolder, sha256, write_atomically
from runbook.report.page import render


def rerender(path: Path, archive: Archive, page: Path | None = None) -> str:
    """Render what can be derived from a run's evidence, if that is as its manifest says.

    Where it comes out as the manifest has it, the manifest stays as it is. Where it does not, since another version of the runbook renders
    otherwise, nothing is replaced of a run whose digest the archive or a verification holds.

    Args:
        path: of the run folder.
        archive: of the runs.
        page: where the page is written instead; the run folder then stays as it is. None to render into the folder.

    Returns:
        The page that was rendered, wherever it went.

    Raises:
        EvidenceError: the evidence was altered, or the page would come out otherwise than the one that was recorded.
    """
    path = path.resolve()
    if page and page.resolve().is_relative_to(path):
        raise EvidenceError(f"{page} lies in the folder of the run, to which nothing may be added: name a file elsewhere with --page")
    found = inspect(path, archive, leave_out=DERIVED)
    _check(found)
    with tempfile.TemporaryDirectory(prefix="runbook-report-") as scratch:
        rendered = Path(scratch)
        render(path, rendered)
        content = (rendered / PAGE).read_bytes()
        if page:
            _write_elsewhere(page, content)
            return content.decode()
        digests = {file.name: sha256(file) for file in rendered.iterdir()}
        noted = RunFolder(path).read_json(MANIFEST)["sha256"] if found.digest else {}
        different = sorted(name for name in {*digests, *DERIVED} if digests.get(name) != noted.get(name))
        relied_on = _relied_on(found, path) if different else ""
        if relied_on:
            raise EvidenceError(
                f"this version of the runbook renders {', '.join(different)} of {path.name} otherwise than the one whose digest was "
                f"{relied_on}, so nothing was replaced: `runbook report {path.name} --page FILE` writes the new page elsewhere"
            )
        for name, digest in digests.items():
            if not (path / name).is_file() or (path / name).is_symlink() or sha256(path / name) != digest:
                write_atomically(path / name, (rendered / name).read_bytes())
        for name in {*DERIVED} - {*digests}:
            (path / name).unlink(missing_ok=True)
    if different:
        RunFolder(path).write_manifest()
    return content.decode()


def _check(found: Inspection) -> None:
    """Refuse altered evidence; a run that ended before its manifest was written, and that nobody recorded, is no such case."""
    unfinished = not found.digest and len(found.altered) == 1
    if not unfinished:
        found.raise_if_altered()


def _relied_on(found: Inspection, path: Path) -> str:
    """Say who holds the digest of a run; empty if nobody does."""
    if found.accepted:
        return f"accepted by {found.accepted[-1].content['by']} on {found.accepted[-1].recorded_utc}"
    if found.recorded:
        return f"recorded on {found.recorded[-1].recorded_utc}"
    return next((f"noted by {verification}, which sums it up" for verification in _summed_up_by(path, found.digest)), "")


def _summed_up_by(path: Path, digest: str) -> Iterator[str]:
    """List the verifications beside a run whose own digest would no longer cover it under another one."""
    for file in sorted(path.parent.glob(f"*/{RESULT}")):
        try:
            result = json.loads(file.read_bytes())
            members = [(run["run"], run["manifest_sha256"]) for run in members_of(result)] if result["kind"] == "verification" else []
        except (OSError, ValueError, KeyError, TypeError):  # of an older version, or damaged: it relies on nothing
            continue
        if (path.name, digest) in members:
            yield str(result["run"])


def _write_elsewhere(page: Path, content: bytes) -> None:
    try:
        write_atomically(page, content)
    except OSError as error:
        raise EvidenceError(f"{page} can't be written ({error.strerror}): name another file with --page") from error
