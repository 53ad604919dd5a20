"""Holds a verification against an earlier one: its criteria, and beyond noise its loads, like with like."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runbook.evidence.acceptance import read_verification
from runbook.evidence.store import RESULT, EvidenceError, RunFolder
from runbook.evidence.verdict import Verdict, combine, decided, is_known
from runbook.report.diff import Diff, compare
from runbook.report.diff_page import write_diff
from runbook.report.loads import read_loads

# Its page, in the folder of the later verification.
DIFF_PAGE = "diff.html"

_WORDS = {Verdict.PASS: "passes", Verdict.FAIL: "fails", Verdict.INCONCLUSIVE: "could not be decided", None: "is not examined"}
_PAST = {Verdict.PASS: "passed", Verdict.FAIL: "failed", Verdict.INCONCLUSIVE: "could not be decided", None: "was not examined"}


@dataclass(frozen=True, slots=True)
class Shift:
    """A criterion that both verifications list, and on which they differ.

    Attributes:
        criterion: its id.
        text: what it asks for.
        before: what it came to then; None if it was not examined.
        after: what it comes to now.
        reason: why it does not pass now; may be empty.
    """

    criterion: str
    text: str
    before: Verdict | None
    after: Verdict | None
    reason: str = ""

    @property
    def verdict(self) -> Verdict:
        """FAIL if it passed and fails now; INCONCLUSIVE if it may be worse: nobody can tell where one side was not decided."""
        if self.after is Verdict.FAIL:
            return Verdict.FAIL if self.before is Verdict.PASS else Verdict.INCONCLUSIVE
        return Verdict.INCONCLUSIVE if self.before is Verdict.PASS else Verdict.PASS

    @property
    def sentence(self) -> str:
        """Say it in a sentence."""
        word = {Verdict.FAIL: "worse", Verdict.INCONCLUSIVE: "maybe worse"}.get(self.verdict, "changed")
        if self.verdict is Verdict.PASS and self.after is Verdict.PASS:
            word = "better"
        text = f"{word}: {self.criterion} {_PAST[self.before]}, and {_WORDS[self.after]} now ({self.text})"
        return f"{text}: {self.reason}" if self.reason else text


@dataclass(frozen=True, slots=True)
class Regression:
    """What became worse from one verification to a later one.

    Attributes:
        before: name of the earlier one.
        shifts: the criteria on which they differ.
        diff: their loads.
        only_in_one: what only one of them ran, since their profiles differ, in words; it is left out of the comparison.
    """

    before: str
    shifts: tuple[Shift, ...]
    diff: Diff
    only_in_one: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The one that outweighs: of the criteria, and of the loads if one of both offered any."""
        loads = [self.diff.verdict] if self._has_loads else []
        return combine([Verdict.PASS, *(shift.verdict for shift in self.shifts), *loads])

    @property
    def headline(self) -> str:
        """Say the verdict and what made it."""
        parts = []
        for verdict, word in ((Verdict.FAIL, "worse"), (Verdict.INCONCLUSIVE, "maybe worse")):
            if found := [shift.criterion for shift in self.shifts if shift.verdict is verdict]:
                parts.append(f"{', '.join(found)} {word}")
        loads = f"of the loads, {self.diff.reason}" if self._has_loads else "no load was offered to compare"
        return f"{self.verdict}: {'; '.join(parts) or 'no criterion worse'}; {loads}"

    @property
    def sentences(self) -> list[str]:
        """Say what changed: the criteria, those that are worse first, and then the loads."""
        by_weight = sorted(self.shifts, key=lambda shift: [Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS].index(shift.verdict))
        return [*(shift.sentence for shift in by_weight), *(self.diff.sentences if self._has_loads else ()), *self.only_in_one]

    @property
    def _has_loads(self) -> bool:
        return bool(self.diff.before.loads or self.diff.after.loads)


