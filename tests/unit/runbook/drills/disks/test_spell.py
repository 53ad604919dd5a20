"""What is concluded from spells of a failing disk that were written by hand: each check has a known-bad that it must catch."""

import dataclasses
from typing import Any

import pytest

from runbook.drills.disks.kept import judge_kept, known_loss
from runbook.drills.disks.recovery import unwell
from runbook.drills.disks.spell import judge_lost, judge_reads, judge_recovery, judge_refusals, known_end
from runbook.evidence import Finding, Verdict
from runbook.load import Outcome
from tests.unit.runbook.drills.spells import MISCONF, SICK, WELL, lost, read, spell, write

PASS, INCONCLUSIVE, FAIL = Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL
GONE = "Unavailable: gone"
REFUSED = write(0, Outcome.FAIL, MISCONF)


class TestWhatIsKept:
    def _judge(self, *accounts: Any, windows_s: Any = 0.0, doubts: tuple[str, ...] = ()) -> Finding:
        return judge_kept("I-4", "claim", accounts, doubts, windows_s=windows_s)

    def test_nothing_lost_passes(self) -> None:
        assert self._judge(lost(), lost()).verdict is PASS

    def test_one_lost_write_fails_where_none_may_be_and_is_named(self) -> None:
        found = self._judge(lost(), lost(399))
        assert found.verdict is FAIL
        assert "1 of 800 acknowledged writes lost, in 1 of 2 outages, first 0:399" in found.reason

    @pytest.mark.parametrize(("seconds", "verdict"), [(1.9, PASS), (2.2, FAIL)])
    def test_the_newest_writes_may_be_lost_within_the_window_alone(self, seconds: float, verdict: Verdict) -> None:
        assert self._judge(lost(*range(400 - round(seconds * 100), 400)), windows_s=2.1).verdict is verdict

    def test_the_worst_outage_is_told(self) -> None:
        found = self._judge(lost(399), lost(*range(100, 400)), windows_s=2.1)
        assert "at worst 300 over 2.99 s, first 0:100" in found.reason

    def test_each_outage_may_have_a_window_of_its_own_and_the_worst_within_it_is_told(self) -> None:
        short, long = lost(*range(190, 400)), lost(*range(100, 400))
        assert self._judge(short, long, windows_s=[2.2, 3.1]).verdict is PASS
        found = self._judge(short, long, windows_s=[2.0, 3.1])
        assert found.verdict is FAIL
        assert "at worst 210 over 2.09 s, first 0:190" in found.reason
        assert found.measured[1].threshold == "≤ 2 s"

    def test_a_hole_fails_within_the_window_too(self) -> None:
        found = self._judge(lost(398), windows_s=2.1)
        assert (found.verdict, found.reason) == (FAIL, "1 holes, first 0:398")

    def test_a_doubted_fault_too_few_writes_or_no_outage_at_all_is_inconclusive(self) -> None:
        assert self._judge(lost(), doubts=("no strace",)).reason == "no strace"
        assert self._judge(lost(writes=99)).reason == "only 99 acknowledged writes in an outage, 100 are needed"
        assert {self._judge().verdict, self._judge(lost(writes=99)).verdict, self._judge(lost(), doubts=("x",)).verdict} == {INCONCLUSIVE}

    def test_a_loss_fails_even_if_the_fault_is_doubted(self) -> None:
        assert self._judge(lost(1), doubts=("no strace",)).verdict is FAIL


class TestAKnownLoss:
    def _is_known(self, *accounts: Any) -> bool:
        return known_loss(judge_kept("I-4", "claim", accounts, ()), "aof.c", accounts, 2.1).is_known

    def test_the_newest_writes_are(self) -> None:
        assert self._is_known(lost(), lost(*range(200, 400)))

    @pytest.mark.parametrize("more", [lost(*range(180, 400)), lost(390), lost(more=("0:3",)), lost(more=("9:9",))])
    def test_more_than_is_documented_a_hole_a_duplicate_or_a_phantom_beside_it_is_none(self, more: Any) -> None:
        assert not self._is_known(lost(*range(200, 400)), more)


class TestRefusals:
    def _judge(self, **changes: Any) -> Finding:
        return judge_refusals("I-6", "claim", [spell(), spell(**changes)])

    def test_refused_with_misconf_and_a_health_check_that_knows_why_passes(self) -> None:
        assert self._judge().verdict is PASS

    @pytest.mark.parametrize(
        "strange", [write(7), write(7, Outcome.UNKNOWN, "OutcomeUnknown"), write(7, Outcome.FAIL, "Unavailable: gone")]
    )
    def test_a_write_that_ended_otherwise_fails_and_is_named(self, strange: Any) -> None:
        found = self._judge(writes=(REFUSED, strange))
        assert found.verdict is FAIL
        assert "1 of 12 writes ended otherwise, first 0:7" in found.reason

    @pytest.mark.parametrize(
        "health",
        [WELL, dataclasses.replace(SICK, reasons=()), dataclasses.replace(SICK, ready=False), dataclasses.replace(SICK, writable=True)],
    )
    def test_a_health_check_that_says_otherwise_fails(self, health: Any) -> None:
        assert self._judge(health=health).verdict is FAIL

    @pytest.mark.parametrize("changes", [{"health": None}, {"doubts": ("the disk was not full",)}])
    def test_what_was_not_asked_or_is_doubted_is_inconclusive(self, changes: dict[str, Any]) -> None:
        assert self._judge(**changes).verdict is INCONCLUSIVE

    def test_too_few_writes_are_inconclusive(self) -> None:
        assert judge_refusals("I-6", "claim", [spell(writes=(REFUSED,) * 9)]).verdict is INCONCLUSIVE


