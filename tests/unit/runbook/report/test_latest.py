"""`runs/latest` is a view: the scorecard, the newest verification under names that never change, and nothing left of an older one."""

import html
import re
import threading
from pathlib import Path
from typing import Any

import pytest

from runbook.evidence.archive import Archive
from runbook.evidence.store import EvidenceError, RunFolder
from runbook.report.latest import newest_verification, write_latest
from runbook.report.sentence import sentence
from tests.unit.runbook.report.entries import entry

CATALOGUE = {"notebook": ["setup", "never-done"], "drill": ["kill"]}
RESULT = {"verdict": "FAIL", "broken": "", "target": "embedded", "criteria": [{"id": "I-4", "verdict": "FAIL"}], "runs": []}


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path, {})


def add_run(archive: Archive, run: str = "a-setup", **content: Any) -> None:
    archive.append("run", run, entry(1, **{"name": "setup", **content}).content)


def add_verification(archive: Archive, run: str, *files: str, day: str = "2026-03-01") -> Path:
    folder = RunFolder(archive.path.parent / run, {})
    folder.path.mkdir()
    folder.write_json("result.json", RESULT)
    for name in files:
        folder.write_text(name, f"{name} of {run}")
    add_run(archive, run, kind="verification", name="verify", day=day)
    return folder.path


def written(runs: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in (runs / "latest").iterdir()}


def test_before_the_first_verification_there_is_only_the_scorecard(tmp_path: Path, archive: Archive) -> None:
    add_run(archive)
    write_latest(tmp_path, archive, CATALOGUE)
    assert set(written(tmp_path)) == {"index.html"}
    page = written(tmp_path)["index.html"]
    assert "There is none yet" in page
    assert "Nothing was accepted yet" in page


def test_the_newest_verification_lies_beside_it_under_names_that_never_change(tmp_path: Path, archive: Archive) -> None:
    every = ("index.html", "junit.xml", "summary.md", "metrics.prom")
    add_verification(archive, "b-verify", *every, day="2026-03-02")
    add_verification(archive, "a-verify", *every)  # recorded later, and older
    write_latest(tmp_path, archive, CATALOGUE)
    found = written(tmp_path)
    assert set(found) == {"acceptance.html", "index.html", "junit.xml", "metrics.prom", "result.json", "summary.md"}
    assert found["acceptance.html"] == "index.html of b-verify"
    assert found["junit.xml"] == "junit.xml of b-verify"
    assert html.escape(sentence(RESULT)) in found["index.html"]
    assert 'href="acceptance.html"' in found["index.html"]


def test_nothing_of_an_older_verification_is_left(tmp_path: Path, archive: Archive) -> None:
    add_verification(archive, "a-verify", "junit.xml")
    write_latest(tmp_path, archive, CATALOGUE)
    add_verification(archive, "b-verify", "index.html", day="2026-03-02")
    write_latest(tmp_path, archive, CATALOGUE)
    assert set(written(tmp_path)) == {"acceptance.html", "index.html", "result.json"}


def test_the_link_of_former_times_is_replaced_and_what_it_pointed_to_is_untouched(tmp_path: Path, archive: Archive) -> None:
    path = add_verification(archive, "a-verify", "index.html")
    (tmp_path / "latest").symlink_to("a-verify", target_is_directory=True)
    write_latest(tmp_path, archive, CATALOGUE)
    assert not (tmp_path / "latest").is_symlink()
    assert (path / "index.html").read_text() == "index.html of a-verify"


def test_a_file_in_its_place_is_named(tmp_path: Path, archive: Archive) -> None:
    (tmp_path / "latest").write_text("mine")
    with pytest.raises(EvidenceError, match=r"latest can't be written .*: move away"):
        write_latest(tmp_path, archive, CATALOGUE)
    assert (tmp_path / "latest").read_text() == "mine"


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_a_verification_that_can_not_be_read_is_said_and_no_reason_to_have_no_scorecard(
    tmp_path: Path, archive: Archive, text: str
) -> None:
    (add_verification(archive, "a-verify") / "result.json").write_text(text)
    write_latest(tmp_path, archive, CATALOGUE)
    assert "What a-verify found can't be read any more" in html.unescape(written(tmp_path)["index.html"])


def test_a_verification_that_was_interrupted_takes_no_place(tmp_path: Path, archive: Archive) -> None:
    path = add_verification(archive, "a-verify")
    add_run(archive, "b-verify", kind="verification", day="2026-03-02", interrupted=True)
    (tmp_path / "b-verify").mkdir()
    (tmp_path / "b-verify" / "result.json").write_text("{}")
    assert newest_verification(tmp_path, archive.entries()) == path


def test_a_verification_whose_folder_was_removed_is_not_the_newest(tmp_path: Path, archive: Archive) -> None:
    path = add_verification(archive, "a-verify")
    add_run(archive, "b-verify", kind="verification", day="2026-03-02")
    assert newest_verification(tmp_path, archive.entries()) == path
    assert newest_verification(tmp_path / "elsewhere", archive.entries()) is None


def test_the_page_links_each_last_run_and_says_of_when_its_ages_are(tmp_path: Path, archive: Archive) -> None:
    add_run(archive, "a setup", day="2026-01-01")
    add_run(archive, "a-drill", kind="drill", name="kill", day="2026-03-01", verdict="INCONCLUSIVE")
    card = write_latest(tmp_path, archive, CATALOGUE)
    page = written(tmp_path)["index.html"]
    assert 'href="../a%20setup/index.html"' in page
    assert 'href="../a-drill/index.html#kill"' in page
    assert f"Written {card.now:%Y-%m-%d %H:%M} UTC; all ages are as of then" in page
    assert re.search(
        r'<p class="sentence FAIL">Stale and never passed: .*1 stale \(setup on embedded\).*1 never passed \(kill on embedded\)', page
    )
    assert (page.count(">STALE<"), page.count(">NEVER PASSED<")) == (1, 1)  # in words, not only in colour
    assert re.search(r'<th scope="row">never-done</th>\s*<td>—</td><td><span class="v none">never run</span>', page)
    assert 'data-due="2026-01-08T10:01:00+00:00"' in page


def test_the_last_acceptance_is_named_and_hostile_names_stay_text(tmp_path: Path, archive: Archive) -> None:
    archive.append("acceptance", "a-verify", {"by": "<script>alert(1)</script>"})
    archive.append("acceptance", "b-verify", {"by": "Ada <b>"})
    write_latest(tmp_path, archive, CATALOGUE)
    page = written(tmp_path)["index.html"]
    assert "Last accepted: <strong>b-verify</strong>, by Ada &lt;b&gt;, " in page
    assert "alert" not in page


def test_many_writers_at_once_leave_the_scorecard_of_all_runs(tmp_path: Path, archive: Archive) -> None:
    def write(number: int) -> None:
        add_run(archive, f"{number}-setup")
        write_latest(tmp_path, archive, CATALOGUE)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "<td>8</td>" in written(tmp_path)["index.html"]
    assert set(written(tmp_path)) == {"index.html"}
