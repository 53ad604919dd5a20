"""The ledger of what was broken: written before, undone after, and by somebody else after a crash."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runbook.drills.undo import UndoError, UndoLog, birth_of, heal, left_behind, state_folder


def _crash_with(state: Path, kind: str, **what: object) -> None:
    """Let a process write down what it breaks, and die in the middle of it."""
    program = (
        "import os, pathlib, signal, sys, json\n"
        "from runbook.drills.undo import UndoLog\n"
        "with UndoLog(pathlib.Path(sys.argv[1])).undoing(sys.argv[2], **json.loads(sys.argv[3])):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(state), kind, json.dumps(what)], check=False)
    assert done.returncode == -signal.SIGKILL


def test_what_a_block_breaks_is_written_down_before_and_undone_after(tmp_path: Path) -> None:
    folder = tmp_path / "runbook-private"
    folder.mkdir()
    with UndoLog(tmp_path).undoing("folder", path=str(folder)):
        assert len(list((tmp_path / "undo").iterdir())) == 1
        assert left_behind(tmp_path) == []  # its owner is alive
    assert not folder.exists()
    assert list((tmp_path / "undo").iterdir()) == []


def test_what_a_crash_left_is_undone_by_another_process(tmp_path: Path) -> None:
    folder = tmp_path / "runbook-private"
    folder.mkdir()
    _crash_with(tmp_path, "folder", path=str(folder))
    assert folder.exists()
    assert list(heal(tmp_path)) == [f"folder {folder}"]
    assert not folder.exists()
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("kind", ["process", "stopped process"])
def test_a_stopped_process_is_ended_or_goes_on(tmp_path: Path, kind: str) -> None:
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        os.kill(sleeper.pid, signal.SIGSTOP)
        os.waitpid(sleeper.pid, os.WUNTRACED)
        _crash_with(tmp_path, kind, pid=sleeper.pid, born=birth_of(sleeper.pid))
        list(heal(tmp_path))
        if kind == "process":
            assert sleeper.wait(10) == -signal.SIGKILL
        else:
            os.waitpid(sleeper.pid, os.WCONTINUED)
            sleeper.kill()


@pytest.mark.parametrize("kind", ["mount", "control group"])
def test_what_is_not_named_as_ours_is_left_alone_whatever_it_is(tmp_path: Path, kind: str) -> None:
    _crash_with(tmp_path, kind, path=str(tmp_path))
    with pytest.raises(UndoError, match="is not named as what is ours"):
        list(heal(tmp_path))


def _owned_by(state: Path, **changes: object) -> None:
    """Say of the only entry that somebody else has made it."""
    (path,) = (state / "undo").iterdir()
    entry = json.loads(path.read_text())
    path.write_text(json.dumps({**entry, "owner": {**entry["owner"], **changes}}))


def test_what_was_done_in_another_place_is_left_to_that(tmp_path: Path) -> None:
    _crash_with(tmp_path, "folder", path=str(tmp_path / "runbook-x"))
    _owned_by(tmp_path, place="elsewhere pid:[1]")
    assert left_behind(tmp_path) == []


def test_after_a_reboot_everybody_of_before_is_gone(tmp_path: Path) -> None:
    log = UndoLog(tmp_path)
    with contextlib.ExitStack() as living:
        living.enter_context(log.undoing("folder", path=str(tmp_path / "runbook-x")))
        assert left_behind(tmp_path) == []
        _owned_by(tmp_path, boot="another")
        assert len(left_behind(tmp_path)) == 1


def test_two_ledgers_of_one_process_keep_their_entries_apart(tmp_path: Path) -> None:
    with (
        UndoLog(tmp_path).undoing("folder", path=str(tmp_path / "runbook-a")),
        UndoLog(tmp_path).undoing("folder", path=str(tmp_path / "runbook-b")),
    ):
        assert len(list((tmp_path / "undo").iterdir())) == 2


def test_another_process_of_the_same_id_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        os.kill(sleeper.pid, signal.SIGSTOP)
        os.waitpid(sleeper.pid, os.WUNTRACED)
        _crash_with(tmp_path, "stopped process", pid=sleeper.pid, born=(birth_of(sleeper.pid) or 0) + 1)
        list(heal(tmp_path))
        assert _state(sleeper.pid) == "T"
        sleeper.kill()


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_folder_that_is_not_named_as_ours_is_left_alone_and_told(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    _crash_with(tmp_path, "folder", path=str(precious))
    with pytest.raises(UndoError, match="is not named as what is ours"):
        list(heal(tmp_path))
    assert precious.exists()
    assert len(left_behind(tmp_path)) == 1  # it is still to be undone


def test_what_can_be_undone_is_also_if_something_else_can_t(tmp_path: Path) -> None:
    precious, private = tmp_path / "precious", tmp_path / "runbook-private"
    private.mkdir()
    precious.mkdir()
    _crash_with(tmp_path, "folder", path=str(private))
    _crash_with(tmp_path, "folder", path=str(precious))
    with pytest.raises(UndoError):
        list(heal(tmp_path))
    assert not private.exists()


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"RUNBOOK_STATE_DIR": "/a", "HOME": "/h"}, "/a"),
        ({"XDG_STATE_HOME": "/x", "HOME": "/h"}, "/x/redis-runbook"),
        ({"HOME": "/h"}, "/h/.local/state/redis-runbook"),
    ],
)
def test_the_state_is_kept_where_the_user_wants_it(environ: dict[str, str], folder: str) -> None:
    assert state_folder(environ) == Path(folder)
