"""Histories of a set written by hand, one for each thing that must be caught, and random ones with a seeded defect."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook.drills.checkers import membership
from runbook.load import History, Outcome, Record

OK, FAIL, UNKNOWN = Outcome.OK, Outcome.FAIL, Outcome.UNKNOWN
SECOND = 1_000_000_000


def add(number: int, outcome: Outcome = OK) -> Record:
    return Record(0, "SADD", f"0:{number}", number * SECOND, number * SECOND, number * SECOND + 1000, outcome)


FOUR = [add(number) for number in range(4)]
ALL = {"0:0", "0:1", "0:2", "0:3"}


def test_a_set_that_holds_what_was_acknowledged_is_clean() -> None:
    found = membership(History(FOUR), ALL)
    assert (found.attempted, found.acknowledged, found.lost, found.corrupt, found.counter_examples()) == (4, 4, (), (), "")


@pytest.mark.parametrize("present", [ALL, ALL - {"0:1"}], ids=["applied", "not applied"])
def test_an_addition_of_unknown_outcome_may_be_there_or_not(present: set[str]) -> None:
    found = membership(History([FOUR[0], add(1, UNKNOWN), *FOUR[2:]]), present)
    assert (found.lost, found.corrupt, found.unknown, found.unknown_present) == ((), (), 1, len(present) - 3)


def test_a_member_that_is_gone_without_an_outage_is_lost_and_a_hole() -> None:
    found = membership(History(FOUR), ALL - {"0:3"})
    assert (found.lost, found.corrupt) == (("0:3",), ("1 holes, first 0:3",))
    assert found.counter_examples() == "lost as a hole: worker 0 SADD '0:3', sent at 3.000000 s, ended at 3.000001 s: ok"


def test_the_newest_members_may_be_lost_to_an_outage_and_their_window_is_told() -> None:
    found = membership(History(FOUR), {"0:0", "0:3"}, [round(2.5 * SECOND)])
    assert (found.lost, found.corrupt) == (("0:1", "0:2"), ())
    assert (found.windows_s, found.lost_window_s, found.lost_per_cut) == ((1.0,), 1.0, (2,))


def test_an_older_member_may_not() -> None:
    assert membership(History(FOUR), ALL - {"0:1"}, [round(2.5 * SECOND)]).holes == ("0:1",)


def test_a_member_that_nobody_added_is_a_phantom() -> None:
    found = membership(History(FOUR), {*ALL, "nobody's"})
    assert (found.phantom, found.corrupt) == (("nobody's",), ("1 phantom, first nobody's",))


def test_a_member_whose_addition_certainly_failed_is_a_phantom() -> None:
    found = membership(History([*FOUR[:3], add(3, FAIL)]), ALL)
    assert (found.phantom, found.failed) == (("0:3",), 1)
    assert found.counter_examples().startswith("phantom: worker 0 SADD '0:3', sent at 3.0")


def test_other_operations_are_not_accounted_for() -> None:
    assert membership(History([Record(0, "PING", "", 0, 0, 1, OK)]), ()).attempted == 0


@st.composite
def clean_sets(draw: Callable[..., Any]) -> tuple[list[Record], list[str]]:
    records = [add(number, draw(st.sampled_from([OK, OK, FAIL, UNKNOWN]))) for number in range(draw(st.integers(1, 12)))]
    there = [record.value for record in records if record.outcome is OK or (record.outcome is UNKNOWN and draw(st.booleans()))]
    return records, draw(st.permutations(there))


@given(clean_sets(), st.data())
def test_a_clean_set_is_never_accused_and_a_seeded_loss_or_phantom_always_caught(
    run: tuple[list[Record], list[str]], data: st.DataObject
) -> None:
    records, present = run
    found = membership(History(records), present)
    assert (found.lost, found.corrupt) == ((), ())
    phantom = data.draw(st.sampled_from(["0:12", "1:0", "x", *(record.value for record in records if record.outcome is FAIL)]))
    assert membership(History(records), [*present, phantom]).phantom == (phantom,)
    for record in records:
        if record.outcome is OK:
            assert membership(History(records), [value for value in present if value != record.value]).lost == (record.value,)
