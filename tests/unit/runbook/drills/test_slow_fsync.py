"""The drill of the slow fsync: its bounds, and when it can't tell."""

import dataclasses
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from runbook.drills import slow_fsync
from runbook.drills.checkers import Account
from runbook.drills.faults.disk import BentSync
from runbook.drills.slow_fsync import COUNTED_S, MOST_DELAY_S, SPARE_S, End, judge_ends
from runbook.evidence import Finding, Verdict, verdict_of
from tests.unit.runbook.drills.spells import lost

PASS, INCONCLUSIVE, FAIL = Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL


NOT_INSIDE = "no slow fsync was under way at the end"


def _end(found: Account, *doubts: str, delayed: int = 1, into_s: float = 2.5, delay_s: float = 3.0) -> End:
    return End(delay_s, into_s, found, 0.3, delayed, doubts)


def _last(seconds: float) -> Account:
    return lost(*range(400 - round(seconds * 100), 400))


KILL, CONTROL, STOP, CUT = _end(_last(1.5)), _end(lost(), delayed=0), _end(lost()), _end(_last(2.5))


def _judge(
    kills: Sequence[End] = (KILL,), controls: Sequence[End] = (CONTROL,), stop: End = STOP, cuts: Sequence[End] = (CUT,), uncut: str = ""
) -> dict[str, Finding]:
    return {finding.claim: finding for finding in judge_ends(kills, controls, stop, cuts, uncut)}


def test_a_good_run_passes_and_shows_what_the_server_is_known_for() -> None:
    findings = _judge()
    assert verdict_of(findings.values()) is PASS
    assert [claim for claim, finding in findings.items() if finding.is_known] == [slow_fsync.NOTHING_LOST, slow_fsync.CUT_AS_EVER]


def test_a_kill_that_costs_more_than_is_held_back_fails() -> None:
    assert _judge(kills=[KILL, _end(_last(2.3))])[slow_fsync.LOST].verdict is FAIL


def test_a_kill_that_costs_one_out_of_the_midst_fails() -> None:
    assert _judge(kills=[_end(lost(390))])[slow_fsync.LOST].verdict is FAIL


def test_a_stop_that_costs_anything_fails() -> None:
    assert _judge(stop=_end(_last(0.01)))[slow_fsync.STOPPED].verdict is FAIL


@pytest.mark.parametrize(("delay_s", "bound_s"), [(1.5, 4.0), (3.0, 7.0)])
def test_a_power_cut_that_costs_more_than_two_of_its_own_fsyncs_and_a_second_fails(delay_s: float, bound_s: float) -> None:
    for beyond_s, verdict in {-0.1: PASS, 0.1: FAIL}.items():
        wide = dataclasses.replace(_last(3.9), windows_s=(bound_s + beyond_s,))
        findings = _judge(cuts=[_end(_last(3.9), delay_s=4.0), _end(wide, delay_s=delay_s)])
        assert findings[slow_fsync.CUT].verdict is verdict
        assert findings[slow_fsync.CUT_AS_EVER].is_known is (verdict is PASS)


@pytest.mark.parametrize("more", [_end(lost(390)), _end(lost(more=("0:3",))), _end(_last(2.3))])
def test_what_is_not_documented_beside_a_known_loss_weighs(more: End) -> None:
    findings = _judge(kills=[KILL, more])
    assert findings[slow_fsync.NOTHING_LOST].verdict is FAIL
    assert not findings[slow_fsync.NOTHING_LOST].is_known


@pytest.mark.parametrize(
    ("told", "doubts"),
    [
        ("7 fdatasync(8) = 0 (DELAYED)\n7 fdatasync(8) = ?\n", ()),
        ("7 fdatasync(8) = 0 (DELAYED)\n7 fdatasync(8", ()),
        ("7 fdatasync(8) = ?\n", ("only 0 slow fsyncs of 1 were over at the end",)),
        ("7 fdatasync(8) = 0 (DELAYED)\n", (NOT_INSIDE,)),
        ("7 fdatasync(8) = 0 (DELAYED)\n7 fdatasync(8) = -1 EIO (Input/output error) (DELAYED)\n", (NOT_INSIDE,)),
    ],
    ids=["killed in the second", "in the second", "in the first", "behind the first", "ended after the cut"],
)
def test_an_end_is_proven_by_the_log_of_strace_alone(tmp_path: Path, told: str, doubts: tuple[str, ...]) -> None:
    log = tmp_path / "log"
    log.write_text(told)
    assert slow_fsync.unproven(BentSync(log, "(DELAYED)"), after=1) == doubts


def test_a_slow_fsync_that_the_server_did_not_tell_of_fails() -> None:
    found = _judge(kills=[_end(_last(1.5), delayed=0)])[slow_fsync.TOLD]
    assert (found.verdict, found.reason) == (FAIL, "1 of 1 times it stayed 0, first 2.5 s into an fsync")


@pytest.mark.parametrize(
    ("claim", "findings"),
    [
        (slow_fsync.LOST, _judge(kills=[_end(lost(), NOT_INSIDE)])),
        (slow_fsync.TOLD, _judge(kills=[_end(lost(), NOT_INSIDE, delayed=0)])),
        (slow_fsync.TOLD, _judge(kills=[_end(_last(0.4), into_s=0.5, delayed=0)])),
        (slow_fsync.STOPPED, _judge(stop=_end(lost(), NOT_INSIDE))),
        (slow_fsync.CUT, _judge(cuts=[], uncut="only root may mount a disk")),
        (slow_fsync.LESS, _judge(controls=[_end(_last(1.5))])),
    ],
)
def test_what_can_not_be_told_is_inconclusive(claim: str, findings: dict[str, Finding]) -> None:
    assert findings[claim].verdict is INCONCLUSIVE
    assert findings[claim].reason


@pytest.mark.parametrize("seed", range(20))
def test_the_moment_of_a_kill_lies_within_its_fsync_and_a_late_one_where_the_server_has_counted_it(seed: int) -> None:
    for late in (True, False):
        delay_s, into_s = slow_fsync._moment(random.Random(seed), late=late)
        assert into_s <= delay_s - SPARE_S + 1e-9
        assert delay_s <= MOST_DELAY_S
        assert (into_s >= COUNTED_S) is late
