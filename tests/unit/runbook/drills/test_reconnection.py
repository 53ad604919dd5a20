"""What the reconnection drill concludes, from hand-written results: each promise has a known-bad that it must catch."""

import dataclasses

import pytest

from runbook.drills.faults import Outage
from runbook.drills.reconnection import drill
from runbook.drills.reconnection_judging import CLAIMS, Attempt, Result, Return, judge_result
from runbook.evidence import Finding, Verdict
from runbook.load import History, Outcome, Record
from runbook.report.plots import recovery
from runbook.report.tables import returns_table
from tests.unit.runbook.drills.control import late

MS, S = 1_000_000, 1_000_000_000
BROKEN_NS, DOWN_NS, BACK_NS = 10 * S, 10 * S + MS, 13 * S + 10 * MS
BASE_S, CAP_S = 0.001, 0.05


def call(operation: str, sent_ns: int, done_ns: int, outcome: Outcome = Outcome.OK, error: str = "") -> Record:
    return Record(0, operation, "", sent_ns, sent_ns, done_ns, outcome, error)


def attempts(count: int = 60) -> tuple[Attempt, ...]:
    first = Attempt(BROKEN_NS + MS, 1, None, "refused")
    bounds = [min(CAP_S, BASE_S * 2.0 ** (number - 1)) for number in range(2, count + 1)]
    return (first, *(Attempt(BROKEN_NS + number * 40 * MS, number, 0.9 * bound, "refused") for number, bound in enumerate(bounds, 2)))


def returned(**changes: object) -> Return:
    outage = Outage("SIGKILL", BROKEN_NS, DOWN_NS, BACK_NS + 5 * MS)
    values = {"outage": outage, "answered_ns": BACK_NS, "first_success_ns": BACK_NS + 20 * MS, "attempts": attempts(), **changes}
    return Return(**values)  # type: ignore[arg-type]


def result(*returns: Return, **changes: object) -> Result:
    told = "Unavailable: since 10:00:00: PING got no answer"
    values = {
        "callers": 100,
        "basics": History([call("GET", S, S + MS), call("GET", 11 * S, BACK_NS + 20 * MS), call("SET", 14 * S, 14 * S + MS)]),
        "increments": History([call("INCR", S, S + MS), call("INCR", 10 * S, DOWN_NS, Outcome.UNKNOWN), call("INCR", 14 * S, 14 * S + MS)]),
        "looks": History([call("PING", 11 * S, 11 * S + 251 * MS, Outcome.FAIL, told)]),
        "returns": returns or (returned(),),
        "counted": 3,
        "backoff_s": (BASE_S, CAP_S),
        "deadline_s": 5.0,
        **changes,
    }
    return Result(**values)  # type: ignore[arg-type]


def finding(name: str, judged: Result) -> Finding:
    return dict(zip(CLAIMS, judge_result(judged), strict=True))[name]


def test_a_clean_drill_passes() -> None:
    assert [found.verdict for found in judge_result(result())] == [Verdict.PASS] * len(CLAIMS)


def test_more_than_25_attempts_a_second_are_a_storm() -> None:
    found = finding("storm", result(returned(attempts=attempts(90))))
    assert found.verdict is Verdict.FAIL
    assert "attempts a second" in found.reason


def test_a_rate_is_not_told_from_a_short_outage() -> None:
    short = Outage("SIGKILL", BROKEN_NS, DOWN_NS, BROKEN_NS + S)
    few = attempts(27)
    assert finding("storm", result(returned(outage=short, attempts=few))).verdict is Verdict.INCONCLUSIVE
    assert finding("storm", result(returned(), returned(outage=short, attempts=few))).verdict is Verdict.PASS


def test_a_storm_in_a_short_outage_fails() -> None:
    short = Outage("SIGKILL", BROKEN_NS, DOWN_NS, BROKEN_NS + S)
    assert finding("storm", result(returned(), returned(outage=short, attempts=attempts(90)))).verdict is Verdict.FAIL


def test_an_outage_without_an_attempt_proves_nothing() -> None:
    assert finding("storm", result(returned(attempts=()))).verdict is Verdict.INCONCLUSIVE
    assert finding("backoff", result(returned(attempts=()))).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("wait_s", [0.0, 0.2])
def test_a_wait_outside_its_bounds_is_no_backoff(wait_s: float) -> None:
    strange = (*attempts(), Attempt(12 * S, 61, wait_s, "refused"))
    assert finding("backoff", result(returned(attempts=strange))).verdict is Verdict.FAIL


def test_an_increment_too_many_fails() -> None:
    found = finding("twice", result(counted=4))
    assert found.verdict is Verdict.FAIL
    assert found.reason == "1 increments too many"


def test_a_counter_that_nobody_read_is_inconclusive() -> None:
    assert finding("twice", result(counted=None)).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("outcome", [Outcome.FAIL, Outcome.UNKNOWN])
def test_a_repeatable_call_that_failed_is_told_of(outcome: Outcome) -> None:
    found = finding("survival", result(basics=History([call("GET", 11 * S, 12 * S, outcome, "Unavailable: gone")])))
    assert found.verdict is Verdict.FAIL
    assert "Unavailable: gone" in found.reason


