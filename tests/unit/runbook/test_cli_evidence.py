"""What decides the exit status of a verification: what weighs more, and never whether it could be recorded."""

import argparse
from pathlib import Path

import pytest

from runbook import cli
from runbook.cli import exit_status, main
from runbook.evidence import RunFolder, Verdict
from runbook.evidence.store import EvidenceError
from runbook.execute import Run
from runbook.notebooks import FOLDER, find_notebook

PASS, FAIL, INCONCLUSIVE, BROKEN = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE, None


def _run(verdict: Verdict | None, *, interrupted: bool = False) -> Run:
    return Run(find_notebook("setup", FOLDER), RunFolder(Path("unused"), {}), verdict, "", {}, interrupted)


@pytest.mark.parametrize(
    ("verdicts", "against", "status"),
    [
        ([PASS, PASS], PASS, 0),
        ([PASS, PASS], FAIL, 1),
        ([PASS, PASS], INCONCLUSIVE, 3),
        ([PASS, BROKEN], FAIL, 1),
        ([PASS, BROKEN], INCONCLUSIVE, 4),
        ([FAIL, BROKEN], PASS, 1),
        ([INCONCLUSIVE, PASS], PASS, 3),
        ([], PASS, 3),
    ],
)
def test_a_failure_outweighs_a_broken_run_which_outweighs_what_is_open(
    verdicts: list[Verdict | None], against: Verdict, status: int
) -> None:
    assert exit_status([_run(verdict) for verdict in verdicts], [against]) == status


def test_an_interruption_outweighs_all() -> None:
    assert exit_status([_run(FAIL), _run(BROKEN, interrupted=True)], [FAIL]) == 130


@pytest.mark.parametrize(("verdict", "status"), [(PASS, 4), (FAIL, 1), (INCONCLUSIVE, 3), (BROKEN, 4)])
def test_a_history_that_can_not_be_written_hides_no_verdict_and_is_no_pass(
    verdict: Verdict | None, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def record_runs(*_: object) -> None:
        raise EvidenceError("the disk is full")

    monkeypatch.setattr(cli.cli_history, "record_runs", record_runs)
    assert cli._recorded([], exit_status([_run(verdict)]), argparse.Namespace(), {}) == status
    assert capsys.readouterr().err == "runbook: not recorded: the disk is full\n"


@pytest.mark.parametrize("arguments", [["run", "setup"], ["verify"], ["drill", "stop"]])
def test_a_damaged_history_is_told_before_anything_runs(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*_: object, **__: object) -> None:
        pytest.fail("it ran")

    monkeypatch.setattr(cli, "execute", run)
    monkeypatch.setattr(cli.cli_drill, "perform", run)
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)  # what ends the tests stays as it is
    damaged = tmp_path / "history.sqlite3"
    damaged.write_bytes(b"no database, but long enough to be none" * 20)
    assert main([*arguments, "--runs", str(tmp_path)]) == 2
    assert "history.sqlite3 can't be used" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [damaged]
