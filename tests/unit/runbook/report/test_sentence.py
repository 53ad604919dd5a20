"""The one sentence that sums a verification up, whatever was found."""

from typing import Any

import pytest

from runbook.report.sentence import sentence


def _result(verdict: str, *verdicts: str | None, broken: str = "", target: str = "embedded") -> dict[str, Any]:
    criteria = [{"id": f"AC-{number}", "text": "…", "verdict": each, "findings": []} for number, each in enumerate(verdicts, 1)]
    return {"verdict": verdict, "criteria": criteria, "broken": broken, "target": target}


def test_it_begins_with_the_verdict() -> None:
    assert sentence(_result("PASS", "PASS")).startswith("PASS: ")


def test_it_counts_what_passed_of_all() -> None:
    assert sentence(_result("PASS", "PASS", "PASS", "PASS")) == "PASS: 3 of 3 criteria pass."


def test_it_counts_each_kind() -> None:
    text = sentence(_result("FAIL", "PASS", "FAIL", "FAIL", "INCONCLUSIVE", None))
    assert "1 of 5 criteria pass" in text
    assert "2 fail" in text
    assert "1 could not be decided" in text
    assert "1 were not examined on the target embedded" in text


@pytest.mark.parametrize("word", ["fail", "could not be decided", "not examined", "Broken"])
def test_it_does_not_speak_of_what_there_was_none_of(word: str) -> None:
    assert word not in sentence(_result("PASS", "PASS", "PASS"))


def test_what_was_not_examined_is_said_even_though_all_else_passes() -> None:
    """A page that says PASS must not be taken for the acceptance of the whole story."""
    text = sentence(_result("PASS", "PASS", None, None, target="remote"))
    assert "1 of 3 criteria pass" in text
    assert "2 were not examined on the target remote" in text


def test_a_broken_notebook_is_named() -> None:
    text = sentence(_result("INCONCLUSIVE", "PASS", broken="setup did not come to a verdict"))
    assert text.endswith("Broken: setup did not come to a verdict.")


def test_nothing_examined_at_all_can_be_said() -> None:
    assert "0 of 2 criteria pass" in sentence(_result("INCONCLUSIVE", None, None))