def test_survival_needs_a_call_in_the_outage() -> None:
    assert finding("survival", result(basics=History([call("GET", S, S + MS)]))).verdict is Verdict.INCONCLUSIVE


def test_a_slow_return_fails_unless_the_control_was_as_late() -> None:
    slow = returned(first_success_ns=BACK_NS + 200 * MS)
    back_s = BACK_NS / S
    assert finding("recovery", result(slow)).verdict is Verdict.FAIL
    found = finding("recovery", result(slow, control=late((back_s + 0.01, 0.16))))
    assert found.verdict is Verdict.PASS
    assert [measured.value for measured in found.measured] == pytest.approx([40, 40, 200, 160])
    assert finding("recovery", result(slow, control=late((back_s + 0.01, 0.14)))).verdict is Verdict.FAIL
    assert finding("recovery", result(slow, control=late((back_s - 0.5, 0.49), (back_s + 0.21, 1.0)))).verdict is Verdict.FAIL
    assert finding("recovery", result(slow, control=late((back_s + 0.01, 0.16), cpu_s=0.16))).verdict is Verdict.FAIL


def test_a_median_above_50_ms_fails_although_none_is_above_150() -> None:
    slow = returned(first_success_ns=BACK_NS + 60 * MS)
    assert finding("recovery", result(slow, slow, returned())).verdict is Verdict.FAIL


def test_no_success_after_an_outage_fails_however_late_the_control_was() -> None:
    assert finding("recovery", result(returned(first_success_ns=0), control=late((BACK_NS / S, 5.0)))).verdict is Verdict.FAIL


def test_an_impatient_caller_who_was_told_late_or_not_since_when_fails_it() -> None:
    late = History([call("PING", 11 * S, 11 * S + 400 * MS, Outcome.FAIL, "Unavailable: since 10:00:00: PING")])
    vague = History([call("PING", 11 * S, 11 * S + 250 * MS, Outcome.FAIL, "Unavailable: PING got no answer")])
    assert finding("grace", result(looks=late)).verdict is Verdict.FAIL
    assert finding("grace", result(looks=vague)).verdict is Verdict.FAIL
    assert finding("grace", result(looks=History([]))).verdict is Verdict.INCONCLUSIVE


def test_the_control_excuses_a_caller_who_was_told_late_and_not_one_who_was_told_wrong() -> None:
    told_late = call("PING", 11 * S, 11 * S + 400 * MS, Outcome.FAIL, "Unavailable: since 10:00:00: PING")
    vague = dataclasses.replace(told_late, error="Unavailable: PING got no answer")
    control = late((11.26, 0.12))
    assert finding("grace", result(looks=History([told_late]), control=control)).verdict is Verdict.PASS
    assert finding("grace", result(looks=History([vague]), control=control)).verdict is Verdict.FAIL
    assert finding("grace", result(looks=History([told_late]), control=late((11.26, 0.05)))).verdict is Verdict.FAIL


def test_calls_that_fail_in_an_outage_as_long_as_their_deadline_prove_nothing() -> None:
    failed = History([call("GET", 11 * S, 16 * S, Outcome.FAIL, "Unavailable: GET got no answer")])
    assert finding("survival", result(basics=failed)).verdict is Verdict.FAIL
    assert finding("survival", result(basics=failed, deadline_s=3.0)).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("wrong", [{"kills": 0}, {"callers": 0}])
def test_drill_without_a_kill_or_a_caller_is_refused(wrong: dict[str, int]) -> None:
    numbers = {"kills": 1, "callers": 1, **wrong}
    with pytest.raises(ValueError, match="at least one kill and one caller"):
        drill(None, rate_per_s=1, before_s=0, down_s=0, after_s=0, **numbers)  # type: ignore[arg-type]


def test_a_fault_that_was_not_observed_makes_every_pass_inconclusive() -> None:
    doubtful = returned(outage=Outage("SIGKILL", BROKEN_NS, DOWN_NS, BACK_NS, ("the same server process answers as before",)))
    assert {found.verdict for found in judge_result(result(doubtful))} == {Verdict.INCONCLUSIVE}


def test_what_is_not_ours_is_not_killed() -> None:
    class Elsewhere:
        name = "remote"
        config = type("Config", (), {"backoff_base_s": BASE_S, "backoff_cap_s": CAP_S, "deadline_s": 5.0})

    judged = drill(Elsewhere(), kills=1, callers=1, rate_per_s=1, before_s=0, down_s=0, after_s=0)  # type: ignore[arg-type]
    assert {found.verdict for found in judged.findings} == {Verdict.INCONCLUSIVE}
    assert "not ours to kill" in judged.findings[0].reason


def test_the_picture_tells_its_numbers_to_those_who_cannot_see_it() -> None:
    alt = recovery(result()).alt
    assert "60 times" in alt
    assert "20 ms" in alt


def test_the_picture_of_nothing_says_so() -> None:
    assert "nothing was recorded" in recovery(result(returns=())).alt


def test_the_table_marks_an_outage_from_which_nobody_returned() -> None:
    assert "—" in returns_table(result(returned(first_success_ns=0))).text()
