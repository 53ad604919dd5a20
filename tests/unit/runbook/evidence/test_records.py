"""What the archive keeps of a run: one entry for each notebook, verification or drill, with the digest of all of its evidence."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from runbook.evidence.archive import Archive
from runbook.evidence.records import contents_of, record
from runbook.evidence.store import MANIFEST, RESULT, EvidenceError, RunFolder

LOST = {"name": "acknowledged writes lost", "value": 7, "unit": "writes", "samples": 3120, "threshold": "= 0"}
WINDOW = {"name": "window of the loss", "value": 0.3, "unit": "s", "samples": None, "threshold": "≤ 2 s"}
FINDING = {"criterion": "I-4", "claim": "Nothing is lost", "verdict": "FAIL", "reason": "7 lost", "known": "", "measured": [LOST, WINDOW]}
ENGINE = {"product": "redis", "version": "7.0.15", "found_by": "PATH"}
CIRCUMSTANCES = {"target": "embedded", "engine": ENGINE, "host": {"cpus": 2}, "versions": {}}
NOTEBOOK = {
    "kind": "notebook",
    "run": "20260102T030405Z-persistence-drill",
    "notebook": "persistence-drill",
    "verdict": "FAIL",
    "broken": "",
    "parameters": {"writers": 4, "seed": 7},
    "started_utc": "2026-01-02T03:04:05+00:00",
    "duration_s": 23.4,
    "findings": [FINDING],
    **CIRCUMSTANCES,
}
VERIFICATION = {
    "kind": "verification",
    "verdict": "FAIL",
    "broken": "",
    "interrupted": False,
    "started_utc": "2026-01-02T03:04:05+00:00",
    "finished_utc": "2026-01-02T03:06:05+00:00",
    "duration_s": 120.0,
    "criteria": [],
    "runs": [{"run": "20260102T030400Z-setup", "broken": ""}],
    **CIRCUMSTANCES,
}
DRILLS = {
    "kind": "drills",
    "verdict": "FAIL",
    "broken": "pause",
    "interrupted": True,
    "started_utc": "2026-01-02T03:04:05+00:00",
    "duration_s": 15.0,
    "parameters": {"profile": "quick", "seed": 7},
    "drills": [
        {"name": "kill", "verdict": "FAIL", "broken": "", "times": 3, "duration_s": 10.0, "findings": [FINDING]},
        {"name": "pause", "verdict": None, "broken": "it was interrupted", "times": 1, "duration_s": 5.0, "findings": []},
    ],
    **CIRCUMSTANCES,
}


def write_run(runs: Path, result: dict[str, Any]) -> Path:
    folder = RunFolder.create(runs, "setup", {})
    folder.write_json(RESULT, result)
    folder.write_manifest()
    return folder.path


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path, {})


def test_a_notebook_is_kept_with_every_number_and_the_claim_for_which_it_was_measured() -> None:
    (content,) = contents_of(NOTEBOOK, "0" * 64)
    claim = {"criterion": "I-4", "claim": "Nothing is lost", "verdict": "FAIL", "known": ""}
    assert content == {
        "kind": "notebook",
        "name": "persistence-drill",
        "target": "embedded",
        "verdict": "FAIL",
        "broken": "",
        "interrupted": False,
        "started_utc": "2026-01-02T03:04:05+00:00",
        "finished_utc": "2026-01-02T03:04:28+00:00",
        "duration_s": 23.4,
        "parameters": {"writers": 4, "seed": 7},
        "engine": ENGINE,
        "host": {"cpus": 2},
        "measured": [{**claim, **LOST}, {**claim, **WINDOW}],
        "manifest_sha256": "0" * 64,
    }


def test_a_broken_run_is_kept_without_a_verdict_and_without_numbers_and_says_whether_its_user_ended_it() -> None:
    broken = {**NOTEBOOK, "verdict": None, "target": None, "parameters": {"target": "compose"}}
    (interrupted,) = contents_of({**broken, "broken": "it was interrupted", "interrupted": True}, "")
    assert (interrupted["verdict"], interrupted["interrupted"], interrupted["measured"]) == (None, True, [])
    assert interrupted["target"] == "compose"  # as it was asked for: a run that broke early could not say it
    (crashed,) = contents_of({**broken, "broken": "code cell 1 of 3 raised ValueError"}, "")
    assert (crashed["broken"], crashed["interrupted"]) == ("code cell 1 of 3 raised ValueError", False)


def test_a_verification_is_kept_with_the_times_that_it_says() -> None:
    (content,) = contents_of(VERIFICATION, "")
    assert (content["kind"], content["name"], content["measured"]) == ("verification", "verify", [])
    assert (content["started_utc"], content["duration_s"]) == ("2026-01-02T03:04:05+00:00", 120.0)
    assert content["finished_utc"] == VERIFICATION["finished_utc"]


@pytest.mark.parametrize("interrupted", [True, False])
def test_a_verification_says_itself_whether_it_was_interrupted(interrupted: bool) -> None:
    runs = [{"run": "a-setup", "broken": "it was interrupted"}]
    assert contents_of({**VERIFICATION, "interrupted": interrupted, "runs": runs}, "")[0]["interrupted"] is interrupted


def test_a_verification_of_an_older_version_is_kept_as_of_its_end() -> None:
    old = {name: value for name, value in VERIFICATION.items() if name not in ("interrupted", "started_utc", "duration_s")}
    (content,) = contents_of(old, "")
    assert (content["started_utc"], content["duration_s"], content["interrupted"]) == (VERIFICATION["finished_utc"], 0.0, False)


def test_each_drill_is_an_entry_of_its_own_and_began_when_the_one_before_had_ended() -> None:
    kill, pause = contents_of(DRILLS, "")
    assert [(each["kind"], each["name"], each["verdict"], each["interrupted"]) for each in (kill, pause)] == [
        ("drill", "kill", "FAIL", False),
        ("drill", "pause", None, True),
    ]
    assert kill["finished_utc"] == pause["started_utc"] == "2026-01-02T03:04:15+00:00"
    assert [len(each["measured"]) for each in (kill, pause)] == [2, 0]
    assert kill["parameters"] == {"profile": "quick", "seed": 7, "times": 3}


def test_the_entries_bear_the_runs_name_and_the_digest_of_its_manifest(tmp_path: Path, archive: Archive) -> None:
    path = write_run(tmp_path, DRILLS)
    recorded = record(path, archive)
    assert archive.entries("run") == recorded
    assert {entry.run for entry in recorded} == {path.name}
    digest = hashlib.sha256((path / MANIFEST).read_bytes()).hexdigest()
    assert [entry.content["manifest_sha256"] for entry in recorded] == [digest, digest]


def test_a_run_is_recorded_once(tmp_path: Path, archive: Archive) -> None:
    first, second = write_run(tmp_path, NOTEBOOK), write_run(tmp_path, NOTEBOOK)
    assert len(record(first, archive)) == 1
    assert record(first, archive) == []
    record(second, archive)
    assert [entry.run for entry in archive.entries()] == [first.name, second.name]


@pytest.mark.parametrize(
    ("harm", "complaint"),
    [
        (lambda path: (path / MANIFEST).unlink(), "holds no manifest.json"),
        (lambda path: (path / RESULT).unlink(), "holds no result.json"),
        (lambda path: (path / RESULT).write_text('{"kind": "dance"}'), "is no result of this version"),
        (lambda path: (path / RESULT).write_text("[]"), "is no result of this version"),
    ],
)
def test_what_is_no_finished_run_is_not_recorded(tmp_path: Path, archive: Archive, harm: Any, complaint: str) -> None:
    path = write_run(tmp_path, NOTEBOOK)
    harm(path)
    with pytest.raises(EvidenceError, match=complaint):
        record(path, archive)
    assert archive.entries() == []
