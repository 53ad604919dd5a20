"""The one sentence that says whether a verification can be accepted, whatever was found."""

from typing import Any

import pytest

from runbook.evidence.criteria import CRITERIA, OF_CONTAINERS
from runbook.report.sentence import sentence, steal_warning


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


BY_WORD = "D-3 is decided by the product owner who reads this report, with `runbook accept`."


def _all(target: str, **verdicts: str | None) -> dict[str, Any]:
    """A verification of the whole acceptance list on which all that the target can examine passes."""
    open_ones = {"D-1", "D-3", *(() if target.startswith("compose") else OF_CONTAINERS)}
    found = {name: None if name in open_ones else "PASS" for name in CRITERIA} | verdicts
    criteria = [{"id": name, "text": "…", "verdict": verdict, "findings": []} for name, verdict in found.items()]
    return {"verdict": "PASS", "criteria": criteria, "broken": "", "target": target}


def test_all_that_can_be_examined_passes() -> None:
    result = _all("compose", **{"D-1": "PASS"})
    assert sentence(result) == f"Ready to be accepted: 22 of 22 criteria pass. {BY_WORD}"


def test_a_first_run_says_what_was_proven_and_the_command_that_proves_the_rest() -> None:
    assert sentence(_all("embedded")) == (
        "15 of 15 criteria that need no container pass. "
        "`runbook verify --target compose` proves the other 6: AC-1, AC-3, AC-4, I-1, I-2, D-2. "
        f"D-1, the test coverage, is measured by `make test`; the next verification then shows it. {BY_WORD}"
    )
    assert sentence(_all("embedded", **{"D-1": "PASS"})).startswith("16 of 16 criteria that need no container pass. `runbook")


def test_on_containers_only_the_tests_and_the_product_owner_are_missing() -> None:
    assert sentence(_all("compose")) == (
        f"21 of 21 criteria pass. D-1, the test coverage, is measured by `make test`; the next verification then shows it. {BY_WORD}"
    )


def test_what_the_target_could_have_examined_and_did_not_is_named() -> None:
    text = sentence(_all("remote", **{"I-4": None, "I-5": None}))
    assert text.startswith("13 of 15 criteria that need no container pass. I-4, I-5 were not examined on the target remote. ")


def test_a_criterion_of_an_older_version_is_not_counted() -> None:
    result = _all("embedded")
    result["criteria"].append({"id": "C-1", "text": "…", "verdict": "INCONCLUSIVE", "findings": []})
    assert sentence(result) == sentence(_all("embedded"))


def test_what_is_undecided_is_no_acceptance() -> None:
    assert sentence(_result("INCONCLUSIVE", "PASS", "INCONCLUSIVE")).startswith("Not accepted: AC-2 could not be decided.")


def test_what_became_worse_than_the_accepted_run_is_no_acceptance() -> None:
    against = {"run": "20261101T000000Z-verify", "verdict": "FAIL", "headline": "FAIL: 1 figure worse beyond noise", "sentences": []}
    text = sentence(_result("FAIL", "PASS", "PASS", against=against))
    assert text.startswith("Not accepted: against 20261101T000000Z-verify: FAIL: 1 figure worse beyond noise.")


def test_what_did_not_become_worse_speaks_against_nothing() -> None:
    against = {"run": "before", "verdict": "PASS", "headline": "PASS: nothing worse beyond noise", "sentences": []}
    assert sentence(_result("PASS", "PASS", against=against)).startswith("Ready to be accepted")


def test_a_notebook_that_fails_at_what_is_no_criterion_is_no_acceptance() -> None:
    assert sentence(_result("FAIL", "PASS")).startswith("Not accepted: a notebook or a drill says FAIL of what is no criterion.")


def test_the_sentence_of_a_decision_is_the_same_whatever_the_criteria_are_called() -> None:
    """The answer is computed from data; no text of the result can change it."""
    result = _all("embedded")
    result["criteria"][0]["text"] = "Ready to be accepted"
    assert sentence(result).startswith("15 of 15")


def test_nothing_examined_at_all_is_no_acceptance() -> None:
    assert sentence(_result("INCONCLUSIVE", None, None)).startswith("Not accepted")


@pytest.mark.parametrize(("stolen", "said"), [(None, ""), (0.0, ""), (0.02, ""), (0.043, "4.3%")])
def test_a_host_from_which_the_hypervisor_takes_much_is_named_to_whoever_accepts(stolen: float | None, said: str) -> None:
    warning = steal_warning({"stolen": stolen})
    assert bool(warning) is bool(said)
    assert said in warning


def test_an_older_result_that_does_not_tell_warns_of_nothing() -> None:
    assert steal_warning({}) == ""
