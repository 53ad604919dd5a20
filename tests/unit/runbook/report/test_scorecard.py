"""The scorecard: a success counts for a while, what never ran is said, and each state is a word and not only a colour."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from runbook.evidence.archive import Entry
from runbook.evidence.verdict import Verdict
from runbook.report.scorecard import FRESH_DAYS, RECENT, Freshness, Row, Scorecard, age_text, scorecard_of
from tests.unit.runbook.report.entries import entry

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
TODAY, TWO_WEEKS_AGO, LONG_AGO = "2026-03-10", "2026-02-24", "2026-01-01"
CATALOGUE = {"notebook": ["setup"], "drill": ["kill"]}


def ran(name: str = "setup", day: str = TODAY, number: int = 1, **content: Any) -> Entry:
    kind = "drill" if name == "kill" else "notebook"
    return entry(number, day=day, **{"kind": kind, "name": name, **content})


def card(*entries: Entry) -> Scorecard:
    return scorecard_of(entries, CATALOGUE, NOW)


def row(found: Scorecard, name: str = "setup") -> Row:
    return next(row for row in found.rows if row.name == name)


def test_what_never_ran_is_in_a_row_of_its_own() -> None:
    found = card()
    assert [(row.kind, row.name, row.freshness(NOW)) for row in found.rows] == [
        ("notebook", "setup", Freshness.NEVER),
        ("drill", "kill", Freshness.NEVER),
    ]
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.sentence == "Nothing ran yet: 0 of 2 are fresh, 2 never run, 0 stale, 0 failing."


def test_each_target_has_a_row_of_its_own() -> None:
    found = card(ran(target="embedded"), ran(target="compose", verdict="FAIL"))
    assert [(row.target, row.verdict) for row in found.rows if row.name == "setup"] == [("compose", "FAIL"), ("embedded", "PASS")]


def test_a_notebook_and_a_drill_of_the_same_name_are_two_things() -> None:
    found = scorecard_of([ran("setup")], {"notebook": [], "drill": ["setup"]}, NOW)
    assert row(found).freshness(NOW) is Freshness.NEVER


def test_what_is_no_longer_in_the_catalogue_is_left_out() -> None:
    assert {row.name for row in card(ran("renamed")).rows} == {"setup", "kill"}


@pytest.mark.parametrize(
    ("name", "day", "freshness"),
    [
        ("setup", TODAY, Freshness.FRESH),
        ("setup", TWO_WEEKS_AGO, Freshness.STALE),
        ("kill", TWO_WEEKS_AGO, Freshness.FRESH),  # drills are practised less often
        ("kill", LONG_AGO, Freshness.STALE),
    ],
)
def test_a_success_counts_for_as_long_as_the_policy_says(name: str, day: str, freshness: Freshness) -> None:
    assert row(card(ran(name, day)), name).freshness(NOW) is freshness


def test_a_success_becomes_stale_at_the_moment_that_the_row_names() -> None:
    found = row(card(ran()))
    assert found.due == datetime(2026, 3, 10, 10, 1, tzinfo=UTC) + timedelta(days=FRESH_DAYS["notebook"])
    assert found.freshness(found.due) is Freshness.FRESH
    assert found.freshness(found.due + timedelta(seconds=1)) is Freshness.STALE


@pytest.mark.parametrize(
    ("last", "verdict", "first"),
    [
        ({"verdict": "INCONCLUSIVE"}, Verdict.INCONCLUSIVE, "Never passed: "),
        ({"verdict": None, "broken": "the kernel died"}, Verdict.INCONCLUSIVE, "Never passed: "),
        ({"verdict": "FAIL"}, Verdict.FAIL, "Failing: "),
    ],
)
def test_what_ran_and_never_passed_is_neither_stale_nor_a_pass(last: dict[str, Any], verdict: Verdict, first: str) -> None:
    found = card(ran(**last), ran("kill"))
    assert (row(found).freshness(NOW), row(found).succeeded) == (Freshness.NEVER_PASSED, None)
    assert (found.verdict, found.look) == (verdict, verdict)
    assert found.sentence.startswith(first)
    assert "1 never passed (setup on embedded)" in found.sentence or found.failing
    assert bool(found.broken) is (last["verdict"] is None)


def test_a_failure_after_a_success_is_failing_though_the_success_is_fresh() -> None:
    found = card(ran(day="2026-03-09"), ran(verdict="FAIL", number=2))
    assert (row(found).verdict, row(found).freshness(NOW)) == ("FAIL", Freshness.FRESH)
    assert (found.verdict, found.failing) == (Verdict.FAIL, [row(found)])
    assert found.sentence.startswith("Failing: 1 of 2 are fresh, 1 never run, 0 stale, 1 failing (setup on embedded).")


def test_all_that_ever_ran_is_fresh_and_passes() -> None:
    found = card(ran(), ran("kill", TWO_WEEKS_AGO))
    assert (found.verdict, found.sentence) == (Verdict.PASS, "Fresh: 2 of 2 are fresh, 0 never run, 0 stale, 0 failing.")
    assert found.look is Verdict.PASS


def test_what_was_never_run_fails_nothing_and_is_not_shown_as_proven() -> None:
    found = card(ran())
    assert (found.verdict, found.look) == (Verdict.PASS, Verdict.INCONCLUSIVE)
    assert found.sentence.startswith("Fresh, as far as it ran: 1 of 2 are fresh, 1 never run")


@pytest.mark.parametrize("last", [{"verdict": "INCONCLUSIVE"}, {"verdict": None, "broken": "the kernel died"}])
def test_a_fresh_success_before_a_run_that_decided_nothing_is_undecided(last: dict[str, Any]) -> None:
    found = card(ran(day="2026-03-09"), ran(number=2, **last))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert bool(found.broken) is (last["verdict"] is None)


def test_of_the_newest_runs_the_undecided_ones_are_counted() -> None:
    old = [ran(number=number, verdict="INCONCLUSIVE") for number in range(30)]
    new = [ran(number=number) for number in range(RECENT - 3)]
    undecided = [ran(verdict="INCONCLUSIVE"), ran(verdict=None, broken="the kernel died"), ran(verdict="FAIL")]
    found = row(card(*old, *new, *undecided))
    assert (found.undecided, found.recent, found.runs) == (2, RECENT, 30 + RECENT)


def test_an_interrupted_run_says_nothing() -> None:
    ended = ran(number=2, verdict=None, broken="it was interrupted", interrupted=True)
    assert card(ran(), ended).rows == card(ran()).rows
    assert row(card(ended)).freshness(NOW) is Freshness.NEVER


def test_the_last_run_is_the_one_that_ended_last() -> None:
    found = card(ran(verdict="FAIL", number=1), ran(day="2026-03-09", number=2))
    assert row(found).verdict is Verdict.FAIL


def test_the_terminal_has_a_line_for_each_row_and_the_sentence_last() -> None:
    lines = card(ran(), ran("kill", LONG_AGO)).text().splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["setup", "kill"]
    assert "FRESH" in lines[1]
    assert "STALE" in lines[2]
    assert lines[-1].startswith("Stale: 1 of 2 are fresh, 0 never run, 1 stale (kill on embedded)")


@pytest.mark.parametrize(
    ("ago", "text"), [({"seconds": -5}, "0 min"), ({"minutes": 90}, "90 min"), ({"hours": 47}, "47 hours"), ({"days": 2}, "2 days")]
)
def test_an_age_is_told_in_the_unit_in_which_one_would_say_it(ago: dict[str, int], text: str) -> None:
    assert age_text(NOW - timedelta(**ago), NOW) == text


def test_five_thousand_entries_are_summed_up_in_time() -> None:
    entries = [ran("setup" if number % 2 else "kill", number=number) for number in range(5000)]
    began_s = time.perf_counter()
    assert card(*entries).verdict is Verdict.PASS
    assert time.perf_counter() - began_s < 2.0  # it takes a tenth of that
