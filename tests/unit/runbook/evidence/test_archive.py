"""The archive is only appended to, survives whoever dies while he writes, and shows what was altered."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runbook.evidence.archive import ARCHIVE, Archive
from runbook.evidence.store import EvidenceError

APPEND = """
import sys
from pathlib import Path
from runbook.evidence.archive import Archive
archive = Archive(Path(sys.argv[1]), {})
print("ready", flush=True)
for number in range(int(sys.argv[3])):
    print(archive.append("run", f"{sys.argv[2]}-{number}", {"padding": "x" * 20_000}).number, flush=True)
"""


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path, {"REDIS_PASSWORD": "hunter2-secret"})


def _appender(runs: Path, name: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", APPEND, str(runs), name, str(count)], stdout=subprocess.PIPE, text=True)


def _altered(runs: Path, *statements: str) -> None:
    """Do what somebody could who holds the file."""
    with sqlite3.connect(runs / ARCHIVE) as connection:
        connection.execute("DROP TRIGGER entry_is_never_changed")
        connection.execute("DROP TRIGGER entry_is_never_removed")
        for statement in statements:
            connection.execute(statement)
    connection.close()


def test_what_was_appended_is_read_in_its_order(archive: Archive) -> None:
    first, second = archive.append("run", "a", {"verdict": "PASS"}), archive.append("acceptance", "a", {"by": "Ada"})
    assert archive.entries() == [first, second]
    assert [entry.number for entry in archive.entries()] == [1, 2]
    assert archive.entries("acceptance") == [second]


def test_before_the_first_entry_there_is_nothing_and_no_file(archive: Archive) -> None:
    assert archive.entries() == []
    assert not archive.path.exists()


def test_the_entries_of_a_run_are_added_once_all_or_none(archive: Archive) -> None:
    """A writer that fails at its second entry leaves no first one that would keep the rest out for ever."""
    archive.append("acceptance", "a", {})
    with sqlite3.connect(archive.path) as connection:
        connection.execute("CREATE TRIGGER harm BEFORE INSERT ON entry WHEN NEW.number = 3 BEGIN SELECT RAISE(ABORT, 'harmed'); END")
    connection.close()
    with pytest.raises(EvidenceError, match="harmed"):
        archive.append_once("run", "a", [{"name": "kill"}, {"name": "pause"}])
    assert archive.entries("run") == []
    with sqlite3.connect(archive.path) as connection:
        connection.execute("DROP TRIGGER harm")
    connection.close()
    added = archive.append_once("run", "a", [{"name": "kill"}, {"name": "pause"}])
    assert archive.append_once("run", "a", [{"name": "kill"}, {"name": "pause"}]) == []
    assert archive.entries("run") == added
    assert [(entry.number, entry.content["name"]) for entry in added] == [(2, "kill"), (3, "pause")]


def test_of_many_who_add_the_same_run_at_once_one_does(archive: Archive) -> None:
    together = threading.Barrier(8)

    def add(_: int) -> int:
        together.wait(10)
        return len(archive.append_once("run", "a", [{"name": "kill"}, {"name": "pause"}]))

    with ThreadPoolExecutor(together.parties) as pool:
        assert sorted(pool.map(add, range(together.parties))) == [0] * 7 + [2]
    assert len(archive.entries()) == 2


def test_it_is_made_by_statements_that_an_sqlite_of_2021_knows(archive: Archive) -> None:
    """RHEL 9 has 3.34, and STRICT came with 3.37."""
    archive.append("run", "a", {})
    with sqlite3.connect(archive.path) as connection:
        (made,) = connection.execute("SELECT sql FROM sqlite_master WHERE type = 'table'").fetchone()
    connection.close()
    assert made.endswith(")")


def test_a_secret_of_the_environment_is_not_kept(archive: Archive) -> None:
    archive.append("run", "a", {"reason": "AUTH hunter2-secret was refused"})
    assert b"hunter2-secret" not in archive.path.read_bytes()
    assert archive.entries()[0].content == {"reason": "AUTH ******** was refused"}


@pytest.mark.parametrize("statement", ["UPDATE entry SET content = '{}'", "DELETE FROM entry"])
def test_the_store_itself_refuses_changes(archive: Archive, statement: str) -> None:
    archive.append("run", "a", {})
    connection = sqlite3.connect(archive.path)
    with pytest.raises(sqlite3.IntegrityError, match="entries are never"):
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        """UPDATE entry SET content = '{"verdict": "PASS"}' WHERE number = 2""",
        "UPDATE entry SET recorded_utc = '2020-01-01T00:00:00.000000+00:00' WHERE number = 2",
        "UPDATE entry SET kind = 'acceptance' WHERE number = 2",
        "UPDATE entry SET run = 'another' WHERE number = 2",
        "DELETE FROM entry WHERE number = 2",
        "DELETE FROM entry WHERE number = 1",
    ],
)
def test_an_altered_or_removed_entry_is_found_out(archive: Archive, tmp_path: Path, statement: str) -> None:
    for name in "abc":
        archive.append("run", name, {"verdict": "FAIL"})
    _altered(tmp_path, statement)
    with pytest.raises(EvidenceError, match=r"was altered at entry [12]"):
        archive.entries()


def test_what_is_no_archive_is_an_error_that_says_what_to_do(archive: Archive) -> None:
    archive.path.write_bytes(b"no database at all, and longer than a header of one" * 10)
    with pytest.raises(EvidenceError, match="move it away"):
        archive.entries()
    with pytest.raises(EvidenceError, match="move it away"):
        archive.append("run", "a", {})


def test_two_who_write_at_once_lose_nothing(tmp_path: Path) -> None:
    writers = [_appender(tmp_path, name, 40) for name in ("first", "second")]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    for writer in writers:
        assert writer.stdout
        writer.stdout.close()
    entries = Archive(tmp_path, {}).entries()
    assert [entry.number for entry in entries] == list(range(1, 81))
    assert {entry.run for entry in entries} == {f"{name}-{number}" for name in ("first", "second") for number in range(40)}


def test_who_is_killed_while_he_writes_loses_nothing_that_was_confirmed(tmp_path: Path) -> None:
    """Killed again and again in the middle of entries of 20 KB; each round goes on behind what the last one left."""
    confirmed: list[int] = []
    for number in range(5):
        writer = _appender(tmp_path, f"round{number}", 10_000)
        assert writer.stdout
        assert writer.stdout.readline() == "ready\n"
        confirmed += [int(writer.stdout.readline()) for _ in range(3 + number)]
        os.kill(writer.pid, signal.SIGKILL)
        rest, _ = writer.communicate()
        confirmed += [int(line) for line in rest.splitlines(keepends=True) if line.endswith("\n")]
        assert writer.returncode == -signal.SIGKILL
    entries = Archive(tmp_path, {}).entries()
    assert set(confirmed) <= {entry.number for entry in entries}
    assert len(entries) <= len(confirmed) + 5  # at most the one of each round that was on the disk, and not yet confirmed