def regress(before: Path, after: Path) -> Regression:
    """Hold a verification against an earlier one.

    Args:
        before: folder of the earlier one; those of its runs lie beside it.
        after: folder of the later one.

    Raises:
        EvidenceError: one is no verification, or something of it is missing, damaged or of another version.
    """
    results = [dict(read_verification(path)) for path in (before, after)]
    try:
        only_in_one = _alike(*results)
        shifts = tuple(_shifts(*results))
    except (KeyError, TypeError, ValueError) as error:
        raise EvidenceError(f"{before} and {after} are not of this version both ({error}): verify again") from error
    return Regression(before.resolve().name, shifts, compare(read_loads(before), read_loads(after)), only_in_one)


def hold_against(before: Path, folder: RunFolder) -> Regression:
    """Hold a verification that has just ended against an earlier one, and add what was found to it: to its result, and as a page.

    Args:
        before: folder of the earlier one.
        folder: of the one that has ended, whose page and manifest are yet to be written.

    Raises:
        EvidenceError: the same as of `regress`, or it can't be written.
    """
    found = regress(before, folder.path)
    write_diff(found.diff, folder.path / DIFF_PAGE, found)
    keep(folder, found.before, found.verdict, found.headline, found.sentences)
    return found


def keep(folder: RunFolder, before: str, verdict: Verdict, headline: str, sentences: Sequence[str] = ()) -> None:
    """Add to the result of a verification how it compares with an earlier one.

    Args:
        folder: of the verification.
        before: name of the earlier one.
        verdict: of the comparison; it weighs in that of the verification, so that all who read it are told.
        headline: the verdict and what made it.
        sentences: what changed.
    """
    result = folder.read_json(RESULT)
    against = {"run": before, "verdict": verdict, "headline": headline, "sentences": list(sentences)}
    folder.write_json(RESULT, {**result, "verdict": combine([Verdict(result["verdict"]), verdict]), "against": against})


def _alike(before: dict[str, Any], after: dict[str, Any]) -> tuple[str, ...]:
    """Leave out of two results of different profiles the findings of what only one of them ran, and say so."""
    if before.get("profile") == after.get("profile"):
        return ()
    ran = [_parts(result) for result in (before, after)]
    said = []
    for result, own, other, word in ((before, ran[0], ran[1], "before"), (after, ran[1], ran[0], "now")):
        alone = [name for name in own if name not in other]
        result["criteria"] = [_without(criterion, alone) for criterion in result["criteria"]]
        profile = result.get("profile") or "of an older version"
        said.append(f"the profile {word} is {profile}{': left out is what only it ran, ' + ', '.join(alone) if alone else ''}")
    return tuple(said)


def _parts(result: Mapping[str, Any]) -> list[str]:
    drills = (result.get("drills") or {}).get("drills", ())
    return [*(run["notebook"] for run in result["runs"]), *(drill["name"] for drill in drills)]


def _without(criterion: Mapping[str, Any], parts: Sequence[str]) -> dict[str, Any]:
    findings = [finding for finding in criterion["findings"] if finding["notebook"] not in parts]
    left_out = len(findings) < len(criterion["findings"])
    return {**criterion, "findings": findings, "verdict": decided(findings) if left_out else criterion["verdict"]}


def _shifts(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Shift]:
    then = {each["id"]: each for each in before["criteria"]}
    now = {each["id"]: each for each in after["criteria"]}
    for name in [*then, *(name for name in now if name not in then)]:
        was, is_now = (_verdict(side.get(name)) for side in (then, now))
        if was is not is_now:
            yield Shift(name, (now.get(name) or then[name])["text"], was, is_now, _reason(now.get(name), is_now))


def _verdict(criterion: Mapping[str, Any] | None) -> Verdict | None:
    return Verdict(criterion["verdict"]) if criterion and criterion["verdict"] else None


def _reason(criterion: Mapping[str, Any] | None, verdict: Verdict | None) -> str:
    """Give the reasons of the findings that made a verdict other than PASS; not those that the server is known for."""
    if not criterion or verdict in (None, Verdict.PASS):
        return ""
    deciding = (each for each in criterion["findings"] if each["verdict"] == verdict)
    reasons = [each["reason"] for each in deciding if each["reason"] and not is_known(each)]
    return "; ".join(dict.fromkeys(reasons))
