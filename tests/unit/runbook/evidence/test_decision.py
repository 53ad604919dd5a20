"""Five answers, each computed from data: no word of a claim, a reason or a sentence changes one."""

from typing import Any

import pytest

from runbook.evidence.decision import Decision, decision_of


def _result(verdict: str, *verdicts: str | None, broken: str = "", noise: str = "…") -> dict[str, Any]:
    ids = [*(f"AC-{number}" for number in range(1, len(verdicts) + 1)), "D-3"]
    criteria = [{"id": each, "text": noise, "verdict": found, "findings": []} for each, found in zip(ids, (*verdicts, None), strict=True)]
    return {"verdict": verdict, "criteria": criteria, "broken": broken}


CASES = [
    (_result("PASS", "PASS"), Decision.READY),
    (_result("PASS", "PASS", None), Decision.NOT_EXAMINED),
    (_result("INCONCLUSIVE", "PASS"), Decision.UNDECIDED),
    (_result("INCONCLUSIVE", None), Decision.UNDECIDED),
    (_result("INCONCLUSIVE", "PASS", broken="it was interrupted"), Decision.BROKEN),
    (_result("FAIL", "PASS"), Decision.FAILED),
    (_result("FAIL", "FAIL", None, broken="setup did not come to a verdict"), Decision.FAILED),
]


@pytest.mark.parametrize(("result", "decision"), CASES)
def test_each_decision_follows_from_the_verdict_and_from_what_is_missing(result: dict[str, Any], decision: Decision) -> None:
    assert decision_of(result) is decision


@pytest.mark.parametrize("noise", ["Ready to be accepted", "Not accepted: FAIL", "PASS", ""])
@pytest.mark.parametrize(("result", "decision"), CASES)
def test_no_text_changes_a_decision(result: dict[str, Any], decision: Decision, noise: str) -> None:
    criteria = [{**each, "text": noise} for each in result["criteria"]]
    assert decision_of({**result, "criteria": criteria, "title": noise}) is decision
