"""The page of the history: complete without a script, nothing in it can be more than text."""

import re

from runbook.report.history_page import MOST_RUNS, history_page
from tests.unit.runbook.report.entries import entry, measured

HOSTILE = """<script>alert("x")</script>&'"""


def test_a_number_that_changed_is_drawn_with_its_numbers_as_alternative_text() -> None:
    page = history_page([entry(1, measured(0.3)), entry(2, measured(0.6), day="2026-03-09")])
    assert "2 runs from 2026-03-01 to 2026-03-09: 2 PASS. Of 1 numbers held against a threshold, 1 changed" in page
    assert re.search(r'<svg [^>]*role="img" aria-label="GET p99 of latency-benchmark in 2 runs [^"]*between 0\.3 ms and 0\.6 ms', page)
    assert page.count("<title>run-") == 2


def test_a_number_that_did_not_change_is_a_line_of_a_table() -> None:
    page = history_page([entry(1, measured(0.3)), entry(2, measured(0.3))])
    assert "<svg" not in page
    assert "Numbers that did not change" in page
    assert "0.3 ms" in page


def test_runs_on_several_hosts_are_told() -> None:
    page = history_page([entry(1, measured(0.3)), entry(2, measured(0.6), host={"cpus": 64})])
    assert "measured on 2 hosts or versions" in page


def test_the_parameters_of_runs_are_told_where_they_part_a_number() -> None:
    runs = [(1, 0.3, 200), (2, 0.6, 200), (3, 0.3, 20000), (4, 0.3, 20000)]
    page = history_page([entry(number, measured(value), parameters={"rate_per_s": rate}) for number, value, rate in runs])
    assert "; rate_per_s=200</small>" in page
    assert "to 2026-03-01, with rate_per_s=200: between" in page
    assert "<small>rate_per_s=20000</small>" in page


def test_hostile_text_stays_text_and_nothing_is_fetched() -> None:
    bad = measured(0.3, f"< 1 {HOSTILE}", HOSTILE, HOSTILE, claim=HOSTILE)
    where = {"target": HOSTILE, "parameters": {HOSTILE: HOSTILE}}
    page = history_page([entry(1, bad, run=HOSTILE, **where), entry(2, {**bad, "value": 2}, verdict=None, broken=HOSTILE, **where)])
    assert "<script" not in page
    assert not re.search("https?:", page)


def test_of_very_many_runs_the_newest_are_listed() -> None:
    page = history_page([entry(number) for number in range(MOST_RUNS + 10)])
    assert f"The newest {MOST_RUNS} of {MOST_RUNS + 10}" in page
    assert "run-209<" in page
    assert "run-9<" not in page
