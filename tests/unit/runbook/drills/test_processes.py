"""The control of the process faults: a drill that sees no loss where all is lost proves nothing."""

from runbook.drills.checkers import Account, account
from runbook.drills.faults import Outage
from runbook.drills.processes import DRILLS, judge_control
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
