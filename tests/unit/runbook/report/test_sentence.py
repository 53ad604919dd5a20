"""The one sentence that says whether a verification can be accepted, whatever was found."""

from typing import Any

import pytest

from runbook.report.sentence import look, sentence


def _result(
    verdict: str,
    *verdicts: str | None,
    broken: str = "",
    target: str = "embedded",
    against: dict[str, Any] | None = None,
    accepted_by_hand: str | None = "D-3",
) -> dict[str, Any]:
    criteria = [{"id": f"AC-{number}", "text": "…", "verdict": each, "findings": []} for number, each in enumerate(verdicts, 1)]
    criteria += [{"id": accepted_by_hand, "text": "…", "verdict": None, "findings": []}] if accepted_by_hand else []
    return {"verdict": verdict, "criteria": criteria, "broken": broken, "target": target, "against": against}


def test_one_criterion_that_fails_is_not_accepted_and_is_named() -> None:
    assert sentence(_result("FAIL", "PASS", "FAIL", "PASS")) == "Not accepted: AC-2 fails. 2 of 3 criteria pass."


def test_each_kind_of_trouble_is_named() -> None:
    text = sentence(_result("FAIL", "PASS", "FAIL", "FAIL", "INCONCLUSIVE", None, broken="setup did not come to a verdict"))
    assert text == (
        "Not accepted: AC-2, AC-3 fail; AC-4 could not be decided; setup did not come to a verdict. "
        "1 of 5 criteria pass, and 1 was not examined on the target embedded: AC-5."
    )


@pytest.mark.parametrize("word", ["fail", "could not be decided", "not examined", "Not accepted"])
def test_it_does_not_speak_of_what_there_was_none_of(word: str) -> None:
    assert word not in sentence(_result("PASS", "PASS", "PASS", "PASS"))


def test_all_that_can_be_examined_passes() -> None:
    text = sentence(_result("PASS", "PASS", "PASS"))
    assert (
        text == "Ready to be accepted: 2 of 2 criteria pass; D-3, the last one, is the word of whoever accepts it, with `runbook accept`."
    )


def test_what_is_open_beyond_the_story_is_said_and_keeps_nobody_from_accepting() -> None:
    result = _result("PASS", "PASS", "PASS")
    result["criteria"].append({"id": "C-1", "text": "…", "verdict": "INCONCLUSIVE", "findings": []})
    assert sentence(result).startswith("Ready to be accepted: 2 of 2 criteria pass (beyond the story, C-1 could not be decided); D-3, ")
    assert look(result) == "PASS"
    result["criteria"][-1]["verdict"] = None
    assert sentence(result) == sentence(_result("PASS", "PASS", "PASS"))
    result["criteria"][-1]["verdict"], result["verdict"] = "FAIL", "FAIL"
    assert sentence(result) == "Not accepted: C-1 fails. 2 of 2 criteria pass."


def test_what_was_not_examined_keeps_it_from_being_accepted() -> None:
    """A page on which nothing fails must not be taken for the acceptance of the whole story."""
    text = sentence(_result("PASS", "PASS", None, None, target="remote"))
    assert text == "Not accepted yet: 1 of 3 criteria pass and none fails, but 2 were not examined on the target remote: AC-2, AC-3."


def test_what_is_undecided_is_no_acceptance() -> None:
    assert sentence(_result("INCONCLUSIVE", "PASS", "INCONCLUSIVE")).startswith("Not accepted: AC-2 could not be decided.")


def test_what_became_worse_than_the_accepted_run_is_no_acceptance() -> None:
    against = {"run": "20261101T000000Z-verify", "verdict": "FAIL", "headline": "FAIL: 1 figure worse beyond noise", "sentences": []}
    text = sentence(_result("PASS", "PASS", "PASS", against=against))
    assert text.startswith("Not accepted: against 20261101T000000Z-verify: FAIL: 1 figure worse beyond noise.")


def test_what_did_not_become_worse_speaks_against_nothing() -> None:
    against = {"run": "before", "verdict": "PASS", "headline": "PASS: nothing worse beyond noise", "sentences": []}
    assert sentence(_result("PASS", "PASS", against=against)).startswith("Ready to be accepted")


def test_a_notebook_that_fails_at_what_is_no_criterion_is_no_acceptance() -> None:
    assert sentence(_result("FAIL", "PASS")).startswith("Not accepted: a notebook says FAIL of what is no criterion.")


def test_nothing_examined_at_all_is_no_acceptance() -> None:
    assert sentence(_result("INCONCLUSIVE", None, None)).startswith("Not accepted")


@pytest.mark.parametrize(
    ("result", "shown"),
    [
        (_result("PASS", "PASS"), "PASS"),
        (_result("PASS", "PASS", None), "INCONCLUSIVE"),
        (_result("INCONCLUSIVE", "INCONCLUSIVE"), "INCONCLUSIVE"),
        (_result("FAIL", "FAIL"), "FAIL"),
    ],
)
def test_only_what_can_be_accepted_is_shown_as_such(result: dict[str, Any], shown: str) -> None:
    assert look(result) == shown
