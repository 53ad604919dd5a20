"""Whether a restored backup is judged right: hand-written histories, one known-bad for each thing that must be caught."""

from dataclasses import replace
from pathlib import Path

import pytest

from runbook.drills.backup_restore import judge_backups, judge_ignored, judge_spoiled, judge_switched
from runbook.drills.backups.backup import APPEND_ONLY_SET, SNAPSHOT, Backup
from runbook.drills.backups.restoration import Content, Restoration, Taken
from runbook.evidence import Verdict
from runbook.load import History, Outcome, Record

PASS, INCONCLUSIVE, FAIL = Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL
SECOND_NS, MS_NS = 1_000_000_000, 1_000_000
# One append each 10 ms for ten seconds; the backup takes the tenth of a second behind the fifth.
RECORDS = [Record(0, "RPUSH", f"0:{n}", n * 10 * MS_NS, n * 10 * MS_NS, n * 10 * MS_NS + MS_NS, Outcome.OK) for n in range(1000)]
BEGAN, ENDED = 500, 510
BACKUP = Backup(SNAPSHOT, Path(), 5 * SECOND_NS, 5 * SECOND_NS + SECOND_NS // 10)
TAKEN = Taken(BACKUP, History(RECORDS), "digest")
LEDGER = [record.value for record in RECORDS]


def _restored(*ledger: str, static: str = "digest", taken: Taken = TAKEN) -> Restoration:
    return Restoration(taken, Content(ledger, static), serves_s=0.5)


class TestProblems:
    def test_a_prefix_that_ends_within_the_backup_has_none(self) -> None:
        assert _restored(*LEDGER[:505]).problems(0.0) == []

    def test_a_write_that_was_acknowledged_before_the_backup_is_missed(self) -> None:
        assert _restored(*LEDGER[:499]).problems(0.0) == ["1 writes missing that the backup had to hold, first 0:499"]

    def test_within_the_window_it_may_be_missing(self) -> None:
        assert _restored(*LEDGER[:301]).problems(2.0) == []
        assert _restored(*LEDGER[:299]).problems(2.0) == ["1 writes missing that the backup had to hold, first 0:299"]

    @pytest.mark.parametrize(
        ("ledger", "problem"),
        [
            ([*LEDGER[:501], *LEDGER[502:510]], "1 holes, first 0:501"),
            ([*LEDGER[:505], "0:7"], "1 duplicated, first 0:7"),
            ([*LEDGER[:505], "0:5000"], "1 phantom, first 0:5000"),
            ([*LEDGER[:503], "0:504", "0:503"], "1 out of order, first 0:503"),
        ],
        ids=["a hole", "a duplicate", "a phantom", "a swap"],
    )
    def test_what_is_no_prefix_is_found_even_behind_the_begin_of_the_backup(self, ledger: list[str], problem: str) -> None:
        assert _restored(*ledger).problems(0.0) == [problem]

    def test_another_digest_of_the_rest_is_found(self) -> None:
        assert _restored(*LEDGER[:505], static="another").problems(0.0) == ["the digest of the rest is another one"]

    def test_a_server_that_refused_to_start_is_one(self) -> None:
        assert Restoration(TAKEN, None, "Bad file").problems(0.0) == ["the server refused to start: Bad file"]


class TestAge:
    def test_it_runs_from_the_newest_restored_write_to_the_end_of_the_backup(self) -> None:
        assert _restored(*LEDGER[:501]).age_s == pytest.approx(0.099)

    def test_a_write_acknowledged_after_the_backup_is_of_no_age(self) -> None:
        assert _restored(*LEDGER[:700]).age_s == 0.0

    def test_where_nothing_was_restored_it_is_not_told(self) -> None:
        (_, age, *_) = judge_backups(SNAPSHOT, [_restored()]).measured
        assert age.value is None


class TestBackups:
    @pytest.mark.parametrize("kind", [APPEND_ONLY_SET, SNAPSHOT])
    def test_a_good_one_passes(self, kind: str) -> None:
        finding = judge_backups(kind, [_restored(*LEDGER[:505])])
        assert (finding.verdict, finding.reason) == (PASS, "")

    def test_only_the_append_only_set_has_a_window(self) -> None:
        late = [_restored(*LEDGER[:400])]
        assert judge_backups(APPEND_ONLY_SET, late).verdict is PASS
        assert judge_backups(SNAPSHOT, late).verdict is FAIL

    def test_one_bad_one_of_several_fails(self) -> None:
        good, bad = _restored(*LEDGER[:505]), _restored(*LEDGER[:505], static="another")
        finding = judge_backups(SNAPSHOT, [good, bad, good])
        assert (finding.verdict, finding.reason) == (FAIL, "the digest of the rest is another one")

    def test_writers_that_were_not_at_work_prove_nothing(self) -> None:
        still = replace(TAKEN, history=History(RECORDS[:520]))
        finding = judge_backups(SNAPSHOT, [_restored(*LEDGER[:505], taken=still)])
        assert (finding.verdict, finding.reason) == (INCONCLUSIVE, "only 10 acknowledged after the backup, 100 are needed")

    def test_a_backup_that_came_before_the_writers_proves_nothing(self) -> None:
        early = replace(TAKEN, backup=replace(BACKUP, began_ns=SECOND_NS // 2))
        finding = judge_backups(SNAPSHOT, [_restored(*LEDGER[:505], taken=early)])
        assert (finding.verdict, finding.reason) == (INCONCLUSIVE, "only 50 acknowledged 0 s before the backup, 100 are needed")

    def test_one_without_a_rewrite_under_way_proves_nothing(self) -> None:
        finding = judge_backups(SNAPSHOT, [_restored(*LEDGER[:505], taken=replace(TAKEN, doubts=("no rewrite was under way",)))])
        assert (finding.verdict, finding.reason) == (INCONCLUSIVE, "no rewrite was under way")

    def test_none_at_all_proves_nothing(self) -> None:
        assert judge_backups(SNAPSHOT, []).verdict is INCONCLUSIVE


class TestSwitched:
    CONTENT = Content(("0:0", "0:1"), "digest")

    def test_the_same_content_passes(self) -> None:
        assert judge_switched(self.CONTENT, self.CONTENT).verdict is PASS

    @pytest.mark.parametrize("after", [None, Content(("0:0",), "digest"), Content(("0:0", "0:1"), "another")])
    def test_a_refusal_or_another_content_fails(self, after: Content | None) -> None:
        assert judge_switched(self.CONTENT, after).verdict is FAIL

    def test_where_nothing_was_restored_it_says_nothing(self) -> None:
        assert judge_switched(None, None).verdict is INCONCLUSIVE


class TestControls:
    GOOD, BAD = _restored(*LEDGER[:505]), _restored()

    def test_a_snapshot_that_is_not_read_is_seen(self) -> None:
        assert judge_ignored(self.BAD).verdict is PASS

    def test_one_that_is_read_shows_nothing(self) -> None:
        assert judge_ignored(self.GOOD).verdict is INCONCLUSIVE

    def test_a_refusal_does_not_show_that_it_is_not_read(self) -> None:
        finding = judge_ignored(Restoration(TAKEN, None, "Bad file"))
        assert (finding.verdict, finding.reason.startswith("this server has refused it")) == (INCONCLUSIVE, True)

    def test_bad_copies_that_are_found_out_pass(self) -> None:
        finding = judge_spoiled(self.GOOD, {"torn": self.BAD, "refused": Restoration(TAKEN, None, "Bad file")})
        assert (finding.verdict, finding.measured[0].value) == (PASS, 2)

    def test_a_bad_copy_that_passes_for_a_good_one_is_named(self) -> None:
        finding = judge_spoiled(self.GOOD, {"torn": self.BAD, "whole": self.GOOD})
        assert (finding.verdict, finding.reason) == (INCONCLUSIVE, "whole passes for a good one")

    def test_a_good_copy_that_is_accused_is_told(self) -> None:
        finding = judge_spoiled(self.BAD, {"torn": self.BAD})
        assert finding.verdict is INCONCLUSIVE
        assert finding.reason.startswith("the good copy is accused: ")

    def test_no_bad_copies_show_nothing(self) -> None:
        assert judge_spoiled(self.GOOD, {}).verdict is INCONCLUSIVE
