"""What a verification makes of its notebooks' findings; a documented failure of the server itself is told, and weighs nothing."""

import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from runbook.cli import EXIT_FAIL, EXIT_INCONCLUSIVE, EXIT_PASS, exit_status, status_of
from runbook.evidence import RunFolder, Verdict
from runbook.evidence.store import RESULT
from runbook.execute import Run
from runbook.notebooks import FOLDER, find_notebook
from runbook.report.cases import cases_of
from runbook.report.junit import junit
from runbook.report.sentence import sentence
from runbook.report.summary import summary
from runbook.verification import conclude, criteria_text, findings_text

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
    return run, conclude([run], "embedded", tmp_path, {}, started=datetime.now(UTC), ordered=[run.notebook.name])


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
    ordered = ["persistence-drill", "client-benchmark"]
    result = conclude([run], "embedded", tmp_path, {}, started=datetime.now(UTC), ordered=ordered).read_json(RESULT)
    assert passed.read_json(RESULT)["interrupted"] is False
    assert result["interrupted"] is True
    assert result["verdict"] == "INCONCLUSIVE"
    assert sentence(result).startswith("Not accepted: it was interrupted, and client-benchmark had not begun.")
    assert [case.name for case in cases_of(result) if case.broken] == ["verify"]


@pytest.mark.parametrize(
    ("beyond", "of_story", "notebook", "weight"),
    [
        ("INCONCLUSIVE", "PASS", "INCONCLUSIVE", "PASS"),
        ("INCONCLUSIVE", "INCONCLUSIVE", "INCONCLUSIVE", "INCONCLUSIVE"),
        ("INCONCLUSIVE", "FAIL", "FAIL", "FAIL"),
        ("FAIL", "PASS", "FAIL", "FAIL"),
        ("FAIL", "INCONCLUSIVE", "FAIL", "FAIL"),
        ("PASS", "PASS", "PASS", "PASS"),
    ],
)
def test_what_is_open_beyond_the_story_keeps_nobody_from_accepting_it_but_a_failure_does(
    tmp_path: Path, beyond: str, of_story: str, notebook: str, weight: str
) -> None:
    findings = [{**OURS, "criterion": "C-1", "verdict": beyond}, {**OURS, "verdict": of_story}]
    run, verified = _concluded(tmp_path, *findings, verdict=Verdict(notebook))
    result = verified.read_json(RESULT)
    assert result["verdict"] == weight
    assert _verdict_on(verified, "C-1") == beyond, "it is told as it was found"
    statuses = {"PASS": EXIT_PASS, "FAIL": EXIT_FAIL, "INCONCLUSIVE": EXIT_INCONCLUSIVE}
    assert status_of(result) == statuses[weight]
    assert exit_status([run]) == statuses[notebook], "a notebook alone says all that it says"
    assert ("C-1 fails" in sentence(result)) == (beyond == "FAIL")
    assert ("beyond the story, C-1 could not be decided" in sentence(result)) == (beyond == "INCONCLUSIVE")
    cases = ET.fromstring(junit(result)).iter("testcase")
    (case,) = (case for case in cases if str(case.get("name")).startswith("C-1"))
    assert [child.tag for child in case][:1] == {"PASS": ["system-out"], "FAIL": ["failure"], "INCONCLUSIVE": ["skipped"]}[beyond]


@pytest.mark.parametrize(
    ("findings", "case"),
    [
        ([{"criterion": "C-1"}], "persistence-drill"),
        ([{"criterion": "C-1"}, {"criterion": "X-1"}], "persistence-drill"),
        ([{"criterion": "C-1", "reason": "the check itself failed: TypeError: …"}, {"criterion": "I-4", "verdict": "PASS"}], "C-1"),
        ([{"criterion": "C-1"}, {"criterion": "I-4"}], "I-4"),
    ],
    ids=["nothing of the story", "something of no criterion", "a check that failed", "something of the story too"],
)
def test_what_weighs_beside_what_is_open_beyond_the_story_is_told_alike_by_all(
    tmp_path: Path, findings: list[dict[str, Any]], case: str
) -> None:
    found = [{**OURS, "verdict": "INCONCLUSIVE", **each} for each in findings]
    result = _verified(tmp_path, *found, verdict=Verdict.INCONCLUSIVE).read_json(RESULT)
    assert result["verdict"] == "INCONCLUSIVE"
    assert status_of(result) == EXIT_INCONCLUSIVE
    assert sentence(result).startswith("Not accepted: ")
    errors = [each.get("name") for each in ET.fromstring(junit(result)).iter("testcase") if each.find("error") is not None]
    assert [str(name).split()[0] for name in errors] == [case]
    assert f"**{case}**" in summary(result)
