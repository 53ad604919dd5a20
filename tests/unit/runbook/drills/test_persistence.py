"""The persistence drill's judgement of histories written by hand: each verdict of each of its three findings."""

import dataclasses
import itertools

import pytest

from runbook.drills import persistence
from runbook.drills.checkers import account
from runbook.drills.faults import Outage
from runbook.drills.persistence_faults import FAULTS
from runbook.drills.persistence_judging import judge_grace, judge_ledger, judge_writers, recoveries_s
from runbook.evidence import Finding, Verdict
from runbook.load import History, Outcome, Record, Register
from runbook.load.wait_control import Lateness
from tests.unit.runbook.drills.control import late

PASS, INCONCLUSIVE, FAIL = Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL

# Two writers, 100 appends a second in all, from the fifth second on; the server is away from 10.00 s to 10.50 s; 2 s of load behind it.
BEGIN_S, BROKEN_S, DOWN_S, READY_S, END_S = 5.0, 10.0, 10.01, 10.5, 12.5
NOT_LATE = Lateness()

LOSSLESS = pytest.mark.parametrize("fault", [fault for fault, promise in FAULTS.items() if not promise.window_s])
LOSSY = pytest.mark.parametrize("fault", [fault for fault, promise in FAULTS.items() if promise.window_s])
EACH_FAULT = pytest.mark.parametrize("fault", list(FAULTS))


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _outage(fault: str = "SIGTERM", *doubts: str) -> Outage:
    return Outage(fault, _ns(BROKEN_S), _ns(DOWN_S), _ns(READY_S), doubts)


def _write(number: int, sent_s: float, *, took_s: float = 0.001, outcome: Outcome = Outcome.OK, error: str = "") -> Record:
    value = f"{number % 2}:{number // 2}"
    return Record(number % 2, "RPUSH", value, _ns(sent_s), _ns(sent_s), _ns(sent_s + took_s), outcome, error)


def _writes(gap_s: float = 0.01) -> list[Record]:
    """Appends before and after the outage, every one of them acknowledged."""
    before = [BEGIN_S + at * gap_s for at in range(round((BROKEN_S - BEGIN_S) / gap_s) - 1)]
    after = [READY_S + 0.005 + at * gap_s for at in range(round((END_S - READY_S) / gap_s) - 1)]
    return [_write(number, sent_s) for number, sent_s in enumerate([*before, *after])]


def _look(sent_s: float, took_s: float = 0.001, outcome: Outcome = Outcome.OK, error: str = "") -> Record:
    return Record(0, "PING", "", _ns(sent_s), _ns(sent_s), _ns(sent_s + took_s), outcome, error)


GONE = "Unavailable: PING got no answer"
LOOKS = [
    _look(9.5),
    _look(9.9),
    _look(10.02, 0.2, Outcome.FAIL, GONE),
    _look(10.22, 0.201, Outcome.FAIL, GONE),
    _look(10.42, 0.09),
    _look(11.0),
]


def _present(writes: list[Record]) -> list[str]:
    return [record.value for record in writes if record.outcome is Outcome.OK]


def _judge(
    fault: str = "SIGTERM",
    *,
    writes: list[Record] | None = None,
    present: list[str] | None = None,
    looks: list[Record] | None = None,
    outages: list[Outage] | None = None,
    control: Lateness = NOT_LATE,
) -> dict[str, Finding]:
    writes = _writes() if writes is None else writes
    outages = outages or [_outage(fault)]
    history = History(writes)
    found = account(history, _present(writes) if present is None else present, [outage.down_ns for outage in outages])
    findings = (
        judge_ledger(fault, outages, history, found),
        judge_writers(fault, outages, history),
        judge_grace(fault, outages, History(LOOKS if looks is None else looks), control),
    )
    assert [finding.criterion for finding in findings] == [FAULTS[fault].criterion, "I-5", "I-6"]
    return dict(zip(("data", "I-5", "I-6"), findings, strict=True))


def _verdicts(findings: dict[str, Finding]) -> tuple[Verdict, ...]:
    return tuple(finding.verdict for finding in findings.values())


def _without(writes: list[Record], lost: list[Record]) -> list[str]:
    return [record.value for record in writes if record not in lost]


