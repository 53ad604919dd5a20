"""The numbers that lead the page are found where notebooks measured them, and are never made up."""

from typing import Any

from runbook.evidence.criteria import CRITERIA
from runbook.evidence.headline import HEADLINES, headlines


def _result(claim: str, name: str, value: float | None, *, verdict: str = "PASS", earned: str | None = "PASS") -> dict[str, Any]:
    measured = {"name": name, "value": value, "unit": "ms", "samples": 9000, "threshold": "< 1 ms"}
    finding = {"criterion": "P-2", "claim": claim, "verdict": verdict, "reason": "", "measured": [measured], "known": ""}
    return {"run": "r1", "notebook": "latency-benchmark", "verdict": earned, "findings": [finding]}


GET, OVER = "At most 1% of GET take over 1 ms, what the host does taken off", "GET over 1 ms beyond the control"


def test_there_are_three_to_five_and_each_speaks_for_a_criterion() -> None:
    assert 3 <= len(HEADLINES) <= 5
    assert {headline.criterion for headline in HEADLINES} <= CRITERIA.keys()
    assert len({headline.name for headline in HEADLINES}) == len(HEADLINES)


def test_a_number_comes_with_its_limit_its_verdict_and_where_it_was_measured() -> None:
    (headline,) = headlines([_result(GET, OVER, 0.41, verdict="INCONCLUSIVE")], None)
    assert (headline["value"], headline["unit"], headline["threshold"]) == (0.41, "ms", "< 1 ms")
    assert (headline["criterion"], headline["run"], headline["verdict"], headline["before"]) == ("P-2", "r1", "INCONCLUSIVE", None)


def test_it_stands_beside_the_number_of_the_accepted_run() -> None:
    accepted = {"headlines": headlines([_result(GET, OVER, 0.38)], None)}
    assert [each["before"] for each in headlines([_result(GET, OVER, 0.41)], accepted)] == [0.38]


def test_what_was_not_measured_is_left_out() -> None:
    assert headlines([_result(GET, OVER, None)], None) == []
    assert headlines([_result(GET, "SET over 1 ms beyond the control", 0.4)], None) == []
    assert headlines([_result("At most 1% of SET take over 1 ms", OVER, 0.4)], None) == []


def test_a_broken_notebook_gives_no_headline() -> None:
    assert headlines([_result(GET, OVER, 0.4, earned=None)], None) == []


def test_an_accepted_run_of_before_there_were_headlines_compares_with_nothing() -> None:
    assert headlines([_result(GET, OVER, 0.4)], {"kind": "verification"})[0]["before"] is None
