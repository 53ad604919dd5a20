"""Trials of a broken network written by hand, one for each thing that the judgement must not let pass."""

import dataclasses
from typing import Any

import pytest

from runbook.drills.faults import Impact
from runbook.drills.lost_replies import CONTROL, Tally
from runbook.drills.network import CASES, COUNTERS, DEADLINE_S, LOOK_DEADLINE_S, LOOKERS, Trial, judge_control, judge_trial
from runbook.evidence import Verdict
from runbook.load import History, Outcome, Record
from tests.unit.runbook.drills.control import late as late_control

PASS, INCONCLUSIVE, FAIL = Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL
ONCE, IN_TIME, GOING_ON = range(3)
BROKEN_S, HEALED_S = 1.0, 2.0

LOST = "OutcomeUnknown: INCR was sent and its reply was lost"
GONE = "Unavailable: PING got no answer"


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _call(operation: str, worker: int, sent_s: float, took_s: float = 0.001, outcome: Outcome = Outcome.OK, error: str = "") -> Record:
    return Record(worker, operation, "", _ns(sent_s), _ns(sent_s), _ns(sent_s + took_s), outcome, error)


def _around(operation: str, workers: int) -> list[Record]:
    """Calls of each worker before the fault and after its healing, all of them answered."""
    moments_s = [*(0.1 * n for n in range(9)), *(HEALED_S + 0.1 * n for n in range(1, 5))]
    return [_call(operation, worker, moment_s) for moment_s in moments_s for worker in range(workers)]


COUNTED = _around("INCR", COUNTERS)
UNKNOWN = _call("INCR", 0, 1.1, DEADLINE_S, Outcome.UNKNOWN, LOST)
LOOKED = _around("PING", LOOKERS)
TOLD = _call("PING", 0, 1.1, LOOK_DEADLINE_S, Outcome.FAIL, GONE)


def _impact(*doubts: str, broken_s: float = BROKEN_S, healed_s: float = HEALED_S) -> Impact:
    return Impact("black_hole", broken_ns=_ns(broken_s), healed_ns=_ns(healed_s), _doubts=doubts)


def _verdicts(name: str = "a black hole", **changes: Any) -> list[tuple[Verdict, str]]:
    good = Trial([_impact()], History([*COUNTED, UNKNOWN]), History([*LOOKED, TOLD]), len(COUNTED))
    return [(finding.verdict, finding.reason) for finding in judge_trial(name, dataclasses.replace(good, **changes))]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("applied", [0, 1], ids=["unknown not applied", "unknown applied"])
def test_each_fault_that_harmed_nothing_passes(name: str, applied: int) -> None:
    assert _verdicts(name, counted=len(COUNTED) + applied) == [(PASS, "")] * 3


def test_an_increment_too_many_fails() -> None:
    verdict, reason = _verdicts(counted=len(COUNTED) + 2)[ONCE]
    assert verdict is FAIL
    assert f"1 counted too often: the counter holds {len(COUNTED) + 2} of {len(COUNTED)} + 1" in reason
    assert "perhaps counted twice: worker 0 INCR" in reason


def test_an_acknowledged_increment_that_is_missing_fails() -> None:
    verdict, reason = _verdicts(counted=len(COUNTED) - 1)[ONCE]
    assert verdict is FAIL
    assert "1 lost, where 0 may be" in reason


def test_what_failed_and_was_applied_all_the_same_fails() -> None:
    failed = _call("INCR", 0, 1.1, DEADLINE_S, Outcome.FAIL, "Unavailable: INCR got no answer, and changed nothing")
    assert _verdicts("resets", increments=History([*COUNTED, failed]), counted=len(COUNTED) + 1)[ONCE][0] is FAIL


def test_no_increment_under_way_is_inconclusive_where_one_must_be() -> None:
    quiet: dict[str, Any] = {"increments": History(COUNTED)}
    assert _verdicts(**quiet)[ONCE] == (INCONCLUSIVE, "no INCR was under way when it struck")
    assert _verdicts("resets", **quiet)[ONCE] == (PASS, "")


def test_few_increments_are_inconclusive() -> None:
    verdict, reason = _verdicts(increments=History([*COUNTED[:19], UNKNOWN]), counted=19)[ONCE]
    assert verdict is INCONCLUSIVE
    assert "only 19 increments were acknowledged" in reason