def _tail(writes: list[Record], seconds: float) -> list[Record]:
    """The writes of the last seconds before the outage."""
    return [record for record in writes if BROKEN_S - seconds <= record.sent_ns / 1e9 < BROKEN_S]


@EACH_FAULT
def test_an_outage_that_loses_nothing_and_is_survived_passes(fault: str) -> None:
    findings = _judge(fault)
    assert _verdicts(findings) == (PASS, PASS, PASS)
    assert [finding.reason for finding in findings.values()] == ["", "", ""]


@EACH_FAULT
def test_claims_hold_no_measured_value_and_name_the_fault(fault: str) -> None:
    """nbval compares them from run to run."""
    one, other = _judge(fault), _judge(fault, writes=_writes(gap_s=0.005), present=[])
    assert [finding.claim for finding in one.values()] == [finding.claim for finding in other.values()]
    assert all(fault in finding.claim for finding in one.values())


class TestDurability:
    @LOSSLESS
    @pytest.mark.parametrize("seconds", [0.05, 1, 3])
    def test_any_loss_fails_where_files_may_be_closed(self, seconds: float, fault: str) -> None:
        writes = _writes()
        finding = _judge(fault, present=_without(writes, _tail(writes, seconds)))["data"]
        assert finding.verdict is FAIL
        assert "acknowledged writes lost" in finding.reason

    @LOSSLESS
    def test_a_single_lost_write_fails_and_is_named_where_files_may_be_closed(self, fault: str) -> None:
        """The window of a single loss is 0 s, and yet it is a loss."""
        writes = _writes()
        lost = _tail(writes, 5)[-1:]
        finding = _judge(fault, present=_without(writes, lost))["data"]
        assert finding.verdict is FAIL
        assert f"1 of {len(writes)} acknowledged writes lost" in finding.reason
        assert lost[0].value in finding.reason

    @LOSSY
    def test_the_loss_of_the_last_second_to_a_kill_passes(self, fault: str) -> None:
        writes = _writes()
        finding = _judge(fault, present=_without(writes, _tail(writes, 1)))["data"]
        assert finding.verdict is PASS
        assert finding.measured[0].value == len(_tail(writes, 1))
        assert finding.measured[1].value == pytest.approx(1, abs=0.05)

    @LOSSY
    def test_the_loss_of_the_last_three_seconds_to_a_kill_fails_with_count_window_and_first(self, fault: str) -> None:
        writes = _writes()
        lost = _tail(writes, 3)
        finding = _judge(fault, present=_without(writes, lost))["data"]
        assert finding.verdict is FAIL
        assert finding.reason.startswith(f"{len(lost)} of {len(writes)} acknowledged writes lost, over 2.9")
        assert f"first {lost[0].value}" in finding.reason
        assert f"; lost: worker 0 RPUSH '{lost[0].value}', sent at 2.0" in finding.reason  # seconds since the load began

    @LOSSY
    def test_the_loss_of_everything_to_a_kill_fails(self, fault: str) -> None:
        writes = _writes()
        assert _judge(fault, present=_without(writes, _tail(writes, 5)))["data"].verdict is FAIL

    @EACH_FAULT
    def test_a_hole_fails_however_small(self, fault: str) -> None:
        writes = _writes()
        finding = _judge(fault, present=_without(writes, writes[100:101]))["data"]
        assert finding.verdict is FAIL
        assert f"1 holes, first {writes[100].value}" in finding.reason

    @EACH_FAULT
    def test_the_loss_of_a_write_of_the_new_server_fails(self, fault: str) -> None:
        writes = _writes()
        assert _judge(fault, present=_without(writes, writes[-1:]))["data"].verdict is FAIL

    @EACH_FAULT
    @pytest.mark.parametrize(
        ("damage", "name"),
        [
            (lambda present: [*present, present[3]], "duplicated"),
            (lambda present: [*present, "0:99999"], "phantom"),
            (lambda present: [*present[:4], present[6], present[5], present[4], *present[7:]], "out of order"),
        ],
        ids=["duplicate", "phantom", "swap"],
    )
    def test_a_corrupt_ledger_fails(self, fault: str, damage, name: str) -> None:  # type: ignore[no-untyped-def]
        finding = _judge(fault, present=damage(_present(_writes())))["data"]
        assert finding.verdict is FAIL
        assert f"1 {name}, first " in finding.reason

    def test_a_loss_outweighs_a_fault_that_was_not_observed(self) -> None:
        writes = _writes()
        finding = _judge(present=_without(writes, writes[-1:]), outages=[_outage("SIGTERM", "the same server answers")])["data"]
        assert finding.verdict is FAIL

    @EACH_FAULT
    def test_writes_none_of_which_was_acknowledged_prove_nothing(self, fault: str) -> None:
        """A server at maxmemory refuses each of them: then none can be lost."""
        refused = [dataclasses.replace(record, outcome=Outcome.FAIL, error="OutOfMemoryError: OOM") for record in _writes()]
        assert _judge(fault, writes=refused)["data"].verdict is INCONCLUSIVE

    @EACH_FAULT
    def test_writes_none_of_which_was_acknowledged_before_the_outage_prove_nothing(self, fault: str) -> None:
        writes = [
            dataclasses.replace(record, outcome=Outcome.FAIL, error="OutOfMemoryError: OOM") if record.done_ns < _ns(BROKEN_S) else record
            for record in _writes()
        ]
        assert _judge(fault, writes=writes)["data"].verdict is INCONCLUSIVE

    def test_unknown_outcomes_are_counted_and_are_no_loss(self) -> None:
        writes = [
            *_writes(),
            *(_write(number, 9.995, took_s=0.02, outcome=Outcome.UNKNOWN, error="OutcomeUnknown") for number in (9000, 9001)),
        ]
        finding = _judge(writes=writes)["data"]
        assert finding.verdict is PASS
        assert next(m.value for m in finding.measured if m.name == "outcome unknown") == 2


