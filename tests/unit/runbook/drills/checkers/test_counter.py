"""Histories of a counter written by hand, one for each thing that must be caught, and random ones with a seeded defect."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook.drills.checkers import tally
from runbook.load import History, Outcome, Record

OK, FAIL, UNKNOWN = Outcome.OK, Outcome.FAIL, Outcome.UNKNOWN
SECOND = 1_000_000_000


def increment(number: int, outcome: Outcome = OK, took_s: float = 0.001) -> Record:
    sent_ns = number * SECOND
    return Record(0, "INCR", f"0:{number}", sent_ns, sent_ns, sent_ns + round(took_s * SECOND), outcome)


SIX = History([increment(number) for number in range(6)])
MIXED = History([increment(0), increment(1, FAIL), increment(2, UNKNOWN), increment(3)])


def test_a_counter_that_counts_what_was_acknowledged_is_clean() -> None:
    found = tally(SIX, 6)
    assert (found.attempted, found.acknowledged, found.lost, found.excess, found.corrupt) == (6, 6, 0, 0, ())
    assert found.counter_examples() == ""


@pytest.mark.parametrize("counted", [2, 3])
def test_an_increment_of_unknown_outcome_may_be_counted_or_not(counted: int) -> None:
    found = tally(MIXED, counted)
    assert (found.acknowledged, found.failed, found.unknown, found.corrupt) == (2, 1, 1, ())


def test_one_more_is_too_many_and_those_that_may_have_been_counted_twice_are_printed() -> None:
    found = tally(MIXED, 4)
    assert (found.excess, found.corrupt) == (1, ("1 counted too often: the counter holds 4 of 2 + 1",))
    assert found.counter_examples() == "perhaps counted twice: worker 0 INCR '0:2', sent at 2.000000 s, ended at 2.001000 s: unknown"


def test_one_less_is_lost_and_the_newest_are_printed() -> None:
    found = tally(SIX, 5)
    assert (found.lost, found.corrupt) == (1, ("1 lost, where 0 may be: the counter holds 5 of 6",))
    assert found.counter_examples(limit=1) == "among the lost: worker 0 INCR '0:5', sent at 5.000000 s, ended at 5.001000 s: ok"


@pytest.mark.parametrize(("window_s", "excusable"), [(0.0, 0), (0.5, 1), (1.0, 2), (2.5, 3), (99.0, 4)])
def test_an_outage_may_take_what_was_acknowledged_within_the_window_before_it(window_s: float, excusable: int) -> None:
    found = tally(SIX, 6 - excusable, [round(3.5 * SECOND)], window_s)
    assert (found.excusable, found.lost, found.corrupt) == (excusable, excusable, ())
    assert tally(SIX, 5 - excusable, [round(3.5 * SECOND)], window_s).corrupt


def test_each_outage_has_a_window_of_its_own() -> None:
    assert tally(SIX, 6, [round(1.5 * SECOND), round(3.5 * SECOND)], 0.5).excusable == 2


def test_nothing_sent_after_the_last_outage_may_be_lost() -> None:
    assert tally(SIX, 6, [0], 9.0).excusable == 0


def test_a_reply_under_way_at_the_cut_may_be_of_the_old_server() -> None:
    history = History([increment(0), increment(2, took_s=1.0), increment(4)])
    assert tally(history, 1, [round(2.5 * SECOND)], 0.5).excusable == 2


def test_other_operations_are_not_accounted_for() -> None:
    assert tally(History([Record(0, "GET", "", 0, 0, 1, OK)]), 0).attempted == 0


@st.composite
def clean_counts(draw: Callable[..., Any]) -> tuple[History, int]:
    outcomes = draw(st.lists(st.sampled_from([OK, OK, FAIL, UNKNOWN]), max_size=20))
    applied = sum(outcome is OK or (outcome is UNKNOWN and draw(st.booleans())) for outcome in outcomes)
    return History([increment(number, outcome) for number, outcome in enumerate(outcomes)]), applied


@given(clean_counts(), st.integers(1, 5))
def test_a_clean_count_is_never_accused_and_what_no_outcome_explains_always_caught(run: tuple[History, int], by: int) -> None:
    history, applied = run
    found = tally(history, applied)
    assert found.corrupt == ()
    assert tally(history, found.acknowledged - by).lost == by
    assert tally(history, found.acknowledged + found.unknown + by).excess == by
