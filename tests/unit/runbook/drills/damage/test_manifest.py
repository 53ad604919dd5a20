"""What the check of a manifest accuses: each thing that can be wrong with a set of append-only files, and nothing that is right."""

from pathlib import Path

import pytest

from runbook.drills.damage.manifest import Entry, manifest_of, problems_of_set, read_manifest

BASE, FIRST, SECOND = "appendonly.aof.2.base.rdb", "appendonly.aof.2.incr.aof", "appendonly.aof.3.incr.aof"
OLD = "appendonly.aof.1.incr.aof"
LINES = [f"file {BASE} seq 2 type b", f"file {FIRST} seq 2 type i", f"file {SECOND} seq 3 type i"]


def problems(folder: Path, lines: list[str] | str | None = None, files: tuple[str, ...] = (BASE, FIRST, SECOND)) -> list[str]:
    """Make a set of these files, and a manifest of these lines, the right ones if there are none."""
    made = folder / "appendonlydir"
    made.mkdir(exist_ok=True)
    for file in files:
        (made / file).touch()
    if lines != "no manifest":
        text = lines if isinstance(lines, str) else "".join(f"{line}\n" for line in (LINES if lines is None else lines))
        (made / "appendonly.aof.manifest").write_text(text)
    return problems_of_set(folder)


def test_a_whole_set_is_accused_of_nothing(tmp_path: Path) -> None:
    assert problems(tmp_path) == []


def test_comments_quotes_and_further_fields_are_read(tmp_path: Path) -> None:
    lines = ["# a comment", f'file "{BASE}" seq 2 type b', f"seq 2 type i file {FIRST} other thing"]
    assert problems(tmp_path, lines, (BASE, FIRST)) == []


def test_history_may_be_gone_already(tmp_path: Path) -> None:
    assert problems(tmp_path, [*LINES, f"file {OLD} seq 1 type h"]) == []


def test_what_is_no_data_file_is_let_alone(tmp_path: Path) -> None:
    assert problems(tmp_path, files=(BASE, FIRST, SECOND, "temp-rewriteaof-12.aof", "notes.txt")) == []


def test_other_names_are_looked_for_where_the_server_has_others(tmp_path: Path) -> None:
    (tmp_path / "aof").mkdir()
    (tmp_path / "aof" / "mine.1.base.rdb").touch()
    (tmp_path / "aof" / "mine.manifest").write_text("file mine.1.base.rdb seq 1 type b\n")
    assert problems_of_set(tmp_path, "aof", "mine") == []


@pytest.mark.parametrize(
    ("lines", "files", "told"),
    [
        ("no manifest", (BASE, FIRST), "appendonly.aof.manifest is missing, though there are 2 data files"),
        ("no manifest", (), "no append-only files"),
        (LINES, (BASE, FIRST), f"{SECOND} is named in the manifest and missing"),
        (LINES, (FIRST, SECOND), f"{BASE} is named in the manifest and missing"),
        (LINES[:2], (BASE, FIRST, SECOND), f"{SECOND} is not named in the manifest"),
        (LINES[1:], (BASE, FIRST, SECOND), "names no base"),
        ([LINES[0], *LINES], (BASE, FIRST, SECOND), "names 2 bases"),
        ([LINES[0], LINES[2], LINES[1]], (BASE, FIRST, SECOND), f"{FIRST} (seq 2) behind {SECOND} (seq 3)"),
        ([*LINES, LINES[2]], (BASE, FIRST, SECOND), f"{SECOND} (seq 3) behind {SECOND} (seq 3)"),
        ("", (BASE,), "names no base"),
        ("\n".join(LINES), (BASE, FIRST, SECOND), "line 3 of the manifest is cut off"),
        ([*LINES, "#" * 10, "x" * 2000], (BASE, FIRST, SECOND), "line 5 of the manifest is cut off or too long"),
        ([*LINES, ""], (BASE, FIRST, SECOND), "line 4 of the manifest is not of the form"),
        ([*LINES, f"file {OLD} seq 4"], (BASE, FIRST, SECOND), "line 4"),
        ([*LINES, f"file {OLD} seq 4 type"], (BASE, FIRST, SECOND), "line 4"),
        ([*LINES, f"file {OLD} seq four type i"], (BASE, FIRST, SECOND), "line 4"),
        ([*LINES, f"file {OLD} seq 0 type i"], (BASE, FIRST, SECOND), "line 4"),
        ([*LINES, f"file {OLD} seq 4 type x"], (BASE, FIRST, SECOND), "line 4"),
        ([*LINES, f"file ../{OLD} seq 4 type i"], (BASE, FIRST, SECOND), "line 4"),
        ([*LINES, f'file "{OLD} seq 4 type i'], (BASE, FIRST, SECOND), "line 4"),
        ("\x00\x8f\x17 garbage\n", (BASE,), "line 1"),
    ],
)
def test_it_accuses(lines: list[str] | str, files: tuple[str, ...], told: str, tmp_path: Path) -> None:
    assert told in "; ".join(problems(tmp_path, lines, files))


def test_a_folder_without_a_set_is_accused(tmp_path: Path) -> None:
    assert "a server starts empty here" in problems_of_set(tmp_path)[0]


def test_a_manifest_is_read_in_its_order() -> None:
    assert read_manifest("".join(f"{line}\n" for line in LINES)) == ([Entry(BASE, 2, "b"), Entry(FIRST, 2, "i"), Entry(SECOND, 3, "i")], [])


def test_a_manifest_written_anew_is_right_where_only_what_belongs_to_it_is_there(tmp_path: Path) -> None:
    text = manifest_of([SECOND, BASE, FIRST])
    assert text == "".join(f"{line}\n" for line in LINES)
    assert problems(tmp_path, text) == []
