"""What a verification makes of its notebooks' findings; a documented failure of the server itself is told, and weighs nothing."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from runbook.cli import status_of
from runbook.evidence import RunFolder, Verdict, combine
from runbook.evidence.store import RESULT
from runbook.execute import Run
from runbook.notebooks import DEFAULT, FOLDER, FULL, find_notebook
from runbook.report.cases import cases_of
from runbook.report.sentence import sentence
from runbook.verification import Ended, Plan, conclude, criteria_text, findings_text

KNOWN = {"claim": "Redis notices a changed byte", "verdict": "FAIL", "reason": "1 of 1 loaded", "known": "it checks no value"}
OURS = {"claim": "We notice it", "verdict": "PASS", "reason": "", "known": ""}
LOST = {"claim": "Nothing is lost", "verdict": "FAIL", "reason": "7 writes lost", "known": ""}


def _verified(tmp_path: Path, *findings: dict[str, Any], verdict: Verdict = Verdict.PASS) -> RunFolder:
    return _concluded(tmp_path, *findings, verdict=verdict)[1]


def _concluded(tmp_path: Path, *findings: dict[str, Any], verdict: Verdict) -> tuple[Run, RunFolder]:
    folder = RunFolder.create(tmp_path, "persistence-drill", {})
    found = [{"criterion": "I-4", "measured": [], **finding} for finding in findings]
    names = ("title", "question", "limits", "broken", "engine", "host", "versions")
    result = {"run": folder.name, "notebook": "persistence-drill", "verdict": verdict, "duration_s": 1.0, "findings": found}
    folder.write_json(RESULT, {**dict.fromkeys(names, ""), **result})
    folder.write_manifest()
    run = Run(find_notebook("persistence-drill", FOLDER), folder, verdict, "", {"I-4": verdict}, False)
    return run, _conclude(tmp_path, run)


def _conclude(
    tmp_path: Path, run: Run, *more: str, drilled: RunFolder | None = None, refusal: str = "", drills: Sequence[str] = ()
) -> RunFolder:
    plan = Plan("embedded", FULL if drills else DEFAULT, (run.notebook.name, *more), tuple(drills))
    return conclude(Ended([run], drilled, refusal, datetime.now(UTC)), plan, tmp_path, {})


def _verdict_on(verified: RunFolder, criterion: str) -> str | None:
    return next(each["verdict"] for each in verified.read_json(RESULT)["criteria"] if each["id"] == criterion)


@pytest.mark.parametrize(
    ("findings", "verdict"), [((OURS, KNOWN), "PASS"), ((OURS, KNOWN, LOST), "FAIL"), ((OURS,), "PASS"), ((KNOWN,), None)]
)
def test_a_criterion_is_decided_by_what_is_not_known_of_the_server(
    tmp_path: Path, findings: tuple[dict[str, Any], ...], verdict: str | None
) -> None:
    assert _verdict_on(_verified(tmp_path, *findings), "I-4") == verdict


def test_the_summary_gives_no_known_failure_for_a_reason(tmp_path: Path) -> None:
    text = criteria_text(_verified(tmp_path, OURS, KNOWN, LOST))
    assert "7 writes lost" in text
    assert "1 of 1 loaded" not in text


def test_a_notebooks_own_findings_name_it_as_known(tmp_path: Path) -> None:
    _verified(tmp_path, KNOWN)
    (path,) = tmp_path.glob("*-persistence-drill")
    assert "FAIL (known)" in findings_text(RunFolder(path, {}))


def test_a_verification_that_was_interrupted_can_not_be_accepted(tmp_path: Path) -> None:
    """Even where all that had begun passes, and decides all criteria."""
    passed = _verified(tmp_path, OURS)
    (folder,) = tmp_path.glob("*-persistence-drill")
    run = Run(find_notebook("persistence-drill", FOLDER), RunFolder(folder, {}), Verdict.PASS, "", {"I-4": Verdict.PASS}, True)
    result = _conclude(tmp_path, run, "latency-benchmark").read_json(RESULT)
    assert passed.read_json(RESULT)["interrupted"] is False
    assert result["interrupted"] is True
    assert result["verdict"] == "INCONCLUSIVE"
    assert sentence(result).startswith("Not accepted: it was interrupted, and latency-benchmark had not begun.")
    assert [case.name for case in cases_of(result) if case.broken] == ["verify"]


DRILLS = ("stop", "kill")


def _drilled(tmp_path: Path, *verdicts: str | None, interrupted: bool = False) -> RunFolder:
    folder = RunFolder.create(tmp_path, "drill", {})
    done = []
    for name, verdict in zip(DRILLS, verdicts, strict=False):
        broken = "" if verdict else "it was interrupted" if interrupted else "the watchdog ended it"
        finding = {
            **OURS,
            "claim": "No write is lost",
            "criterion": "I-4",
            "verdict": verdict,
            "reason": f"{name}: {verdict}",
            "measured": [],
        }
        told = {"name": name, "question": "?", "promise": "!", "verdict": verdict, "broken": broken, "known": 0, "duration_s": 1.0}
        done.append({**told, "findings": [finding] if verdict else []})
    worst = combine(Verdict(verdict or "INCONCLUSIVE") for verdict in verdicts)
    result = {"kind": "drills", "run": folder.name, "verdict": worst, "interrupted": interrupted, "drills": done}
    folder.write_json(RESULT, {**dict.fromkeys(("engine", "host", "versions"), ""), **result})
    folder.write_manifest()
    return folder


@pytest.mark.parametrize(
    ("verdicts", "verdict", "status", "broken"),
    [
        (("PASS", "PASS"), "PASS", 0, ""),
        (("PASS", "FAIL"), "FAIL", 1, ""),
        (("INCONCLUSIVE", "PASS"), "INCONCLUSIVE", 3, ""),
        (("PASS", None), "INCONCLUSIVE", 4, "kill did not come to a verdict"),
        (("PASS",), "INCONCLUSIVE", 4, "kill had not begun"),
    ],
)
def test_what_a_drill_finds_decides_criteria_and_counts_in_the_verdict_and_the_status(
    tmp_path: Path, verdicts: tuple[str | None, ...], verdict: str, status: int, broken: str
) -> None:
    run, _ = _concluded(tmp_path, OURS, verdict=Verdict.PASS)
    drilled = _drilled(tmp_path, *verdicts)
    verified = _conclude(tmp_path, run, drilled=drilled, drills=DRILLS)
    result = verified.read_json(RESULT)
    assert (result["verdict"], status_of(result), result["broken"]) == (verdict, status, broken)
    assert (result["profile"], result["drills"]["run"], len(result["drills"]["drills"])) == ("full", drilled.name, len(verdicts))
    assert _verdict_on(verified, "I-4") == combine(Verdict(each) for each in verdicts if each)
    assert [case.name for case in cases_of(result) if case.kind == "drill"] == (["kill"] if None in verdicts else [])


def test_an_interruption_during_the_drills_ends_with_the_status_of_ctrl_c(tmp_path: Path) -> None:
    run, _ = _concluded(tmp_path, OURS, verdict=Verdict.PASS)
    result = _conclude(tmp_path, run, drilled=_drilled(tmp_path, None, interrupted=True), drills=DRILLS).read_json(RESULT)
    assert (result["interrupted"], status_of(result)) == (True, 130)
    assert result["broken"].endswith("it was interrupted, and kill had not begun")


def test_drills_that_are_refused_leave_a_broken_verification_that_says_why(tmp_path: Path) -> None:
    run, _ = _concluded(tmp_path, OURS, verdict=Verdict.PASS)
    result = _conclude(tmp_path, run, refusal="another drill is at work", drills=DRILLS).read_json(RESULT)
    assert (status_of(result), result["broken"]) == (4, "the drills did not begin: another drill is at work")
