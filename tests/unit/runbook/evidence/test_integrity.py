"""Whatever was altered in a run folder since its manifest was written is named, and nothing outside of it is looked at."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runbook.evidence.acceptance import accept
from runbook.evidence.archive import Archive
from runbook.evidence.integrity import Inspection, inspect
from runbook.evidence.records import RUN, manifest_sha256
from runbook.evidence.store import DERIVED, MANIFEST, PAGE, RESULT, EvidenceError, RunFolder

Harm = Callable[[Path], object]


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "runs", {})


def _run(under: Path, name: str, **result: Any) -> Path:
    folder = RunFolder(under / name, {})
    (folder.path / "plots").mkdir(parents=True)
    folder.write_json(RESULT, {"kind": "notebook", "run": name, **result})
    folder.write_text(PAGE, "<!doctype html>")
    folder.write_text("plots/load.hgrm", "0.5 0.4")
    folder.write_manifest()
    return folder.path


def _verification(under: Path, *members: Path) -> Path:
    digests = [{"run": path.name, "manifest_sha256": manifest_sha256(path)} for path in members]
    return _run(under, "c-verify", kind="verification", runs=digests)


def _record(path: Path, archive: Archive) -> None:
    archive.append(RUN, path.name, {"manifest_sha256": manifest_sha256(path)})


@pytest.fixture
def path(tmp_path: Path, archive: Archive) -> Path:
    """A verification of two runs, all of them in the history."""
    members = [_run(tmp_path / "runs", name) for name in ("a-setup", "b-load")]
    verified = _verification(tmp_path / "runs", *members)
    for each in (*members, verified):
        _record(each, archive)
    return verified


def _replace_by_link(path: Path, target: Path) -> None:
    path.unlink()
    path.symlink_to(target)


def _forge(path: Path, **digests: str) -> None:
    noted = json.loads((path / MANIFEST).read_text())["sha256"]
    (path / MANIFEST).write_text(json.dumps({"schema_version": 1, "sha256": {**noted, **digests}}))


def test_untouched_evidence_is_found_whole(path: Path, archive: Archive) -> None:
    accept(archive, path.name, "Ada", manifest_sha256(path), "PASS", "all", "embedded")
    found = inspect(path, archive, noted=manifest_sha256(path))
    assert (found.altered, found.unknown) == ([], [])
    assert found.files == 3 * 4
    assert found.members == ["a-setup", "b-load"]
    assert found.digest == manifest_sha256(path)
    assert [entry.number for entry in found.recorded] == [3]
    assert [entry.content["by"] for entry in found.accepted] == ["Ada"]


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda path: (path / RESULT).write_text("{}"), r"^c-verify/result.json was altered: its SHA-256 was \w{64}, and is \w{64}$"),
        (lambda path: (path / "plots/load.hgrm").unlink(), r"^c-verify/plots/load.hgrm is missing: its SHA-256 was \w{64}$"),
        (lambda path: (path / "plots/more").write_text("x"), r"^c-verify/plots/more was added: its SHA-256 is \w{64}$"),
        (lambda path: (path / "plots" / MANIFEST).write_text("{}"), r"^c-verify/plots/manifest.json was added"),
        (lambda path: (path / "x\nnothing was altered").write_text(""), r"^c-verify/'x\\nnothing was altered' was added"),
        (
            lambda path: _replace_by_link(path / PAGE, path / RESULT),
            r"^c-verify/index.html is a symbolic link, which was not followed: its",
        ),
        (lambda path: (path / "out").symlink_to("/"), r"^c-verify/out is a symbolic link, which was not followed, and was added$"),
        (lambda path: os.mkfifo(path / "pipe"), r"^c-verify/pipe is a special file, which was not followed, and was added$"),
        (lambda path: (path / MANIFEST).unlink(), r"^c-verify/manifest.json is missing, so nothing"),
        (lambda path: _replace_by_link(path / MANIFEST, path.parent / "a-setup" / MANIFEST), r"^c-verify/manifest.json is missing"),
        (lambda path: (path / MANIFEST).write_text("{"), r"^c-verify/manifest.json is damaged, so nothing"),
        (lambda path: (path / MANIFEST).write_text("[" * 100_000), r"^c-verify/manifest.json is damaged"),
        (lambda path: (path / MANIFEST).write_text('{"sha256": ["index.html"]}'), r"^c-verify/manifest.json is damaged"),
        (lambda path: _forge(path, **{PAGE: "no digest"}), r"^c-verify/manifest.json is damaged"),
        (lambda path: _forge(path, **{"../../secret": "0" * 64}), r"^c-verify/../../secret is missing"),
        (lambda path: RunFolder(path, {}).write_text(RESULT, '{"kind": "verification"}'), r"result.json can't be read, so it is not known"),
        (lambda path: (path.parent / "b-load" / RESULT).write_text("{}"), r"^b-load/result.json was altered"),
        (lambda path: os.rename(path.parent / "b-load", path.parent / "x"), r"^b-load, which c-verify sums up, is missing beside it"),
    ],
)
def test_whatever_was_altered_is_named(path: Path, archive: Archive, harm: Harm, said: str) -> None:
    (path.parent.parent / "secret").write_text("not ours")
    harm(path)
    found = inspect(path, archive)
    assert found.altered
    assert any(re.search(said, sentence) for sentence in (*found.altered, *found.unknown)), found
    with pytest.raises(EvidenceError, match="the evidence of c-verify was altered"):
        found.raise_if_altered()


def _launder(path: Path) -> None:
    """Alter evidence, and write a manifest that fits."""
    (path / "plots/load.hgrm").write_text("0.5 0.1")
    RunFolder(path, {}).write_manifest()


def test_a_copy_under_another_name_is_no_run_of_its_own(path: Path, archive: Archive) -> None:
    copy = path.rename(path.parent / "d-verify")
    assert inspect(copy, archive).altered == ["d-verify/result.json is that of 'c-verify': a run keeps the name of its folder"]


def test_a_manifest_written_anew_is_found_out_by_the_history(path: Path, archive: Archive) -> None:
    _launder(path)
    (said,) = inspect(path, archive).altered
    assert said.startswith("c-verify/manifest.json is not the one that was recorded on 20")


def test_a_manifest_written_anew_is_found_out_by_the_acceptance(tmp_path: Path, archive: Archive) -> None:
    path = _run(tmp_path / "runs", "a-verify")
    accept(archive, path.name, "Ada", manifest_sha256(path), "PASS", "all", "embedded")
    _launder(path)
    (said,) = inspect(path, archive).altered
    assert "is not the one that was accepted by Ada on 20" in said


def test_a_runs_manifest_written_anew_is_found_out_by_the_verification(tmp_path: Path, archive: Archive) -> None:
    member = _run(tmp_path / "runs", "a-setup")
    verified = _verification(tmp_path / "runs", member)
    _launder(member)
    (said,) = inspect(verified, archive).altered
    assert said.startswith("a-setup/manifest.json is not the one that c-verify sums up: its SHA-256 was ")


def test_only_a_digest_noted_elsewhere_finds_out_who_rewrote_everything(tmp_path: Path, archive: Archive) -> None:
    path = _run(tmp_path / "runs", "a-setup")
    noted = manifest_sha256(path)
    _launder(path)
    assert inspect(path, archive).altered == []
    (said,) = inspect(path, archive, noted=noted).altered
    assert said == f"a-setup/manifest.json is not the one that was noted: its SHA-256 was {noted}, and is {manifest_sha256(path)}"


def test_an_altered_history_is_told(path: Path, archive: Archive) -> None:
    archive.path.write_bytes(b"no database, but long enough to be none" * 20)
    (said,) = inspect(path, archive).altered
    assert "history.sqlite3 can't be used" in said


def test_what_can_not_be_checked_is_said(tmp_path: Path, archive: Archive) -> None:
    _run(tmp_path / "runs", "a-setup")
    old = _run(tmp_path / "runs", "c-verify", kind="verification", runs=[{"run": "a-setup"}])
    found = inspect(old, archive)
    assert found.altered == []
    assert found.unknown == [
        "c-verify, of an older version, lacks the digests of 1 of its runs: their own manifests count",
        "no history tells of c-verify, so a manifest that was written anew is not found out there",
    ]


@pytest.mark.parametrize("name", ["../a-setup", "..", "/etc", "", 7, "a-setup\0"])
def test_a_verification_that_names_runs_elsewhere_is_not_followed(tmp_path: Path, archive: Archive, name: object) -> None:
    _run(tmp_path / "runs", "a-setup")
    forged = _run(tmp_path / "runs", "c-verify", kind="verification", runs=[{"run": name, "manifest_sha256": "0" * 64}])
    found: Inspection = inspect(forged, archive)
    assert found.members == []
    assert f"sums up {name!r}, which is no name of a run" in found.altered[0]


def test_a_run_that_is_a_link_to_elsewhere_is_missing(path: Path, archive: Archive) -> None:
    os.rename(path.parent / "b-load", path.parent.parent / "elsewhere")
    (path.parent / "b-load").symlink_to(path.parent.parent / "elsewhere")
    assert "b-load, which c-verify sums up, is missing beside it" in inspect(path, archive).altered[0]


def test_what_can_be_rendered_again_may_be_left_out(path: Path, archive: Archive) -> None:
    (path / PAGE).write_text("altered")
    (path.parent / "a-setup" / PAGE).unlink()
    (path / "junit.xml").write_text("added")
    assert len(inspect(path, archive).altered) == 3
    assert inspect(path, archive, leave_out=DERIVED).altered == []
