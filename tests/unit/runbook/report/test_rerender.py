"""A run is rendered again as it was, never over evidence that was altered, and never otherwise than somebody relies on."""

from pathlib import Path
from typing import Any

import pytest

from runbook.evidence.acceptance import accept
from runbook.evidence.archive import Archive
from runbook.evidence.records import RUN, manifest_sha256
from runbook.evidence.store import MANIFEST, PAGE, RESULT, EvidenceError, RunFolder
from runbook.report import rerender as module
from runbook.report.page import write_page
from runbook.report.rerender import rerender


def _drills(verdict: str = "PASS") -> dict[str, Any]:
    return {
        "schema_version": 1,
        "kind": "drills",
        "run": "a-drill",
        "verdict": verdict,
        "broken": "",
        "interrupted": False,
        "target": "embedded",
        "parameters": {},
        "started_utc": "2026-01-01T00:00:00+00:00",
        "duration_s": 1.0,
        "controls": {"failed_as_they_must": 0, "of": 0},
        "drills": [],
        "engine": None,
        "host": {},
        "versions": {},
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A run that was rendered, and neither recorded nor accepted."""
    folder = RunFolder(tmp_path / "runs" / "a-drill", {})
    folder.path.mkdir(parents=True)
    folder.write_json(RESULT, _drills())
    write_page(folder.path)
    return folder.path


@pytest.fixture
def archive(path: Path) -> Archive:
    return Archive(path.parent, {})


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this be a version that renders otherwise."""
    original = module.render

    def render(path: Path, into: Path) -> None:
        original(path, into)
        (into / PAGE).write_text("a newer page")

    monkeypatch.setattr(module, "render", render)


def _state(path: Path) -> dict[str, tuple[bytes, int]]:
    return {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in path.iterdir()}


def test_what_comes_out_the_same_is_not_even_written(path: Path, archive: Archive) -> None:
    before = _state(path)
    assert rerender(path, archive) == (path / PAGE).read_text()
    assert _state(path) == before


def test_the_page_that_is_given_back_is_the_rendered_one_and_not_what_the_run_holds(path: Path, archive: Archive) -> None:
    rendered = (path / PAGE).read_text()
    (path / PAGE).write_text("tampered")
    assert rerender(path, archive, path.parent / "elsewhere.html") == rendered
    assert (path / PAGE).read_text() == "tampered"


@pytest.mark.parametrize("harm", [lambda page: page.unlink(), lambda page: page.write_text("tampered")], ids=["lost", "altered"])
def test_a_page_that_was_lost_or_altered_comes_back_under_the_same_manifest(harm: Any, path: Path, archive: Archive) -> None:
    archive.append(RUN, path.name, {"manifest_sha256": manifest_sha256(path)})
    before = _state(path)
    harm(path / PAGE)
    rerender(path, archive)
    after = _state(path)
    assert after[PAGE][0] == before[PAGE][0]
    assert after[MANIFEST] == before[MANIFEST]


def test_altered_evidence_is_not_laundered(path: Path, archive: Archive) -> None:
    RunFolder(path, {}).write_json(RESULT, _drills("FAIL"))
    before = _state(path)
    with pytest.raises(EvidenceError, match=r"a-drill/result\.json was altered: its SHA-256 was \w{64}, and is \w{64}"):
        rerender(path, archive)
    with pytest.raises(EvidenceError, match="was altered"):
        rerender(path, archive, path.parent / "elsewhere.html")
    assert _state(path) == before


@pytest.mark.parametrize("forge", [lambda path: RunFolder(path, {}).write_manifest(), lambda path: (path / MANIFEST).unlink()])
def test_altered_evidence_under_a_new_or_no_manifest_is_not_laundered_once_it_was_recorded(
    forge: Any, path: Path, archive: Archive
) -> None:
    archive.append(RUN, path.name, {"manifest_sha256": manifest_sha256(path)})
    RunFolder(path, {}).write_json(RESULT, _drills("FAIL"))
    forge(path)
    before = _state(path)
    with pytest.raises(EvidenceError, match="is not the one that was recorded on"):
        rerender(path, archive)
    assert _state(path) == before


@pytest.mark.usefixtures("newer")
def test_a_newer_page_replaces_one_that_nobody_relies_on(path: Path, archive: Archive) -> None:
    rerender(path, archive)
    assert (path / PAGE).read_text() == "a newer page"
    rerender(path, archive)  # which finds the manifest as it has to be


@pytest.mark.usefixtures("newer")
@pytest.mark.parametrize("accepted", [True, False])
def test_a_newer_page_does_not_replace_one_that_was_recorded_or_accepted(accepted: bool, path: Path, archive: Archive) -> None:
    if accepted:
        accept(archive, path.name, "Ada", manifest_sha256(path), "PASS", "all", "embedded")
    else:
        archive.append(RUN, path.name, {"manifest_sha256": manifest_sha256(path)})
    before = _state(path)
    how = "accepted by Ada on" if accepted else "recorded on"
    with pytest.raises(EvidenceError, match=rf"renders index\.html of a-drill otherwise .* {how} .*--page FILE` writes the new page"):
        rerender(path, archive)
    rerender(path, archive, path.parent / "elsewhere.html")
    assert (path.parent / "elsewhere.html").read_text() == "a newer page"
    assert _state(path) == before


@pytest.mark.usefixtures("newer")
@pytest.mark.parametrize("listed", [True, False])
def test_a_newer_page_does_not_replace_one_that_a_verification_sums_up(listed: bool, path: Path, archive: Archive) -> None:
    for name, digest in (("b-verify", manifest_sha256(path) if listed else "0" * 64), ("c-verify", None)):
        beside = RunFolder(path.parent / name, {})
        beside.path.mkdir()
        runs = [{"run": path.name, "manifest_sha256": digest}] if digest else "damaged"
        beside.write_json(RESULT, {"kind": "verification", "run": name, "runs": runs})
    before = _state(path)
    if listed:
        with pytest.raises(EvidenceError, match="otherwise than the one whose digest was noted by b-verify, which sums it up, so nothing"):
            rerender(path, archive)
        assert _state(path) == before
    else:
        rerender(path, archive)
        assert (path / PAGE).read_text() == "a newer page"


def test_a_run_that_ended_before_its_manifest_was_written_can_be_rendered(path: Path, archive: Archive) -> None:
    before = _state(path)
    (path / MANIFEST).unlink()
    (path / PAGE).unlink()
    rerender(path, archive)
    assert {name: content for name, (content, _) in _state(path).items()} == {name: content for name, (content, _) in before.items()}


def test_nothing_is_added_to_the_run_folder(path: Path, archive: Archive) -> None:
    with pytest.raises(EvidenceError, match="to which nothing may be added"):
        rerender(path, archive, path / "new.html")


def test_a_place_where_no_page_can_be_written_is_named(path: Path, archive: Archive) -> None:
    with pytest.raises(EvidenceError, match=r"page\.html can't be written .* --page"):
        rerender(path, archive, path / ".." / "none" / "page.html")
