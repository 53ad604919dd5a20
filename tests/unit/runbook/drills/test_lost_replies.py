"""What the drill of lost replies concludes, from hand-written tallies: each promise has a known-bad that it must catch."""

import dataclasses
from typing import Any

import pytest

from runbook.drills.lost_replies import CONTROL, OURS, Result, Tally, drill, judge_tallies
from runbook.evidence import Verdict
from runbook.report.tables import lost_replies_table

ONCE = Tally(asked=20, lost=20, acknowledged=0, unknown=20, counted=20)
TWICE = Tally(asked=20, lost=20, acknowledged=20, unknown=0, counted=40)
GOOD = {OURS[0]: ONCE, OURS[1]: ONCE, CONTROL: TWICE}


def verdict(client: str = OURS[0], **changes: Any) -> Verdict:
    return judge_tallies({**GOOD, client: dataclasses.replace(GOOD[client], **changes)}).verdict


def test_ours_once_and_the_control_twice_passes() -> None:
    assert judge_tallies(GOOD).verdict is Verdict.PASS


@pytest.mark.parametrize("client", OURS)
def test_one_increment_too_many_fails(client: str) -> None:
    assert verdict(client, counted=21, acknowledged=1) is Verdict.FAIL


@pytest.mark.parametrize("client", OURS)
def test_acknowledged_and_not_applied_fails(client: str) -> None:
    assert verdict(client, counted=19, acknowledged=20, unknown=0) is Verdict.FAIL


@pytest.mark.parametrize("client", OURS)
def test_caller_who_was_told_neither_fails(client: str) -> None:
    assert verdict(client, unknown=19) is Verdict.FAIL


def test_control_that_was_right_makes_a_pass_inconclusive() -> None:
    assert verdict(CONTROL, counted=20) is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("changes", [{"lost": 19}, {"doubts": ("no command held b'INCR'",)}], ids=["too few", "unproven"])
def test_loss_that_was_not_observed_makes_a_pass_inconclusive(changes: Any) -> None:
    assert verdict(**changes) is Verdict.INCONCLUSIVE


def test_what_is_not_ours_gets_no_proxy() -> None:
    class Elsewhere:
        name = "remote"

    (finding,) = drill(Elsewhere(), increments=1).findings  # type: ignore[arg-type]
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert "not before a remote one" in finding.reason


def test_no_increment_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one increment, got 0"):
        drill(None, increments=0)  # type: ignore[arg-type]


def test_table_shows_what_was_applied_too_often() -> None:
    text = lost_replies_table(Result(GOOD)).text()
    assert "applied too often" in text
    assert CONTROL in text
