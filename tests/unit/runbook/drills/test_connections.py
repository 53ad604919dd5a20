"""The judgement of a hundred at once, on histories and loads written by hand."""

import dataclasses

import pytest

from runbook.drills.connections import judge_callers, judge_rated, judge_served
from runbook.evidence import Finding, Verdict
from runbook.load import History, Outcome, Record
from tests.unit.runbook.drills.loads import offered

PASS, INCONCLUSIVE, FAIL = Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL
MS = 1_000_000


def _call(number: int, took_ms: float, *, late_ms: float = 0.0, operation: str = "GET", worker: int = 0) -> Record:
    """A call that should start on the hundredth of a second that is its number."""
    intended_ns = number * 10 * MS
    sent_ns = intended_ns + round(late_ms * MS)
    return Record(worker, operation, "", intended_ns, sent_ns, sent_ns + round(took_ms * MS), Outcome.OK)


def _failed(record: Record, error: str = "Unavailable: gone", outcome: Outcome = Outcome.FAIL) -> Record:
    return dataclasses.replace(record, outcome=outcome, error=error)


def _measured(finding: Finding) -> dict[str, object]:
    return {measurement.name: measurement.value for measurement in finding.measured}


def _measured(finding: Finding) -> dict[str, object]:
    return {measurement.name: measurement.value for measurement in finding.measured}


CALLERS = 3


def _served(rounds: int = 400) -> list[Record]:
    return [_call(n, 0.3, worker=n % CALLERS, operation="SET") for n in range(rounds * CALLERS)]


def test_callers_that_are_all_connected_and_served_pass() -> None:
    finding = judge_callers(History(_served()), CALLERS, busy=3)
    assert (finding.verdict, finding.criterion, finding.reason) == (PASS, "P-1", "")
    assert _measured(finding)["callers served"] == 3


@pytest.mark.parametrize("busy", [0, 2, 4])
def test_another_number_of_connections_than_callers_fails(busy: int) -> None:
    finding = judge_callers(History(_served()), CALLERS, busy)
    assert finding.verdict is FAIL
    assert finding.reason == f"the server saw {busy} of 3 connections at once"


@pytest.mark.parametrize("outcome", [Outcome.FAIL, Outcome.UNKNOWN])
def test_a_single_failed_call_fails_and_is_named(outcome: Outcome) -> None:
    calls = _served()
    calls[5] = _failed(calls[5], "PoolExhausted: all 3 connections", outcome)
    finding = judge_callers(History(calls), CALLERS, busy=3)
    assert finding.verdict is FAIL
    assert finding.reason == "1 of 1200 calls failed, first: PoolExhausted: all 3 connections"


def test_a_caller_without_a_turn_is_inconclusive() -> None:
    calls = [record for record in _served() if record.worker != 1]
    finding = judge_callers(History(calls), CALLERS, busy=3)
    assert finding.verdict is INCONCLUSIVE
    assert finding.reason == "only 2 of 3 callers had a turn: measure for longer"


def test_no_calls_at_all_are_inconclusive() -> None:
    assert judge_callers(History([]), CALLERS, busy=3).verdict is INCONCLUSIVE


CLAIM = "3 connections: every call is answered"


def test_a_load_in_which_every_call_is_answered_passes_however_slow() -> None:
    finding = judge_served(offered(*[40.0] * 2000), CLAIM)
    assert (finding.verdict, finding.criterion, finding.claim) == (PASS, "P-1", CLAIM)
    assert _measured(finding)["p99 of all calls"] == pytest.approx(40, rel=1e-3)


def test_a_load_with_a_single_failed_call_fails() -> None:
    finding = judge_served(offered(*[0.2] * 2000, errors={("GET", "no reply within 5 s of the end"): 1}), CLAIM)
    assert finding.verdict is FAIL
    assert finding.reason == "1 of 2001 calls failed, first: no reply within 5 s of the end"


def test_a_load_without_a_call_is_inconclusive() -> None:
    assert judge_served(offered(), CLAIM).verdict is INCONCLUSIVE


def test_a_load_that_lost_a_connection_fails() -> None:
    load = offered(*[0.2] * 2000)
    lost = dataclasses.replace(load, recording=dataclasses.replace(load.recording, lost=1))
    assert judge_served(lost, CLAIM).verdict is FAIL


def test_a_stated_rate_is_held_against_the_limit_beyond_the_control() -> None:
    assert judge_rated(offered(*[0.2] * 2000)).verdict is PASS
    assert judge_rated(offered(*[3.0] * 2000, control_ms=[3.0] * 2000)).verdict is PASS
    finding = judge_rated(offered(*[*[0.2] * 9, 3.0] * 200))
    assert (finding.verdict, finding.criterion, finding.measured[0].value) == (FAIL, "P-1", 10.0)


def test_a_stated_rate_with_a_failed_call_fails_however_fast() -> None:
    finding = judge_rated(offered(*[0.2] * 2000, errors={("GET", "connection lost"): 1}))
    assert (finding.verdict, finding.reason) == (FAIL, "1 of 2001 calls failed, first: connection lost")


def test_a_stated_rate_with_too_few_calls_is_inconclusive() -> None:
    assert judge_rated(offered(*[0.2] * 50)).verdict is INCONCLUSIVE
