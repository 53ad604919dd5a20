"""What the drill of the clock concludes, from records made by hand: each claim has a known-bad that it must catch."""

from typing import Any

import pytest

from runbook.drills.checkers import account
from runbook.drills.clock_judging import (
    ANSWERS,
    BACK,
    CONTROL,
    CRITERIA,
    FORWARD,
    KEPT,
    LIFE,
    STEADY,
    SYNCS,
    Life,
    Phase,
    judge_steps,
    unjudged,
)
from runbook.evidence import Finding, Verdict
from runbook.load import History, Outcome, Record

PASS, INCONCLUSIVE, FAIL = Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL
S = 1_000_000_000


def phase(name: str, *syncs_s: float, began_s: float = 0.0, ended_s: float = 3.0, doubts: tuple[str, ...] = ()) -> Phase:
    return Phase(name, round(began_s * S), round(ended_s * S), tuple(round(sync_s * S) for sync_s in syncs_s), doubts)


def write(number: int, outcome: Outcome = Outcome.OK) -> Record:
    """Return a write every 10 ms, which took 1 ms."""
    at_ns = number * S // 100
    return Record(0, "RPUSH", f"0:{number}", at_ns, at_ns, at_ns + S // 1000, outcome, "" if outcome is Outcome.OK else "Unavailable: gone")


WRITES = [write(number) for number in range(1500)]
GOOD = [phase(STEADY, 1, 2), phase(FORWARD, 1, 2), phase(BACK, 1, 2)]
STOPPED = phase(BACK, 0.5, 11.5, ended_s=12.0)


def judged(
    phases: list[Phase] = GOOD, lives: tuple[Life, ...] = (Life(8, 10, 2.2, True),), writes: list[Record] = WRITES, **more: Any
) -> dict[str, Finding]:
    history = History(writes)
    present = more.pop("present", [record.value for record in writes if record.outcome is Outcome.OK])
    findings = judge_steps(phases, lives, history, account(history, present, [1000 * S]), **more)
    assert [finding.claim for finding in findings] == list(CRITERIA)
    return {finding.claim: finding for finding in findings if finding.verdict is not PASS}


def test_a_server_that_goes_by_another_clock_passes() -> None:
    assert judged() == {}


@pytest.mark.parametrize("name", [FORWARD, BACK])
def test_syncs_that_stop_after_a_step_fail(name: str) -> None:
    (finding,) = judged([*(each for each in GOOD if each.name != name), phase(name, 0.5, 11.5, ended_s=12.0)]).values()
    assert (finding.claim, finding.verdict, finding.is_known) == (SYNCS[name], FAIL, name == BACK)
    assert finding.reason == "no sync for 11.0 s, in which 1100 writes were acknowledged"


@pytest.mark.parametrize("stopped", [phase(BACK, ended_s=12.0), phase(BACK, 11.0, ended_s=12.0), phase(BACK, 1.0, ended_s=12.0)])
def test_the_time_before_the_first_sync_and_after_the_last_counts(stopped: Phase) -> None:
    assert judged([*GOOD[:2], stopped])[SYNCS[BACK]].verdict is FAIL


def test_the_worst_of_several_rounds_counts() -> None:
    assert judged([*GOOD[:2], STOPPED, *GOOD[1:]])[SYNCS[BACK]].verdict is FAIL


def test_a_disk_that_stalls_without_any_step_is_no_failure_of_the_server() -> None:
    (finding,) = judged([phase(STEADY, 6, 7, ended_s=8), *GOOD[1:]]).values()
    assert (finding.claim, finding.verdict) == (CONTROL, INCONCLUSIVE)


@pytest.mark.parametrize(
    ("life", "verdict", "is_known"),
    [
        (Life(8, 10, 2.2, False), FAIL, True),
        (Life(1, -10, 2.2, True), FAIL, True),
        (Life(8, -10, 2.2, False), FAIL, False),
        (Life(1, 10, 2.2, True), FAIL, False),
        (Life(8, 3, 2.2, False), FAIL, False),
        (Life(8, 10, 2.2, True), PASS, False),
        (Life(1, -10, 2.2, False), PASS, False),
        (Life(8, 10, 7.5, False), PASS, False),
        (Life(1, -10, 1.5, True), PASS, False),
    ],
)
def test_a_key_that_lives_shorter_or_longer_than_told_fails_and_is_known_where_the_wall_clock_says_so(
    life: Life, verdict: Verdict, is_known: bool
) -> None:
    found = judged(lives=(Life(8, 10, 2.2, False), life))[LIFE]
    assert (found.verdict, found.is_known) == (FAIL, is_known or verdict is PASS)
    alone = judged(lives=(life,))
    assert (alone[LIFE].verdict if alone else PASS) is verdict


def test_syncs_that_do_not_come_back_once_the_clock_has_caught_up_are_not_what_is_known() -> None:
    longer = phase(BACK, 0.5, ended_s=15.0)
    for phases in ([*GOOD[:2], longer], [*GOOD[:2], STOPPED, GOOD[1], longer]):
        finding = judged(phases)[SYNCS[BACK]]
        assert (finding.verdict, finding.is_known) == (FAIL, False)


@pytest.mark.parametrize("outcome", [Outcome.FAIL, Outcome.UNKNOWN])
def test_a_write_that_is_not_answered_fails(outcome: Outcome) -> None:
    (finding,) = judged(writes=[*WRITES[:-1], write(1499, outcome)]).values()
    assert (finding.claim, finding.verdict) == (ANSWERS, FAIL)
    assert "1 of 1500 writes, first 0:1499: Unavailable" in finding.reason


@pytest.mark.parametrize(
    "present",
    [
        [record.value for record in WRITES[:-1]],
        [record.value for record in [*WRITES, WRITES[-1]]],
        [*(record.value for record in WRITES), "0:2000"],
    ],
    ids=["lost", "doubled", "invented"],
)
def test_writes_that_a_restart_does_not_keep_as_they_were_fail(present: list[str]) -> None:
    (finding,) = judged(present=present).values()
    assert (finding.claim, finding.verdict) == (KEPT, FAIL)


def test_a_step_that_the_server_did_not_see_proves_nothing() -> None:
    found = judged([*GOOD[:2], phase(BACK, 1, 2, doubts=("TIME shows none",))])
    assert {finding.verdict for finding in found.values()} == {INCONCLUSIVE}
    assert found.keys() == CRITERIA.keys()


def test_a_restart_that_was_not_seen_proves_nothing_of_what_is_kept() -> None:
    (finding,) = judged(unproven=("the same server process answers as before",)).values()
    assert (finding.claim, finding.verdict) == (KEPT, INCONCLUSIVE)


@pytest.mark.parametrize("more", [{"phases": []}, {"lives": ()}, {"writes": WRITES[:50]}])
def test_what_was_not_recorded_is_not_judged(more: Any) -> None:
    found = judged(**more)
    assert found
    assert {finding.verdict for finding in found.values()} == {INCONCLUSIVE}


def test_without_a_clock_of_its_own_every_claim_stays_open() -> None:
    assert {(finding.verdict, finding.reason) for finding in unjudged("install gcc")} == {(INCONCLUSIVE, "install gcc")}
