"""The commands `runbook integrity`, `accept`, `report` and `diff`, and the baseline of `runbook verify --against`."""

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runbook.evidence.acceptance import Accepted, accept, last_accepted, newest_acceptance, read_verification
from runbook.evidence.archive import Archive
from runbook.evidence.criteria import BY_WORD
from runbook.evidence.decision import Decision, decision_of
from runbook.evidence.integrity import Inspection, inspect
from runbook.evidence.store import PAGE, RESULT, EvidenceError, RunFolder
from runbook.evidence.verdict import Verdict
from runbook.notebooks import UsageError
from runbook.report.sentence import sentence

# As RUN of `verify --against`: the verification of the same target that was accepted last.
ACCEPTED = "accepted"


def integrity_command(path: Path, noted: str | None, environ: Mapping[str, str]) -> bool:
    """Print what was checked of a run and what was altered, and return whether it is as it was.

    Args:
        path: of the run folder.
        noted: digest that somebody noted elsewhere; None if none was given.
        environ: whose secrets must not be written.

    Raises:
        EvidenceError: something can't be read.
        UsageError: the digest is none.
    """
    digest = (noted or "").strip().lower().removeprefix("sha256:")
    if noted is not None and not re.fullmatch("[0-9a-f]{64}", digest):
        raise UsageError(f"--digest takes the 64 hexadecimal digits of a SHA-256, got {noted!r}")
    found = inspect(path, _archive(path, environ), noted=digest)
    also = f", and of the {len(found.members)} runs that it sums up" if found.members else ""
    print(f"checked   {_count(found.files, 'file')} of {found.run}{also}")
    print(f"digest    {found.digest or 'none, as there is no manifest'}{', as it was noted' if digest and digest == found.digest else ''}")
    for entry in found.recorded[:1]:
        print(f"recorded  {_moment(entry.recorded_utc)}")
    for entry in found.accepted:
        despite = entry.content.get("despite")
        print(f"accepted  {_moment(entry.recorded_utc)} by {entry.content['by']}{f', despite: {despite}' if despite else ''}")
    for text in found.unknown:
        print(f"unknown   {text}")
    for text in found.altered:
        print(f"ALTERED   {text}")
    print(f"{found.run}: {_count(len(found.altered), 'alteration')}" if found.altered else f"{found.run}: nothing was altered")
    return not found.altered


