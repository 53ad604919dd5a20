"""An acceptance is recorded once for each who accepts, and the last one of a target is what others are held against."""

from pathlib import Path

import pytest

from runbook.evidence.acceptance import accept, last_accepted, newest_acceptance
from runbook.evidence.archive import Archive, Entry


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path, {})


def _accept(archive: Archive, run: str, by: str = "Ada", target: str = "embedded", digest: str = "d1", despite: str = "") -> Entry:
    (archive.path.parent / run).mkdir(exist_ok=True)
    return accept(archive, run, by, digest, "PASS", "PASS: all", target, despite)


def test_the_newest_acceptance_of_the_same_target_counts(archive: Archive, tmp_path: Path) -> None:
    _accept(archive, "b")
    entry = _accept(archive, "a", by="Bo")
    _accept(archive, "c", target="compose")
    assert last_accepted(archive, tmp_path, "embedded") == ("a", "Bo", entry.recorded_utc, "")


def test_before_any_acceptance_there_is_none(archive: Archive, tmp_path: Path) -> None:
    assert last_accepted(archive, tmp_path, "embedded") is None


def test_an_older_one_is_no_stand_in_for_one_whose_folder_is_gone(archive: Archive, tmp_path: Path) -> None:
    _accept(archive, "a")
    _accept(archive, "b")
    (tmp_path / "b").rmdir()
    assert last_accepted(archive, tmp_path, "embedded") is None
    newest = newest_acceptance(archive, "embedded")
    assert newest is not None
    assert newest.run == "b"


def test_accepting_the_same_again_is_not_recorded_again(archive: Archive) -> None:
    first = _accept(archive, "a")
    assert _accept(archive, "a") == first
    assert len(archive.entries()) == 1


def test_accepting_an_older_one_again_makes_it_the_newest(archive: Archive, tmp_path: Path) -> None:
    for run in ("a", "b"):
        _accept(archive, run)
    entry = _accept(archive, "a")
    assert last_accepted(archive, tmp_path, "embedded") == ("a", "Ada", entry.recorded_utc, "")


def test_an_acceptance_of_another_target_in_between_makes_no_difference(archive: Archive) -> None:
    first = _accept(archive, "a")
    _accept(archive, "b", target="compose")
    assert _accept(archive, "a") == first


@pytest.mark.parametrize("different", [{"by": "Bo"}, {"digest": "d2"}, {"despite": "the host was busy"}])
def test_another_person_other_evidence_or_another_reason_is_another_acceptance(archive: Archive, different: dict[str, str]) -> None:
    _accept(archive, "a")
    _accept(archive, "a", **different)
    assert len(archive.entries("acceptance")) == 2
