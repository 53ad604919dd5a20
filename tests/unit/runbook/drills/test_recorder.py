"""The judgement of the recorder's figures, and that it takes them."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from runbook.drills import recorder
from runbook.drills.checkers import account
from runbook.evidence import Verdict
from runbook.load import History, Outcome, Record
from runbook.load.journal import Lane
from runbook.report.tables import recorder_table

PASS, INCONCLUSIVE, FAIL = Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL
RECORDS = [Record(0, "RPUSH", f"0:{number}", number, number, number + 1, Outcome.OK) for number in range(10)]


def verdicts(
    *, ratio: float = 0.7, memory_mib: float = 90.0, missing: tuple[str, ...] = ("0:5",), more: tuple[str, ...] = ()
) -> list[Verdict]:
    found = account(History(RECORDS), [*(record.value for record in RECORDS if record.value not in missing), *more], ())
    return [finding.verdict for finding in recorder.judge_figures(10, [ratio] * 12, memory_mib, found, "0:5")]


def test_figures_within_their_bounds_pass() -> None:
    assert verdicts() == [PASS, PASS, PASS]


def test_a_slow_journal_fails() -> None:
    assert verdicts(ratio=1.0) == [PASS, PASS, PASS]
    assert verdicts(ratio=1.1) == [FAIL, PASS, PASS]


def test_a_journal_that_synchronises_each_record_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    done = Lane.done

    def slow(lane: Lane, *arguments: Any) -> None:
        done(lane, *arguments)
        with lane.path.open("rb") as file:
            os.fsync(file.fileno())

    monkeypatch.setattr(Lane, "done", slow)
    assert recorder.measure(2000, print).findings[0].verdict is FAIL


def test_much_memory_fails_and_memory_that_is_not_told_proves_nothing() -> None:
    assert verdicts(memory_mib=500.0) == [PASS, FAIL, PASS]
    assert verdicts(memory_mib=0.0) == [PASS, INCONCLUSIVE, PASS]


@pytest.mark.parametrize(("missing", "more"), [((), ()), (("0:4",), ()), (("0:4", "0:5"), ()), (("0:5",), ("0:1",)), (("0:5",), ("x",))])
def test_an_account_that_finds_anything_else_proves_nothing(missing: tuple[str, ...], more: tuple[str, ...]) -> None:
    assert verdicts(missing=missing, more=more) == [PASS, PASS, INCONCLUSIVE]


def test_records_are_written_and_accounted_for() -> None:
    said: list[str] = []
    result = recorder.measure(2000, said.append)
    assert result.account is not None
    assert (result.account.attempted, result.account.lost) == (2000, ("0:250",))
    assert result.size_mib > 2000 * 50 / 2**20
    assert [finding.verdict for finding in result.findings[1:]] == [PASS, PASS]
    assert len(said) == 2
    assert "2,000 records" in recorder_table(result).text()


def test_a_full_disk_proves_nothing_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no room", str(Path("lane")))

    monkeypatch.setattr(recorder, "_record", full)
    result = recorder.measure(2000, print)
    assert {(finding.verdict, finding.reason) for finding in result.findings} == {(INCONCLUSIVE, "[Errno 28] no room: 'lane'")}
    assert "—" in recorder_table(result).text()