class TestReconnection:
    @EACH_FAULT
    def test_a_writer_that_never_came_back_fails_and_is_named(self, fault: str) -> None:
        writes = [record for record in _writes(gap_s=0.005) if record.worker == 0 or record.done_ns < _ns(BROKEN_S)]
        finding = _judge(fault, writes=writes)["I-5"]
        assert finding.verdict is FAIL
        assert finding.reason == "1 of 2 writers did not succeed again after outage 1, first 1"

    def test_a_writer_whose_every_later_write_failed_never_came_back(self) -> None:
        writes = [
            record
            if record.worker == 0 or record.done_ns < _ns(BROKEN_S)
            else dataclasses.replace(record, outcome=Outcome.FAIL, error=GONE)
            for record in _writes()
        ]
        assert _judge(writes=writes)["I-5"].verdict is FAIL

    def test_where_no_writer_came_back_it_fails_however_few_writes_that_leaves(self) -> None:
        """Each of them waits for its deadline, so there is next to nothing to count behind the outage."""
        writes = [record for record in _writes() if record.done_ns < _ns(BROKEN_S)]
        writes += [_write(9000 + worker, 10.1, took_s=5, outcome=Outcome.FAIL, error=GONE) for worker in range(2)]
        finding = _judge(writes=writes)["I-5"]
        assert finding.verdict is FAIL
        assert "2 of 2 writers did not succeed again" in finding.reason

    def test_a_reply_that_was_under_way_at_the_cut_is_not_a_return(self) -> None:
        """Its writer was answered by the server that died, and by no other."""
        writes = [record for record in _writes(gap_s=0.005) if record.worker == 0 or record.done_ns < _ns(BROKEN_S)]
        writes.append(_write(9001, 9.999, took_s=0.015))
        assert writes[-1].done_ns > _ns(DOWN_S)
        assert _judge(writes=writes)["I-5"].verdict is FAIL

    def test_the_slowest_writer_is_measured(self) -> None:
        writes = [record for record in _writes(gap_s=0.005) if record.worker == 0 or not READY_S < record.sent_ns / 1e9 < READY_S + 0.3]
        measured = _judge(writes=writes)["I-5"].measured[0]
        assert measured.value == pytest.approx(301, abs=6)
        assert measured.unit == "ms"
        assert measured.samples == 2

    def test_a_policy_that_did_not_act_fails_and_is_quoted(self) -> None:
        outage = _outage("crash")
        outage.unhealed = "redis was not started again within 30 s"
        found = _judge("crash", outages=[outage])
        assert _verdicts(found) == (PASS, FAIL, PASS)
        assert found["I-5"].reason == outage.unhealed


