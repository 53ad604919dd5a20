"""The witnesses of the process faults, and their control: a drill that finds no loss where all is lost proves nothing."""

import pytest

from runbook.drills.checkers import account
from runbook.drills.faults import Outage
from runbook.drills.persistence import lossy_control
from runbook.drills.persistence_judging import judge_control, judge_ledger, judge_members, judge_registers
from runbook.drills.processes import DRILLS
from runbook.evidence import Finding, Verdict
from runbook.load import History, Outcome, Record
from runbook.targets import Embedded, TargetError

S = 1_000_000_000


def _witness(*present: str, fault: str = "SIGKILL") -> Finding:
    """What the ledger says of a server that had acknowledged ten writes a second for ten seconds, and was killed."""
    records = [Record(0, "RPUSH", f"0:{n}", n * S // 10, n * S // 10, n * S // 10 + 1, Outcome.OK) for n in range(100)]
    outage = Outage(fault, broken_ns=10 * S, down_ns=10 * S, ready_ns=11 * S)
    history = History(records)
    return judge_ledger(fault, [outage], history, account(history, present, [outage.down_ns]))


def test_the_control_passes_where_each_witness_finds_the_loss() -> None:
    finding = judge_control("SIGKILL", [Outage("SIGKILL")], [_witness(), _witness()])
    assert finding.verdict is Verdict.PASS
    assert finding.claim.startswith("Control: ")


@pytest.mark.parametrize("kept", [100, 90], ids=["nothing lost", "no more lost than is promised"])
def test_a_control_of_which_a_witness_finds_no_loss_is_inconclusive(kept: int) -> None:
    blind = _witness(*(f"0:{n}" for n in range(kept)))
    finding = judge_control("SIGKILL", [Outage("SIGKILL")], [_witness(), blind])
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert "can't decide" in finding.reason


def test_a_control_whose_fault_is_in_doubt_is_inconclusive() -> None:
    assert judge_control("SIGKILL", [Outage("SIGKILL", doubts=("it went on",))], [_witness()]).verdict is Verdict.INCONCLUSIVE


def test_without_a_server_program_the_control_is_inconclusive_and_says_what_to_do() -> None:
    def none_at_hand(flags: tuple[str, ...]) -> Embedded:
        raise TargetError("no server program was found")

    (finding,) = lossy_control("SIGKILL", none_at_hand)
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert "set REDIS_SERVER" in finding.reason


def test_every_drill_bounds_its_time_beyond_what_its_faults_take() -> None:
    for drill in DRILLS:
        for profile, times in drill.times.items():
            assert drill.limit_s[profile] > 10 * times


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
