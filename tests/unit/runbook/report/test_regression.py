"""A verification held against an earlier one: what passed then has to pass now, and what can't be told is not called good."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runbook.evidence.store import RESULT, EvidenceError, RunFolder
from runbook.evidence.verdict import Verdict, combine
from runbook.report.diff import Diff
from runbook.report.loads import Loads
from runbook.report.regression import DIFF_PAGE, Regression, Shift, hold_against, regress

CIRCUMSTANCES = {"target": "embedded", "engine": {"product": "redis"}, "host": {}, "versions": {}}
PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE


def _verification(runs: Path, name: str, *findings: dict[str, str], **verdicts: Verdict | None) -> RunFolder:
    folder = RunFolder(runs / name, {})
    folder.path.mkdir(parents=True)
    criteria = [
        {"id": each, "text": f"what {each} asks for", "verdict": verdict, "findings": list(findings)} for each, verdict in verdicts.items()
    ]
    folder.write_json(RESULT, {"kind": "verification", "run": name, "verdict": "PASS", "runs": [], "criteria": criteria, **CIRCUMSTANCES})
    return folder


def _regress(tmp_path: Path, before: Verdict | None, after: Verdict | None, *findings: dict[str, str]) -> Regression:
    return regress(_verification(tmp_path, "a", X=before).path, _verification(tmp_path, "b", *findings, X=after).path)


@pytest.mark.parametrize(
    ("before", "after", "verdict", "sentence"),
    [
        (PASS, FAIL, FAIL, "worse: X passed, and fails now"),
        (PASS, INCONCLUSIVE, INCONCLUSIVE, "maybe worse: X passed, and could not be decided now"),
        (PASS, None, INCONCLUSIVE, "maybe worse: X passed, and is not examined now"),
        (INCONCLUSIVE, FAIL, INCONCLUSIVE, "maybe worse: X could not be decided, and fails now"),
        (None, FAIL, INCONCLUSIVE, "maybe worse: X was not examined, and fails now"),
        (None, PASS, PASS, "better: X was not examined, and passes now"),
        (FAIL, PASS, PASS, "better: X failed, and passes now"),
        (FAIL, INCONCLUSIVE, PASS, "changed: X failed, and could not be decided now"),
        (None, INCONCLUSIVE, PASS, "changed: X was not examined, and could not be decided now"),
    ],
)
def test_each_change_of_a_criterion_is_told_and_weighed(
    before: Verdict | None, after: Verdict | None, verdict: Verdict, sentence: str, tmp_path: Path
) -> None:
    found = _regress(tmp_path, before, after)
    assert found.sentences == [f"{sentence} (what X asks for)"]
    assert found.verdict is verdict
    assert found.headline.startswith(f"{verdict}: ")


@pytest.mark.parametrize("verdict", [PASS, FAIL, INCONCLUSIVE, None])
def test_what_is_as_it_was_is_no_regression(verdict: Verdict | None, tmp_path: Path) -> None:
    found = _regress(tmp_path, verdict, verdict)
    assert found.sentences == []
    assert found.headline == "PASS: no criterion worse; no load was offered to compare"


def _of_profile(runs: Path, name: str, profile: str, runs_of: tuple[str, ...], drills: tuple[str, ...], *findings: dict[str, str]) -> Path:
    folder = _verification(runs, name, *findings, X=combine(Verdict(each["verdict"]) for each in findings))
    result = folder.read_json(RESULT)
    members = []
    for notebook in runs_of:
        member = RunFolder(runs / f"{name}-{notebook}", {})
        member.path.mkdir()
        member.write_json(RESULT, {"notebook": notebook})
        members.append({"run": member.name, "notebook": notebook})
    line = {"run": "drill", "drills": [{"name": drill} for drill in drills]} if drills else None
    folder.write_json(RESULT, {**result, "profile": profile, "runs": members, "drills": line})
    return folder.path


def test_what_only_the_full_profile_ran_is_left_out_of_the_comparison_and_said(tmp_path: Path) -> None:
    kept, lost = ({"notebook": name, "verdict": verdict, "reason": ""} for name, verdict in (("setup", "PASS"), ("kill", "FAIL")))
    default = _of_profile(tmp_path, "a", "default", ("setup",), (), kept)
    full = _of_profile(tmp_path, "b", "full", ("setup", "restore-drill"), ("kill",), kept, lost)
    found = regress(default, full)
    assert found.verdict is PASS
    assert found.sentences == [
        "the profile before is default",
        "the profile now is full: left out is what only it ran, restore-drill, kill",
    ]
    worse = _of_profile(tmp_path, "c", "full", ("setup",), (), {**kept, "verdict": "FAIL", "reason": "it lost one"})
    assert regress(default, worse).verdict is FAIL, "what both ran is compared all the same"
    again = _of_profile(tmp_path, "d", "full", ("setup", "restore-drill"), ("kill",), kept)
    assert regress(again, full).verdict is FAIL, "of one profile, everything is compared"


def test_why_it_is_worse_is_said_and_nothing_that_the_server_is_known_for(tmp_path: Path) -> None:
    lost = {"verdict": "FAIL", "reason": "7 writes lost"}
    stalled = {"verdict": "INCONCLUSIVE", "reason": "the host stalled"}
    known = {"verdict": "FAIL", "reason": "it loaded a changed byte", "known": "it checks no value"}
    (said,) = _regress(tmp_path, PASS, FAIL, lost, stalled, known, lost).sentences
    assert said == "worse: X passed, and fails now (what X asks for): 7 writes lost"


def test_where_the_host_is_why_nothing_can_be_told_the_sentence_says_so(tmp_path: Path) -> None:
    (said,) = _regress(tmp_path, PASS, INCONCLUSIVE, {"verdict": "INCONCLUSIVE", "reason": "the host stalled 5 times"}).sentences
    assert said.endswith("could not be decided now (what X asks for): the host stalled 5 times")


def test_a_load_that_is_worse_weighs_as_much_as_a_criterion(tmp_path: Path) -> None:
    class Worse(Diff):
        verdict, reason, sentences = FAIL, "2 figures worse beyond noise", ["p99 of SET: 0.4 → 0.7 ms"]  # type: ignore[assignment]

    loads = Loads("a", "embedded", {}, {}, {}, {"latency-benchmark/steady": None})  # type: ignore[dict-item]
    shift = Shift("X", "it", FAIL, PASS)
    found = Regression("a", (shift,), Worse(loads, replace(loads, run="b"), ()))
    assert found.verdict is FAIL
    assert found.headline == "FAIL: no criterion worse; of the loads, 2 figures worse beyond noise"
    assert found.sentences == ["better: X failed, and passes now (it)", "p99 of SET: 0.4 → 0.7 ms"]


def test_the_worst_comes_first(tmp_path: Path) -> None:
    before = _verification(tmp_path, "a", A=None, B=PASS, C=PASS)
    after = _verification(tmp_path, "b", A=PASS, B=None, C=FAIL)
    assert [text.split(" ")[0] for text in regress(before.path, after.path).sentences] == ["worse:", "maybe", "better:"]


def test_what_was_found_is_kept_with_the_later_verification(tmp_path: Path) -> None:
    before, after = _verification(tmp_path, "a", X=PASS), _verification(tmp_path, "b", X=FAIL)
    found = hold_against(before.path, after)
    assert after.read_json(RESULT)["against"] == {
        "run": "a",
        "verdict": "FAIL",
        "headline": "FAIL: X worse; no load was offered to compare",
        "sentences": found.sentences,
    }
    assert after.read_json(RESULT)["verdict"] == "FAIL"  # which the metrics, the history and the exit status are made from
    page = (after.path / DIFF_PAGE).read_text()
    assert found.headline in page
    assert found.sentences[0] in page
    assert "against" not in before.read_json(RESULT)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({"kind": "notebook"}, "is no verification"),
        ([], "is no verification"),
        ({"kind": "verification", "criteria": [{"id": "X"}]}, "of this version"),
        ({"kind": "verification", "criteria": [{"id": "X", "text": "x", "verdict": "FINE", "findings": []}]}, "of this version"),
    ],
)
def test_what_is_no_verification_is_an_error_that_says_so(content: Any, complaint: str, tmp_path: Path) -> None:
    before, after = _verification(tmp_path, "a", X=PASS), _verification(tmp_path, "b", X=PASS)
    (after.path / RESULT).write_text(json.dumps(content))
    with pytest.raises(EvidenceError, match=complaint):
        regress(before.path, after.path)