class TestReads:
    def _judge(self, **changes: Any) -> Finding:
        return judge_reads("I-6", "claim", [spell(**changes)])

    def test_all_answered_passes(self) -> None:
        assert self._judge().verdict is PASS

    def test_one_that_failed_fails(self) -> None:
        found = self._judge(reads=(read(), read(Outcome.FAIL, "Unavailable: gone")))
        assert (found.verdict, found.reason) == (FAIL, "1 of 2 reads failed, first Unavailable: gone")

    def test_a_server_that_ended_fails(self) -> None:
        assert self._judge(survived=False).reason == "the server ended, 1 of 1 times"

    @pytest.mark.parametrize("changes", [{"reads": (read(),) * 9}, {"doubts": ("the disk was not full",)}])
    def test_too_few_or_a_doubted_fault_is_inconclusive(self, changes: dict[str, Any]) -> None:
        assert self._judge(**changes).verdict is INCONCLUSIVE


class TestAKnownEnd:
    def _is_known(self, **changes: Any) -> bool:
        spells = [spell(survived=False, reads=(read(), read(Outcome.FAIL, GONE))), spell(**changes)]
        return known_end(judge_reads("I-6", "claim", spells), "aof.c", spells).is_known

    def test_a_server_that_said_why_it_exits_is(self) -> None:
        assert self._is_known()
        assert self._is_known(survived=False, reads=(read(Outcome.FAIL, GONE),) * 10)

    @pytest.mark.parametrize(
        "changes",
        [
            {"reads": (read(Outcome.FAIL, GONE),)},
            {"survived": False, "last_words": ""},
            {"survived": False, "last_words": "Redis 7.0.15 crashed by signal: 11"},
            {"survived": False, "reads": (read(Outcome.FAIL, "ResponseError: WRONGTYPE"),)},
        ],
        ids=["a failed read on a living server", "a signal", "another reason", "another error"],
    )
    def test_anything_else_beside_it_is_none(self, changes: dict[str, Any]) -> None:
        assert not self._is_known(**changes)


class TestRecovery:
    def _judge(self, *, by_itself: bool = True, **changes: Any) -> Finding:
        return judge_recovery("I-5", "claim", [spell(), spell(**changes)], by_itself=by_itself)

    def test_a_return_with_nothing_amiss_passes(self) -> None:
        assert self._judge().verdict is PASS

    def test_writes_that_did_not_return_fail_where_they_should_by_themselves(self) -> None:
        assert self._judge(returned_s=None).verdict is FAIL
        assert self._judge(returned_s=None, by_itself=False).verdict is PASS

    def test_something_that_is_still_amiss_fails_and_is_told(self) -> None:
        found = self._judge(left=("aof_last_write_status:err",))
        assert (found.verdict, found.reason) == (FAIL, "1 of 2 times it is still amiss, first aof_last_write_status:err")

    def test_a_doubted_fault_is_inconclusive(self) -> None:
        assert self._judge(doubts=("the disk was not full",)).verdict is INCONCLUSIVE


class TestTheControlThatLoses:
    def test_a_loss_that_is_found_passes_and_one_that_is_not_is_inconclusive(self) -> None:
        assert judge_lost("I-4", "claim", [spell(lost(*range(400)))]).verdict is PASS
        assert judge_lost("I-4", "claim", [spell(lost(*range(400))), spell()]).verdict is INCONCLUSIVE
        assert judge_lost("I-4", "claim", []).verdict is INCONCLUSIVE


WELL_INFO = {
    "aof_enabled": 1,
    "aof_last_write_status": "ok",
    "aof_last_bgrewrite_status": "ok",
    "aof_rewrite_scheduled": 0,
    "aof_rewrite_in_progress": 0,
}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("aof_enabled", 0),
        ("aof_last_write_status", "err"),
        ("aof_last_bgrewrite_status", "err"),
        ("aof_rewrite_scheduled", 1),
        ("aof_rewrite_in_progress", 1),
    ],
)
def test_each_thing_that_is_amiss_is_told(field: str, value: object) -> None:
    assert unwell(WELL_INFO) == ()
    assert unwell({**WELL_INFO, field: value}) == (f"{field}:{value}",)