class TestSeveralOutages:
    """A second one from 11.00 s to 11.10 s."""

    def outages(self) -> list[Outage]:
        return [_outage("recreation"), Outage("recreation", _ns(11.0), _ns(11.01), _ns(11.1))]

    def writes(self) -> list[Record]:
        return [record for record in _writes() if not 10.99 <= record.sent_ns / 1e9 <= 11.11]

    def looks(self, first: Record) -> list[Record]:
        return [first, _look(11.02, 0.2, Outcome.FAIL, GONE)]

    def test_which_lose_nothing_and_are_survived_pass(self) -> None:
        looks = self.looks(_look(10.02, 0.2, Outcome.FAIL, GONE))
        found = _judge("recreation", writes=self.writes(), looks=looks, outages=self.outages())
        assert _verdicts(found) == (PASS, PASS, PASS)
        assert {measured.name: measured.value for measured in found["I-5"].measured}["longest outage"] == 0.5

    def test_a_writer_that_came_back_only_after_the_second_fails(self) -> None:
        writes = [record for record in self.writes() if record.worker == 0 or not READY_S < record.sent_ns / 1e9 < 11.0]
        found = _judge("recreation", writes=writes, outages=self.outages())
        assert (found["I-5"].verdict, found["I-5"].reason) == (FAIL, "1 of 2 writers did not succeed again after outage 1, first 1")

    def test_a_caller_who_was_told_late_in_the_first_fails(self) -> None:
        found = _judge("recreation", writes=self.writes(), looks=self.looks(_look(10.02, 0.4, Outcome.FAIL, GONE)), outages=self.outages())
        assert _verdicts(found) == (PASS, PASS, FAIL)

    def test_a_doubt_of_the_first_leaves_all_open(self) -> None:
        first, second = self.outages()
        first.doubts = ("the same container answers as before",)
        found = _judge("recreation", writes=self.writes(), outages=[first, second])
        assert _verdicts(found) == (INCONCLUSIVE,) * 3


class TestSeveralKills:
    """A second SIGKILL from 11.20 s to 11.30 s; each may take two seconds of its own."""

    def outages(self) -> list[Outage]:
        return [_outage("SIGKILL"), Outage("SIGKILL", _ns(11.2), _ns(11.21), _ns(11.3))]

    def judge(self, *spans_s: tuple[float, float]) -> Finding:
        """Judge a ledger without the writes that were sent within some spans."""
        writes = [record for record in _writes() if not 11.19 <= record.sent_ns / 1e9 <= 11.31]
        lost = [record for record in writes if any(begin_s <= record.sent_ns / 1e9 < end_s for begin_s, end_s in spans_s)]
        return _judge("SIGKILL", writes=writes, present=_without(writes, lost), outages=self.outages())["data"]

    def test_the_tails_before_both_may_be_lost(self) -> None:
        finding = self.judge((8.5, 10.0), (10.7, 11.2))
        assert finding.verdict is PASS
        assert finding.measured[1].value == pytest.approx(1.49, abs=0.02)

    def test_a_tail_too_long_before_the_first_fails(self) -> None:
        assert "acknowledged writes lost, over 2.9" in self.judge((7.0, 10.0)).reason

    def test_a_hole_before_the_first_fails_though_a_second_follows(self) -> None:
        assert "holes, first" in self.judge((9.0, 9.5)).reason

    def test_a_loss_after_the_last_fails(self) -> None:
        assert "holes, first" in self.judge((12.0, 13.0)).reason