def accept_command(path: Path, options: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Record that somebody accepts a verification, and print what he has to note.

    Raises:
        EvidenceError: its evidence was altered, or can't be read.
        UsageError: it is no verification, does not pass, could not be checked in full, or the name is missing.
    """
    by, despite = (_line(text, option) for text, option in ((options.by, "--by"), (options.despite, "--despite")))
    path = path.resolve()
    archive = _archive(path, environ)
    result = read_verification(path)
    found = inspect(path, archive)
    found.raise_if_altered()
    if result["broken"]:  # nothing could ever be worse than it, so it would serve no later verification either
        raise UsageError(f"{found.run} did not come to its end ({result['broken']}), so there is nothing to accept: verify again")
    open_questions = [
        *([] if decision_of(result) is Decision.READY else [sentence(result)]),
        *(f"Not checked: {text}." for text in found.unknown),
    ]
    if open_questions and not despite:
        raise UsageError(f"{found.run}: {' '.join(open_questions)} Who accepts it all the same says why, with --despite REASON")
    entry = accept(archive, found.run, by, found.digest, result["verdict"], sentence(result), result["target"], despite)
    print(sentence(result))
    for line in _doubts(result, found):
        print(line)
    by, when = entry.content["by"], _moment(entry.recorded_utc)
    if entry in found.accepted:
        print(f"{found.run} was accepted by {by} on {when} already: nothing more was recorded")
    else:
        print(f"{found.run} is accepted by {by}, recorded on {when}{despite and ', despite: ' + despite}")
    print(f"digest: {found.digest}")
    print(
        "Note the digest where this machine can't reach, such as in the e-mail that tells of the acceptance. Whether anything was altered "
        f"since tells\n    runbook integrity {found.run if options.runs == Path('runs') else path} --digest {found.digest}"
    )


def report_command(path: Path, page: Path | None, environ: Mapping[str, str]) -> str:
    """Render the page of a run again, unless its evidence was altered, and return the page.

    Raises:
        EvidenceError: it was, or the page would come out otherwise than the one that was recorded.
    """
    # Not at the top: nbconvert takes half a second to import.
    from runbook.report.rerender import rerender

    rendered = rerender(path, _archive(path, environ), page)
    print(f"page: {page or path / PAGE}")
    return rendered


def diff_command(before: Path, after: Path, runs: Path, page: Path | None) -> Verdict:
    """Print what changed between two runs, of two verifications their criteria too, and return the verdict.

    Raises:
        EvidenceError: something of them is missing or damaged, or there is nothing to compare.
    """
    # Not at the top: only this command needs them.
    from runbook.report.diff import compare
    from runbook.report.diff_page import Judgement, write_diff
    from runbook.report.loads import read_loads
    from runbook.report.regression import regress

    judgement: Judgement
    if _kind(before) == _kind(after) == "verification":
        judgement = found = regress(before, after)
        diff = found.diff
    else:
        sides = [read_loads(path) for path in (before, after)]
        for side, path in zip(sides, (before, after), strict=True):
            if not side.loads:
                raise EvidenceError(f"{path} holds no load: only runs whose notebook offers one to measure latencies can be compared")
        judgement = diff = compare(*sides)
    print("\n".join(judgement.sentences))
    if diff.loads:
        page = page or runs / f"diff-{diff.before.run}-against-{diff.after.run}.html"
        write_diff(diff, page, judgement)
        print(f"page: {page}")
    print(judgement.headline)
    return judgement.verdict


def baseline_of(against: Path | None, target: str, runs: Path, environ: Mapping[str, str]) -> Path:
    """Find what a verification is to be held against, and check it, before anything runs.

    Args:
        against: folder of the earlier verification; None for the one that was accepted last.
        target: what is going to be verified.
        runs: the folder of the evidence.
        environ: whose secrets must not be written.

    Raises:
        EvidenceError: its evidence was altered, it is no verification, or something of it can't be compared.
        UsageError: none was accepted, or its folder is gone.
    """
    if against is None:
        entry = newest_acceptance(Archive(runs, environ), target)
        if entry is None:
            raise UsageError(
                f"no verification of the target {target} was accepted in {runs}: `runbook accept RUN --by NAME` accepts one, or name it "
                "with --against RUN"
            )
        against = runs / entry.run
        if not against.is_dir():
            raise UsageError(f"{against}, accepted by {entry.content['by']}, is gone: bring it back, or name another with --against RUN")
    # Not at the top: without --against, nothing needs it.
    from runbook.report.regression import regress

    against = against.resolve()
    _read_unaltered(against, environ)
    regress(against, against)  # which reads all that the comparison will read
    return against


def accepted_of(target: str, runs: Path, environ: Mapping[str, str]) -> tuple[Accepted | None, Mapping[str, Any] | None]:
    """Find the verification that was accepted last, whose numbers are told beside those of now, and read it before anything runs.

    Returns:
        It and its result; None twice if there is none, or, which is told on stderr, if its evidence can't serve.

    Raises:
        EvidenceError: the archive is damaged, or was altered.
    """
    accepted = last_accepted(Archive(runs, environ), runs, target)
    if accepted is None:
        return None, None
    try:
        return accepted, _read_unaltered(runs / accepted.run, environ)
    except EvidenceError as error:
        print(f"runbook: no numbers of {accepted.run}, accepted by {accepted.by}, are told: {error}", file=sys.stderr)
        return None, None


def hold_against_command(baseline: Path, folder: RunFolder) -> None:
    """Hold a verification that has just ended against its baseline, and print what changed; its own result takes the verdict in.

    That is INCONCLUSIVE where they can't be compared, as what was found stands all the same.
    """
    # Not at the top: without --against, nothing needs them.
    from runbook.report.regression import DIFF_PAGE, hold_against, keep

    try:
        found = hold_against(baseline, folder)
    except EvidenceError as error:
        said = str(error).replace(f"{baseline.parent}/", "")  # the page is read where this machine's folders say nothing
        headline = f"{Verdict.INCONCLUSIVE}: it could not be compared: {said}"
        keep(folder, baseline.name, Verdict.INCONCLUSIVE, headline)
        print(f"\nagainst {baseline.name}:\n{headline}")
        return
    print("\n".join(["", f"against {found.before}:", *(f"    {text}" for text in found.sentences), found.headline]))
    print(f"page: {folder.path / DIFF_PAGE}")


def _read_unaltered(path: Path, environ: Mapping[str, str]) -> Mapping[str, Any]:
    """Read the result of a verification with which another is going to be compared.

    Raises:
        EvidenceError: its evidence was altered, or it is no verification.
    """
    inspect(path, _archive(path, environ)).raise_if_altered()
    return read_verification(path)


def _archive(path: Path, environ: Mapping[str, str]) -> Archive:
    """Return the archive of the runs among which a run lies."""
    return Archive(path.resolve().parent, environ)


def _doubts(result: Mapping[str, Any], found: Inspection) -> list[str]:
    """Name what whoever accepts does not get: what was not examined, what became worse, what could not be checked."""
    lines = [
        f"not examined: {each['id']} {each['text']}" for each in result["criteria"] if each["verdict"] is None and each["id"] != BY_WORD
    ]
    against = result.get("against")
    lines += [f"against {against['run']}: {against['headline']}"] if against and against["verdict"] != Verdict.PASS else []
    return [*lines, *(f"not checked: {text}" for text in found.unknown)]


def _line(text: str | None, option: str) -> str:
    """Put what a person gave into one line.

    Raises:
        UsageError: it was given, and says nothing, or can't be shown.
    """
    if text is None:
        return ""
    line = " ".join(text.split())
    if not line or not line.isprintable():
        raise UsageError(f"{option} says nothing that can be read: give it a text")
    return line


def _kind(path: Path) -> Any:
    result = RunFolder(path).read_json(RESULT)
    return result.get("kind") if isinstance(result, dict) else None


def _moment(utc: str) -> str:
    return utc[:19].replace("T", " ") + " UTC"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
