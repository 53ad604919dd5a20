"""Trials of limits written by hand, one for each thing that the judgement must not let pass."""

import dataclasses
from typing import Any

import pytest

from runbook.drills.faults.limits import Reach
from runbook.drills.limits import CASES, MEETING, MEETING_DEADLINE_S, READING_DEADLINE_S, Trial, judge_control, judge_trial, judge_writes
from runbook.evidence import Finding, Verdict
from runbook.load import History, Outcome, Record
from tests.unit.runbook.drills.control import late

PASS, INCONCLUSIVE, FAIL = Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL
MEMORY, CLIENTS, STILL, DEAF = (
    "maxmemory with noeviction",
    "maxclients",
    "a pool whose server stands still",
    "the output buffer of a deaf subscriber",
)
REACH = Reach(1_000_000_000, 2_000_000_000, 2_100_000_000)


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _call(operation: str, worker: int, sent_s: float, took_s: float = 0.001, error: str = "", value: str = "") -> Record:
    return Record(worker, operation, value, _ns(sent_s), _ns(sent_s), _ns(sent_s + took_s), Outcome.FAIL if error else Outcome.OK, error)


def _error(name: str) -> str:
    """An error that the case may give, its text as it must be; empty if it may give none."""
    return next((f"{error}: so much for {word}" for error, word in CASES[name].told.items()), "")


def _trial(name: str) -> Trial:
    case = CASES[name]
    during_s, after_s = [1.1 + 0.05 * n for n in range(8)], [2.2 + 0.05 * n for n in range(8)]
    met = [_call("GET", worker, moment_s, error=_error(name)) for moment_s in during_s for worker in range(MEETING)]
    met += [_call("GET", worker, moment_s) for moment_s in after_s for worker in range(MEETING)]
    gone = "Unavailable: no answer"
    reads = [_call("GET", 0, moment_s, error="" if "reads" in case.goes_on else gone) for moment_s in during_s]
    writes = [_call("RPUSH", 0, moment_s, error="" if "writes" in case.goes_on else gone) for moment_s in during_s]
    reads, writes = ([*calls, *(_call(calls[0].operation, 0, moment_s) for moment_s in after_s)] for calls in (reads, writes))
    writes = [dataclasses.replace(write, value=f"0:{number}") for number, write in enumerate(writes)]
    present = [write.value for write in writes if write.outcome is Outcome.OK]
    return Trial([REACH], History(met), History(reads), History(writes), present)


def _judge(name: str, **changes: Any) -> dict[str, Finding]:
    found = judge_trial(name, dataclasses.replace(_trial(name), **changes))
    abouts = ("endings", "others", "relief") if CASES[name].goes_on else ("endings", "relief")
    return dict(zip(abouts, found, strict=True))


def _met(name: str, error: str, moment_s: float = 1.1, took_s: float = 0.1) -> History:
    return History([*_trial(name).meets, _call("GET", 0, moment_s, took_s, error)])


@pytest.mark.parametrize("name", CASES)
def test_each_limit_at_which_all_is_as_promised_passes(name: str) -> None:
    assert {(finding.verdict, finding.reason) for finding in _judge(name).values()} == {(PASS, "")}


@pytest.mark.parametrize(
    ("name", "error", "reason"),
    [
        (CLIENTS, "Unavailable: Timeout writing to socket", "1 calls were told something else, first Unavailable: Timeout"),
        (CLIENTS, "MaxClientsError: max number of clients reached", "1 calls ended otherwise, first GET with MaxClientsError"),
        (MEMORY, "Unavailable: got no answer", "1 calls were told something else, first Unavailable"),
        (DEAF, "Unavailable: got no answer", "1 calls were told something else, first Unavailable"),
    ],
    ids=["silent about the reason", "not ours", "the wrong kind", "none was due"],
)
def test_an_error_that_does_not_say_what_to_look_at_fails(name: str, error: str, reason: str) -> None:
    finding = _judge(name, meets=_met(name, error))["endings"]
    assert finding.verdict is FAIL
    assert reason in finding.reason


def test_a_control_that_was_late_excuses_no_wrong_error_and_nobody_else_that_failed() -> None:
    control = late((1.0, 1.0))
    met = _met(CLIENTS, "Unavailable: Timeout writing to socket")
    assert _judge(CLIENTS, meets=met, control=control)["endings"].verdict is FAIL
    reads = [*_trial(CLIENTS).reads, *(_call("GET", 0, 1.15, 0.2, "Unavailable: no answer") for _ in range(40))]
    assert _judge(CLIENTS, reads=History(reads), control=control)["others"].verdict is FAIL


@pytest.mark.parametrize(("late_s", "verdict"), [(0.04, FAIL), (0.06, PASS)])
def test_a_call_that_is_late_is_excused_only_for_as_long_as_the_control_was(late_s: float, verdict: Verdict) -> None:
    met = _met(CLIENTS, _error(CLIENTS), took_s=MEETING_DEADLINE_S + 0.1)
    assert _judge(CLIENTS, meets=met, control=late((1.41, late_s)))["endings"].verdict is verdict