class TestGrace:
    def test_an_error_long_after_its_deadline_fails(self) -> None:
        """Callers that look in have 0.2 s, and 50 ms of grace."""
        finding = _judge(looks=[*LOOKS, _look(10.1, 0.3, Outcome.FAIL, GONE)])["I-6"]
        assert finding.verdict is FAIL
        assert finding.reason == (
            "1 calls ended late, first PING 100 ms after its deadline, worst PING 100 ms, 100 ms of them beyond the control"
        )

    def test_an_answer_long_after_the_deadline_fails_too(self) -> None:
        assert _judge(looks=[*LOOKS, _look(10.1, 0.5)])["I-6"].verdict is FAIL

    @pytest.mark.parametrize(
        ("late_s", "cpu_s", "verdict"),
        [(0.15, 0.0, PASS), (0.14, 0.0, FAIL), (0.15, 0.02, FAIL)],
        ids=["as late as the control", "later than it", "later by the CPU time of the process"],
    )
    def test_what_the_control_was_late_is_not_held_against_a_caller(self, late_s: float, cpu_s: float, verdict: Verdict) -> None:
        """A call is due at 10.3 s and ends 200 ms after that."""
        looks = [*LOOKS, _look(10.1, 0.4, Outcome.FAIL, GONE)]
        finding = _judge(looks=looks, control=late((10.32, late_s), cpu_s=cpu_s))["I-6"]
        assert finding.verdict is verdict
        values = {measured.name: measured.value for measured in finding.measured}
        assert values["the same as callers saw it"] == pytest.approx(200)
        assert values["latest wait of the control"] == pytest.approx(late_s * 1e3)
        assert values["latest end after the deadline, beyond the control"] == pytest.approx(200 - late_s * 1e3 + cpu_s * 1e3)

    def test_a_control_that_was_late_before_or_after_excuses_nothing(self) -> None:
        looks = [*LOOKS, _look(10.1, 0.4, Outcome.FAIL, GONE)]
        assert _judge(looks=looks, control=late((9.9, 0.35), (10.52, 3.0)))["I-6"].verdict is FAIL

    def test_an_error_within_the_grace_passes(self) -> None:
        finding = _judge(looks=[*LOOKS, _look(10.1, 0.24, Outcome.FAIL, GONE)])["I-6"]
        assert finding.verdict is PASS
        assert finding.measured[0].value == pytest.approx(40)

    @pytest.mark.parametrize(
        "error", ["OutcomeUnknown: PING may", "AttributeError: 'NoneType'", "ResponseError: LOADING", "Refused: WRONGPASS"]
    )
    def test_a_strange_error_fails_and_is_named(self, error: str) -> None:
        finding = _judge(looks=[*LOOKS, _look(10.1, 0.01, Outcome.UNKNOWN, error)])["I-6"]
        assert finding.verdict is FAIL
        assert error in finding.reason

    def test_what_happened_before_and_after_the_outage_is_not_judged(self) -> None:
        looks = [*LOOKS, _look(8.0, 0.9), _look(12.0, 0.9, Outcome.UNKNOWN, "OutcomeUnknown: late")]
        assert _judge(looks=looks)["I-6"].verdict is PASS

    @pytest.mark.parametrize("looks", [[], LOOKS[:2], [*LOOKS[:2], *LOOKS[5:]], [_look(10.2)]], ids=["none", "before", "beside", "all ok"])
    def test_without_a_caller_that_was_refused_it_is_inconclusive(self, looks: list[Record]) -> None:
        finding = _judge(looks=looks)["I-6"]
        assert finding.verdict is INCONCLUSIVE
        assert finding.reason == "no call fell into the outage"


@EACH_FAULT
def test_a_fault_that_was_not_observed_is_inconclusive_in_all_three_and_says_why(fault: str) -> None:
    findings = _judge(fault, outages=[_outage(fault, "the same server process answers as before")])
    assert _verdicts(findings) == (INCONCLUSIVE,) * 3
    assert {finding.reason for finding in findings.values()} == {"the same server process answers as before"}


@EACH_FAULT
def test_an_outage_that_never_took_place_is_inconclusive_in_all_three(fault: str) -> None:
    assert _verdicts(_judge(fault, outages=[Outage(fault)])) == (INCONCLUSIVE,) * 3


