"""What decides the exit status of a verification, and what it is compared with: nothing that goes wrong there hides what was found."""

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest

from runbook import cli
from runbook.cli import exit_status, main, status_of
from runbook.cli_evidence import accepted_of, baseline_of, hold_against_command
from runbook.evidence import RunFolder, Verdict
from runbook.evidence.acceptance import Accepted, accept
from runbook.evidence.archive import Archive
from runbook.evidence.records import manifest_sha256
from runbook.evidence.store import RESULT, EvidenceError
from runbook.execute import Run
from runbook.notebooks import FOLDER, find_notebook
from runbook.report.regression import keep

PASS, FAIL, INCONCLUSIVE, BROKEN = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE, None


def _run(verdict: Verdict | None, *, interrupted: bool = False) -> Run:
    return Run(find_notebook("setup", FOLDER), RunFolder(Path("unused"), {}), verdict, "", {}, interrupted)


@pytest.mark.parametrize(
    ("verdicts", "status"),
    [
        ([PASS, PASS], 0),
        ([PASS, BROKEN], 4),
        ([INCONCLUSIVE, BROKEN], 4),
        ([FAIL, BROKEN], 1),
        ([INCONCLUSIVE, PASS], 3),
        ([], 3),
    ],
)
def test_a_failure_outweighs_a_broken_run_which_outweighs_what_is_open(verdicts: list[Verdict | None], status: int) -> None:
    assert exit_status([_run(verdict) for verdict in verdicts]) == status


@pytest.mark.parametrize(
    ("verdict", "against", "broken", "status"),
    [
        (PASS, PASS, "", 0),
        (PASS, FAIL, "", 1),
        (PASS, INCONCLUSIVE, "", 3),
        (INCONCLUSIVE, FAIL, "setup did not come to a verdict", 1),
        (INCONCLUSIVE, INCONCLUSIVE, "setup did not come to a verdict", 4),
        (FAIL, PASS, "setup did not come to a verdict", 1),
        (INCONCLUSIVE, PASS, "", 3),
    ],
)
def test_the_status_of_a_verification_is_read_off_its_result_with_what_it_was_held_against(
    verdict: Verdict, against: Verdict, broken: str, status: int, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path, {})
    folder.write_json(RESULT, {"verdict": verdict, "broken": broken, "interrupted": False, "criteria": []})
    keep(folder, "before", against, "…")
    assert status_of(folder.read_json(RESULT)) == status


def test_an_interruption_outweighs_all() -> None:
    assert exit_status([_run(FAIL), _run(BROKEN, interrupted=True)]) == 130
    assert status_of({"verdict": "FAIL", "broken": "it was interrupted", "interrupted": True}) == 130


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


def _verification(runs: Path, name: str, *, criteria: object = ()) -> RunFolder:
    """Write a verification of a run that offers one load, which is damaged if it is named `b`."""
    member = RunFolder(runs / f"{name}-load", {})
    circumstances = {"target": "embedded", "engine": {}, "host": {}, "versions": {}}
    verified = RunFolder(runs / f"{name}-verify", {})
    for folder in (member, verified):
        folder.path.mkdir(parents=True)
    member.write_json(RESULT, {"kind": "notebook", "run": member.name, "notebook": "load"})
    if name == "b":
        member.write_gzip("load-steady.json.gz", "{")
    member.write_manifest()
    listed = [{"run": member.name, "manifest_sha256": manifest_sha256(member.path)}]
    content = {
        "kind": "verification",
        "run": verified.name,
        "verdict": "PASS",
        "runs": listed,
        "criteria": criteria,
        "headlines": [],
        **circumstances,
    }
    verified.write_json(RESULT, content)
    verified.write_manifest()
    return verified


def _accept(verified: RunFolder) -> Accepted:
    archive = Archive(verified.path.parent, {})
    entry = accept(archive, verified.name, "Ada", manifest_sha256(verified.path), "PASS", "all", "embedded")
    return Accepted(verified.name, "Ada", entry.recorded_utc)


def test_what_was_accepted_last_is_read_before_anything_runs(tmp_path: Path) -> None:
    verified = _verification(tmp_path, "a")
    accepted = _accept(verified)
    assert accepted_of("embedded", tmp_path, {}) == (accepted, verified.read_json(RESULT))
    assert accepted_of("compose", tmp_path, {}) == (None, None)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda file: file.unlink(), "result.json is missing"),
        (lambda file: file.write_text(file.read_text().replace('"headlines": []', '"headlines": [1]')), "result.json was altered"),
    ],
)
def test_what_was_accepted_and_altered_since_is_no_baseline(
    harm: Callable[[Path], object], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verified = _verification(tmp_path, "a")
    _accept(verified)
    harm(verified.path / RESULT)
    assert accepted_of("embedded", tmp_path, {}) == (None, None)
    told = capsys.readouterr().err
    assert told.startswith("runbook: no numbers of a-verify, accepted by Ada, are told: ")
    assert said in told
    with pytest.raises(EvidenceError, match=said):
        baseline_of(None, "embedded", tmp_path, {})


@pytest.mark.parametrize(("name", "criteria", "said"), [("b", [], "load-steady.json.gz is damaged"), ("a", [{}], "not of this version")])
def test_a_baseline_that_can_not_be_compared_is_refused_before_anything_runs(
    name: str, criteria: object, said: str, tmp_path: Path
) -> None:
    verified = _verification(tmp_path, name, criteria=criteria)
    with pytest.raises(EvidenceError, match=said):
        baseline_of(verified.path, "embedded", tmp_path, {})


def test_a_comparison_that_fails_after_the_run_is_inconclusive_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = _verification(tmp_path, "a"), _verification(tmp_path, "b")
    assert baseline_of(before.path, "embedded", tmp_path, {}) == before.path
    hold_against_command(before.path, after)
    assert after.read_json(RESULT)["verdict"] == "INCONCLUSIVE"
    against = after.read_json(RESULT)["against"]
    assert (against["run"], against["verdict"], against["sentences"]) == ("a-verify", "INCONCLUSIVE", [])
    assert against["headline"].startswith("INCONCLUSIVE: it could not be compared: ")
    assert "compared: b-load/load-steady.json.gz is damaged" in against["headline"]
    assert against["headline"] in capsys.readouterr().out
