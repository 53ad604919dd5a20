"""What a run decided, case by case: whatever its exit status depends on is one of them."""

import pytest

from runbook.evidence import CRITERIA
from runbook.report.cases import cases_of
from tests.unit.runbook.report.results import RESULTS, against, drills, finding, notebook, verification


def _words(result: dict[str, object]) -> dict[str, str]:
    return {case.name: case.word for case in cases_of(result)}


def test_a_verification_has_a_case_for_each_criterion_of_the_story() -> None:
    words = _words(verification("FAIL", finding(), finding("FAIL", criterion="P-2")))
    assert list(words) == list(CRITERIA)
    assert (words["I-4"], words["P-2"], words["D-3"]) == ("PASS", "FAIL", "NOT EXAMINED")


def test_drills_have_a_case_each_with_the_time_that_it_took() -> None:
    assert _words(drills()) == {"stop": "PASS", "kill": "FAIL", "aof-damage": "INCONCLUSIVE", "pause": "BROKEN"}
    assert all(case.duration_s == 4.5 for case in cases_of(drills()))


@pytest.mark.parametrize("name", ["nothing found", "dead"])
def test_a_notebook_whose_verdict_no_criterion_carries_is_a_case_itself(name: str) -> None:
    """Else a report would show nothing but green where the exit status is 3 or 4."""
    result = RESULTS[name]
    assert _words(result) == {"persistence-drill": "BROKEN" if result["broken"] else "INCONCLUSIVE"}
    assert _words(verification("INCONCLUSIVE"))["persistence-drill"] == "INCONCLUSIVE"
    assert _words(verification("PASS", finding(), broken="the kernel died"))["setup"] == "BROKEN"


def test_a_notebook_whose_verdict_a_criterion_carries_is_none() -> None:
    assert list(_words(RESULTS["FAIL"])) == ["I-4"]
    assert "persistence-drill" not in _words(verification("FAIL", finding("FAIL")))


def test_what_a_broken_notebook_had_found_is_no_case() -> None:
    assert list(_words(notebook(None, finding(), broken="it was interrupted"))) == ["persistence-drill"]


def test_a_criterion_of_which_nothing_but_a_known_failure_speaks_is_not_examined() -> None:
    result = notebook("PASS", finding("FAIL", criterion="AC-2", known="it is documented"), finding())
    assert _words(result) == {"AC-2": "NOT EXAMINED", "I-4": "PASS"}


@pytest.mark.parametrize("verdict", ["PASS", "FAIL", "INCONCLUSIVE"])
def test_a_comparison_with_an_earlier_run_is_a_case(verdict: str) -> None:
    assert _words(verification("PASS", finding(), against=against(verdict)))["no worse than before"] == verdict


def test_a_claim_with_a_number_decides_before_one_without_and_a_control_last() -> None:
    control, bare, number = (
        finding(claim="Control: it sees"),
        {**finding(claim="It answers"), "measured": []},
        finding(claim="Nothing is lost"),
    )
    (case,) = cases_of(notebook("PASS", control, bare, number))
    assert [each["claim"] for each in case.deciding] == ["Nothing is lost", "It answers", "Control: it sees"]