@pytest.mark.parametrize(
    ("kind", "bad", "reason"),
    [
        ("increments", _call("INCR", 0, 1.1, DEADLINE_S + 0.2, Outcome.UNKNOWN, LOST), "1 calls ended late, first INCR 200 ms"),
        ("looks", _call("PING", 0, 1.1, LOOK_DEADLINE_S + 0.3, Outcome.FAIL, GONE), "1 calls ended late, first PING 300 ms"),
        ("looks", _call("PING", 0, 1.1, LOOK_DEADLINE_S + 0.3), "1 calls ended late, first PING 300 ms"),
        ("looks", _call("PING", 0, 1.1, 0.1, Outcome.UNKNOWN, "TimeoutError: timed out"), "first PING with TimeoutError: timed out"),
        ("looks", _call("PING", 0, 1.1, 0.1, Outcome.UNKNOWN, LOST), f"first PING with {LOST}"),
    ],
    ids=["late unknown", "late error", "late answer", "untyped error", "a read whose outcome is unknown"],
)
def test_a_call_that_ended_late_or_otherwise_fails(kind: str, bad: Record, reason: str) -> None:
    records = {"increments": [*COUNTED, UNKNOWN], "looks": [*LOOKED, TOLD]}[kind]
    verdict, said = _verdicts(**{kind: History([*records, bad])})[IN_TIME]
    assert verdict is FAIL
    assert reason in said


def test_a_call_no_later_than_the_control_is_not_held_against_the_client() -> None:
    late = _call("PING", 0, 1.1, LOOK_DEADLINE_S + 0.3, Outcome.FAIL, GONE)
    assert _verdicts(looks=History([*LOOKED, late]), control=late_control((1.32, 0.26)))[IN_TIME] == (PASS, "")
    verdict, reason = _verdicts(looks=History([*LOOKED, late]), control=late_control((1.32, 0.2)))[IN_TIME]
    assert verdict is FAIL
    assert "worst PING 300 ms, 100 ms of them beyond the control" in reason


def test_a_control_that_was_late_excuses_no_wrong_error() -> None:
    late = _call("PING", 0, 1.1, LOOK_DEADLINE_S + 0.3, Outcome.FAIL, "AttributeError: 'NoneType'")
    verdict, reason = _verdicts(looks=History([*LOOKED, TOLD, late]), control=late_control((1.1, 3)))[IN_TIME]
    assert verdict is FAIL
    assert "1 calls ended otherwise, first PING with AttributeError" in reason


def test_too_few_calls_are_inconclusive() -> None:
    verdict, reason = _verdicts("resets", looks=History(LOOKED[:4]))[IN_TIME]
    assert (verdict, reason) == (INCONCLUSIVE, "only 4 calls of the looker were made, 5 are needed")


def test_no_impatient_caller_told_is_inconclusive_where_one_must_be() -> None:
    assert _verdicts(looks=History(LOOKED))[IN_TIME] == (INCONCLUSIVE, "no impatient caller met it")
    assert _verdicts("resets", looks=History(LOOKED))[IN_TIME] == (PASS, "")


@pytest.mark.parametrize(("kind", "who"), [("increments", "counter 1"), ("looks", "looker 1")])
def test_a_caller_that_did_not_go_on_fails(kind: str, who: str) -> None:
    records = {"increments": [*COUNTED, UNKNOWN], "looks": [*LOOKED, TOLD]}[kind]
    stayed = [record for record in records if record.worker != 1 or record.sent_ns < _ns(HEALED_S)]
    assert _verdicts(**{kind: History(stayed)})[GOING_ON] == (FAIL, f"1 callers did not succeed again, first {who} after fault 1")


def test_a_success_behind_the_next_fault_is_no_recovery_from_this_one() -> None:
    between = [_impact(), _impact(broken_s=2.05, healed_s=2.06)]
    verdict, reason = _verdicts(impacts=between)[GOING_ON]
    assert verdict is FAIL
    assert "after fault 1" in reason


def test_a_fault_that_was_not_proven_is_inconclusive_and_hides_no_failure() -> None:
    assert _verdicts(impacts=[_impact("no connection was open")]) == [(INCONCLUSIVE, "no connection was open")] * 3
    assert _verdicts(impacts=[_impact("no connection was open")], counted=0)[ONCE][0] is FAIL


def test_control_that_applied_each_increment_once_is_inconclusive() -> None:
    twice = Tally(asked=10, lost=10, acknowledged=10, unknown=0, counted=20)
    assert judge_control({CONTROL: twice}).verdict is PASS
    assert judge_control({CONTROL: dataclasses.replace(twice, counted=10)}).verdict is INCONCLUSIVE
    assert judge_control({}).verdict is INCONCLUSIVE