@EACH_FAULT
@pytest.mark.parametrize("side", ["before", "after"])
def test_too_few_writes_on_one_side_are_inconclusive_and_say_how_many_are_needed(fault: str, side: str) -> None:
    before = [record for record in _writes() if record.done_ns < _ns(BROKEN_S)]
    after = [record for record in _writes() if record.done_ns > _ns(READY_S)]
    writes = before[-99:] + after if side == "before" else before + after[:99]
    findings = _judge(fault, writes=writes)
    assert _verdicts(findings) == (INCONCLUSIVE, INCONCLUSIVE, PASS)
    assert findings["data"].reason == f"only 99 acknowledged writes {side} the outage, 100 are needed"


@EACH_FAULT
def test_a_hundred_writes_on_each_side_are_enough(fault: str) -> None:
    before = [record for record in _writes() if record.done_ns < _ns(BROKEN_S)]
    after = [record for record in _writes() if record.done_ns > _ns(READY_S)]
    assert _verdicts(_judge(fault, writes=before[-100:] + after[:100])) == (PASS, PASS, PASS)


def test_no_history_at_all_is_inconclusive() -> None:
    assert _verdicts(_judge(writes=[], looks=[])) == (INCONCLUSIVE,) * 3


class TestRecoveries:
    def test_each_writer_is_timed_from_the_moment_at_which_the_server_served(self) -> None:
        writes = [_write(0, 9.0), _write(1, 9.0), _write(2, 10.6), _write(3, 10.7), _write(4, 10.8)]
        recovered = recoveries_s(History(writes), _outage())
        assert recovered == {0: pytest.approx(0.101), 1: pytest.approx(0.201)}

    def test_an_append_that_waited_through_the_outage_is_a_recovery(self) -> None:
        assert recoveries_s(History([_write(0, 9.99, took_s=0.53)]), _outage()) == {0: pytest.approx(0.02)}

    def test_a_reply_under_way_when_the_process_ended_is_none(self) -> None:
        assert recoveries_s(History([_write(0, 9.99, took_s=0.03)]), _outage()) == {}

    def test_a_failed_append_is_none(self) -> None:
        writes = [_write(0, 10.6, outcome=Outcome.FAIL), _write(2, 10.7, outcome=Outcome.UNKNOWN), _write(4, 10.8)]
        assert recoveries_s(History(writes), _outage()) == {0: pytest.approx(0.301)}

    def test_a_success_noticed_before_the_server_was_seen_to_serve_took_no_time(self) -> None:
        assert recoveries_s(History([_write(0, 10.4)]), _outage()) == {0: 0.0}


def test_the_control_finds_every_seeded_defect() -> None:
    findings = persistence.control()
    assert [finding.verdict for finding in findings] == [PASS]
    assert findings[0].measured[0].value == findings[0].measured[0].samples


@EACH_FAULT
def test_the_samples_of_a_result_are_named_for_its_fault(fault: str) -> None:
    result = persistence.Result(fault, (_outage(fault),), History(_writes()))
    names = [f"{fault.lower()}-{what}" for what in ("writes", "registers", "members", "probes", "control")]
    assert list(result.histories) == names
    assert result.histories[names[0]] is result.writes


@pytest.mark.parametrize(("seed", "first_s"), [(None, 3.0), (1, 3.134)])
def test_the_moments_of_the_outages_come_from_the_seed(seed: int | None, first_s: float) -> None:
    waits_s = persistence._waits_s(3.0, 3, seed)
    assert waits_s[0] == pytest.approx(first_s, abs=0.001)
    assert waits_s == persistence._waits_s(3.0, 3, seed)
    assert all(0 <= wait_s < 1 for wait_s in waits_s[1:])


def test_some_owners_of_registers_read_next_whenever_the_server_ends() -> None:
    """Who writes next overwrites what was lost, and never reads it."""
    gap_ms = 1000 / persistence.WITNESS_PER_S
    period_ms = gap_ms * persistence.OWNERS
    workload = persistence.OwnedRegisters(Register("register:"))
    owners = range(persistence.OWNERS)
    issued = sorted(
        (worker * gap_ms + number * period_ms, worker, operation.name)
        for worker in owners
        for number, operation in enumerate(itertools.islice(workload.operations(worker), 6))
    )
    for moment_ms in range(round(2 * period_ms), round(4 * period_ms)):
        following = [next(name for at_ms, who, name in issued if who == worker and at_ms > moment_ms) for worker in owners]
        assert following.count("GET") >= 3, moment_ms
