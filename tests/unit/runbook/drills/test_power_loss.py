"""Cuts written by hand, one for each thing that the judgement must not let pass."""

from typing import Any

import pytest

from runbook.drills.checkers import Account, account
from runbook.drills.faults import Outage
from runbook.drills.power_loss import POLICIES, Cut, judge_cuts
from runbook.evidence import Finding, Verdict
from runbook.load import History, Outcome, Record

PASS, INCONCLUSIVE, FAIL = Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL
MS = 1_000_000
WRITES = 4000  # one each millisecond
BOUNDED, NOTHING, MUCH, AGREES, ALONE = range(5)


def _account(present: list[int]) -> Account:
    records = [Record(0, "RPUSH", f"0:{n}", n * MS, n * MS, n * MS + 1, Outcome.OK) for n in range(WRITES)]
    return account(History(records), [f"0:{n}" for n in present], [WRITES * MS])


def _cut(policy: str, lost: int = 0, *, present: list[int] | None = None, **more: Any) -> Cut:
    fields: dict[str, Any] = {"slowest_sync_s": 0.1, "model_lost": lost, "page_writes": 50}
    outage = Outage("power cut", doubts=more.pop("doubts", ()), unhealed=more.pop("unhealed", ""))
    found = _account(list(range(WRITES - lost)) if present is None else present)
    return Cut(policy, outage, History([]), found, **{**fields, **more})


def _judge(**cuts: list[Cut]) -> tuple[Finding, ...]:
    good = {"everysec": [_cut("everysec", 900)], "always": [_cut("always")], "no": [_cut("no", WRITES)]}
    return judge_cuts({policy: {**good, **cuts}[policy] for policy in POLICIES}, "true")


def test_losses_of_the_last_second_are_within_the_promise() -> None:
    assert [finding.verdict for finding in _judge()] == [PASS] * 5


def test_a_loss_of_more_than_two_seconds_fails_with_its_worst_example() -> None:
    finding = _judge(everysec=[_cut("everysec", 900), _cut("everysec", 2500)])[BOUNDED]
    assert finding.verdict is FAIL
    assert "1 of 2 cuts" in finding.reason
    assert "2500 writes over 2.50 s, first 0:1500" in finding.reason


def test_a_disk_that_was_slow_is_not_blamed_on_the_server() -> None:
    finding = _judge(everysec=[_cut("everysec", 2500, slowest_sync_s=0.8)])[BOUNDED]
    assert finding.verdict is INCONCLUSIVE
    assert "the disk was slow" in finding.reason


@pytest.mark.parametrize(("policy", "number"), [("everysec", BOUNDED), ("always", NOTHING)])
def test_a_loss_out_of_the_middle_fails(policy: str, number: int) -> None:
    finding = _judge(**{policy: [_cut(policy, present=[n for n in range(WRITES) if n != 2000])]})[number]
    assert finding.verdict is FAIL
    assert "1 holes, first 0:2000" in finding.reason


def test_one_lost_write_fails_under_always() -> None:
    finding = _judge(always=[_cut("always", 1)])[NOTHING]
    assert (finding.verdict, finding.reason) == (FAIL, "1 of 4000 lost, first 0:3999")


def test_a_control_that_loses_nothing_proves_that_the_drill_is_blind() -> None:
    finding = _judge(no=[_cut("no", 0)])[MUCH]
    assert finding.verdict is INCONCLUSIVE
    assert "can't tell" in finding.reason


@pytest.mark.parametrize(("policy", "number"), [("everysec", BOUNDED), ("always", NOTHING), ("no", MUCH)])
def test_a_cut_that_is_in_doubt_passes_nothing(policy: str, number: int) -> None:
    lost = {"everysec": 900, "always": 0, "no": WRITES}[policy]
    finding = _judge(**{policy: [_cut(policy, lost, doubts=("the disk could still be written after the cut",))]})[number]
    assert finding.verdict is INCONCLUSIVE
    assert "still be written" in finding.reason


@pytest.mark.parametrize("number", [AGREES, ALONE])
def test_what_was_not_proven_to_be_a_cut_neither_agrees_nor_starts_by_itself(number: int) -> None:
    assert _judge(everysec=[_cut("everysec", 900, doubts=("what was never synced survived the cut",))])[number].verdict is INCONCLUSIVE


def test_a_model_that_lost_nothing_either_is_no_agreement() -> None:
    finding = _judge(everysec=[_cut("everysec", 0)], no=[_cut("no", 0)])[AGREES]
    assert finding.verdict is INCONCLUSIVE
    assert "nothing to agree on" in finding.reason


def test_too_few_writes_say_nothing() -> None:
    few = Cut("everysec", Outage("power cut"), History([]), account(History([]), [], []), 0, 0, 50)
    assert _judge(everysec=[few])[BOUNDED].verdict is INCONCLUSIVE


def test_a_model_that_is_more_than_a_page_off_is_told() -> None:
    finding = _judge(everysec=[_cut("everysec", 900, model_lost=951)])[AGREES]
    assert finding.verdict is FAIL
    assert "at the most 51 writes" in finding.reason


def test_cuts_in_which_a_sync_went_on_are_not_compared() -> None:
    cuts = {"everysec": [_cut("everysec", 900), _cut("everysec", 900, model_lost=None)]}
    assert [each.value for each in _judge(**cuts)[AGREES].measured if "not compared" in each.name] == [1]


def test_no_cut_to_compare_is_no_agreement() -> None:
    none = {policy: [_cut(policy, lost, model_lost=None)] for policy, lost in (("everysec", 900), ("always", 0), ("no", WRITES))}
    assert _judge(**none)[AGREES].verdict is INCONCLUSIVE


def test_a_modelled_cut_claims_no_agreement_with_itself() -> None:
    cuts = {policy: [_cut(policy, lost, model_lost=None)] for policy, lost in (("everysec", 900), ("always", 0), ("no", WRITES))}
    findings = judge_cuts(cuts, "modelled, since only root may mount a disk")
    assert len(findings) == 3  # neither does it leave a file that a server refuses
    assert ("how", "modelled, since only root may mount a disk") in [(each.name, each.value) for each in findings[BOUNDED].measured]


def test_a_server_that_needs_a_repair_is_a_known_failure_of_its_own() -> None:
    finding = _judge(everysec=[_cut("everysec", 900, unhealed="the server refused its append-only file")])[ALONE]
    assert finding.is_known
    assert "after 1 of 3 cuts" in finding.reason


def test_no_confidence_is_told_where_a_cut_exceeded_the_promise() -> None:
    measured = _judge(everysec=[_cut("everysec", 2500)])[BOUNDED].measured
    assert [each.value for each in measured if "confidence" in each.name] == [None]


def test_the_confidence_grows_with_the_number_of_cuts() -> None:
    shares = [
        next(each.value for each in _judge(everysec=[_cut("everysec", 900)] * cuts)[BOUNDED].measured if "confidence" in each.name)
        for cuts in (1, 30)
    ]
    assert shares == ["below 95", "below 10"]