def test_too_few_calls_are_inconclusive() -> None:
    met = [_call("GET", worker, 1.1, 0.1, _error(CLIENTS)) for worker in range(MEETING)]
    finding = _judge(CLIENTS, meets=History(met))["endings"]
    assert (finding.verdict, finding.reason) == (INCONCLUSIVE, "only 4 calls of the caller were made, 5 are needed")


def test_a_call_that_hangs_past_its_deadline_fails() -> None:
    finding = _judge(CLIENTS, meets=_met(CLIENTS, _error(CLIENTS), took_s=MEETING_DEADLINE_S + 0.1))["endings"]
    assert finding.verdict is FAIL
    assert "1 calls ended late, first GET 100 ms after its deadline" in finding.reason
    slow_read = History([*_trial(STILL).reads, _call("GET", 0, 1.1, READING_DEADLINE_S + 0.1)])
    assert _judge(STILL, reads=slow_read)["endings"].verdict is FAIL


def test_a_limit_that_nobody_met_is_inconclusive() -> None:
    after = History(call for call in _trial(CLIENTS).meets if call.sent_ns > REACH.healed_ns)
    finding = _judge(CLIENTS, meets=after)["endings"]
    assert (finding.verdict, finding.reason) == (INCONCLUSIVE, "no caller met it and was told so")


@pytest.mark.parametrize("kind", ["reads", "writes"])
def test_others_that_do_not_go_on_fail(kind: str) -> None:
    calls = [*_trial(CLIENTS).histories[kind], _call("GET", 0, 1.15, 0.2, "Unavailable: no answer")]
    finding = _judge(CLIENTS, **{kind: History(calls)})["others"]
    assert finding.verdict is FAIL
    assert f"1 of 9 {kind} failed, first with Unavailable" in finding.reason


def test_too_few_others_are_inconclusive() -> None:
    assert _judge(CLIENTS, reads=History([*_trial(CLIENTS).reads][6:]))["others"].verdict is INCONCLUSIVE


@pytest.mark.parametrize(("kind", "who"), [("meets", "caller 0"), ("reads", "reader 0"), ("writes", "writer 0")])
def test_a_caller_that_does_not_go_on_after_the_relief_fails(kind: str, who: str) -> None:
    stayed = [call for call in _trial(CLIENTS).histories[kind] if call.worker or call.sent_ns < REACH.healed_ns]
    finding = _judge(CLIENTS, **{kind: History(stayed)})["relief"]
    assert (finding.verdict, finding.reason) == (FAIL, f"1 callers did not succeed again, first {who} after fault 1")


@pytest.mark.parametrize("name", CASES)
def test_a_limit_that_was_not_reached_is_inconclusive(name: str) -> None:
    unproven = dataclasses.replace(REACH, doubts=("the server rejected no connection",))
    assert {finding.verdict for finding in _judge(name, reaches=[unproven]).values()} == {INCONCLUSIVE}


@pytest.mark.parametrize(
    ("present", "reason"),
    [
        (lambda present: present[1:], "maxclients: 1 of 16 acknowledged writes lost, first 0:0"),
        (lambda present: present[:-1], "maxclients: 1 of 16 acknowledged writes lost, first 0:15"),
        (lambda present: [*present, "0:3"], "maxclients: 1 duplicated, first 0:3"),
        (lambda present: [*present, "0:99"], "maxclients: 1 phantom, first 0:99"),
    ],
    ids=["the first lost", "the last lost", "doubled", "invented"],
)
def test_a_ledger_that_is_not_as_acknowledged_fails(present: Any, reason: str) -> None:
    good = _trial(CLIENTS)
    assert judge_writes({CLIENTS: good}).verdict is PASS
    finding = judge_writes({MEMORY: _trial(MEMORY), CLIENTS: dataclasses.replace(good, present=present(good.present))})
    assert finding.verdict is FAIL
    assert reason in finding.reason


def test_no_writes_are_inconclusive() -> None:
    assert judge_writes({}).verdict is INCONCLUSIVE
    assert judge_writes({CLIENTS: dataclasses.replace(_trial(CLIENTS), writes=History([]), present=[])}).verdict is INCONCLUSIVE


def test_control_whose_text_says_what_to_look_at_is_inconclusive_whatever_its_name() -> None:
    assert judge_control("ConnectionError: No connection available.").verdict is PASS
    assert judge_control("").verdict is INCONCLUSIVE
    assert judge_control(_error("the size of the pool")).verdict is INCONCLUSIVE
    assert judge_control("ConnectionError: No connection available: raise REDIS_POOL_SIZE").verdict is INCONCLUSIVE
