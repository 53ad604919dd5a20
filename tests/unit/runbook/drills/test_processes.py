"""The control of the process faults: a drill that sees no loss where all is lost proves nothing."""

import pytest

from runbook.drills.checkers import Account, account
from runbook.drills.faults import Outage
from runbook.drills.processes import DRILLS, judge_control, judge_members, judge_registers
from runbook.evidence import Verdict
from runbook.load import History, Outcome, Record


def _account(present: list[str]) -> Account:
    records = [Record(0, "RPUSH", f"0:{n}", n, n, n + 1, Outcome.OK) for n in range(10)]
    return account(History(records), present, [20])


def test_the_control_passes_where_writes_are_lost() -> None:
    finding = judge_control("SIGKILL", [Outage("SIGKILL")], _account([]))
    assert finding.verdict is Verdict.PASS
    assert finding.claim.startswith("Control: ")


def test_a_control_without_a_loss_is_inconclusive() -> None:
    finding = judge_control("SIGKILL", [Outage("SIGKILL")], _account([f"0:{n}" for n in range(10)]))
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert "can't tell" in finding.reason


def test_a_control_whose_fault_is_in_doubt_is_inconclusive() -> None:
    assert judge_control("SIGKILL", [Outage("SIGKILL", doubts=("it went on",))], _account([])).verdict is Verdict.INCONCLUSIVE


def test_every_drill_bounds_its_time_beyond_what_its_faults_take() -> None:
    for drill in DRILLS:
        for profile, times in drill.times.items():
            assert drill.limit_s[profile] > 10 * times


S = 1_000_000_000


def _reads(values: list[str]) -> History:
    """One owner, who writes 0:0, 0:1, … and reads what is given, in turn, ten times a second."""
    records = []
    for number, value in enumerate(values):
        at_ns = number * S // 10
        records.append(Record(0, "SET", f"0:{number}", at_ns, at_ns, at_ns + 1, Outcome.OK))
        records.append(Record(0, "GET", value, at_ns + 2, at_ns + 2, at_ns + 3, Outcome.OK))
    return History(records)


CLEAN = [f"0:{number}" for number in range(120)]
OUTAGE = Outage("SIGKILL", broken_ns=6 * S, down_ns=6 * S, ready_ns=6 * S)


def test_registers_that_read_what_was_written_pass() -> None:
    assert judge_registers("SIGKILL", [OUTAGE], _reads(CLEAN)).verdict is Verdict.PASS


def test_a_stale_read_fails_with_its_counter_example() -> None:
    finding = judge_registers("SIGKILL", [OUTAGE], _reads([*CLEAN[:30], "0:7", *CLEAN[31:]]))
    assert finding.verdict is Verdict.FAIL
    assert "stale" in finding.reason
    assert "0:7" in finding.reason


def test_few_reads_or_a_fault_in_doubt_say_nothing() -> None:
    assert judge_registers("SIGKILL", [OUTAGE], _reads(CLEAN[:10])).verdict is Verdict.INCONCLUSIVE
    doubtful = Outage("SIGKILL", broken_ns=6 * S, down_ns=6 * S, doubts=("it went on",))
    assert judge_registers("SIGKILL", [doubtful], _reads(CLEAN)).verdict is Verdict.INCONCLUSIVE


def _additions() -> History:
    return History(Record(0, "SADD", f"0:{n}", n * S // 10, n * S // 10, n * S // 10 + 1, Outcome.OK) for n in range(120))


@pytest.mark.parametrize(("fault", "verdict"), [("SIGKILL", Verdict.PASS), ("SIGTERM", Verdict.FAIL)])
def test_members_of_the_last_seconds_may_be_missing_where_that_is_promised(fault: str, verdict: Verdict) -> None:
    present = [*CLEAN[:50], *CLEAN[60:]]
    assert judge_members(fault, [OUTAGE], _additions(), present).verdict is verdict


@pytest.mark.parametrize(
    ("present", "reason"),
    [
        ([*CLEAN[:20], *CLEAN[60:]], "40 of 120 members missing over 3.90 s, first 0:20"),
        ([*CLEAN, "0:999"], "phantom"),
        (CLEAN[:-1], "holes, first 0:119"),
    ],
)
def test_more_than_that_a_phantom_and_a_loss_without_an_outage_fail(present: list[str], reason: str) -> None:
    finding = judge_members("SIGKILL", [OUTAGE], _additions(), present)
    assert finding.verdict is Verdict.FAIL
    assert reason in finding.reason
