"""The faults that silence or end a server's process in other ways than a signal that ends it: they prove themselves, and heal."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cachelib import connect
from runbook.drills.faults import killed_in_rewrite, out_of_memory, paused
from runbook.drills.undo import STATE_VARIABLE
from runbook.targets import Embedded


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "state"))
    return tmp_path / "state"


def _keys(server: Embedded) -> list[bytes]:
    with connect(server.config) as client:
        return list(client.scan_iter())


def test_a_paused_server_goes_on_as_the_same_process(own_server: Embedded) -> None:
    pid = own_server.pid
    with paused(own_server) as outage:
        assert Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    assert outage.doubts == ()
    assert own_server.pid == pid
    assert _keys(own_server) == []


def test_a_server_that_was_not_silenced_leaves_its_doubts(own_server: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_server, "pause", lambda: None)
    with paused(own_server) as outage:
        pass
    assert outage.doubts == ("it still answered after it was stopped",)


def test_a_server_that_was_replaced_meanwhile_leaves_its_doubts(own_server: Embedded) -> None:
    with paused(own_server) as outage:
        own_server.kill()
        own_server.start()
    assert "another server process answers than before" in outage.doubts


def test_a_pause_ends_with_a_block_that_raises(own_server: Embedded) -> None:
    def crash() -> None:
        with paused(own_server):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        crash()
    assert _keys(own_server) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make control groups")
def test_the_kernel_kills_a_server_for_want_of_memory_and_nothing_of_it_stays(own_server: Embedded, state: Path) -> None:
    with out_of_memory(own_server) as outage:
        assert own_server.pid is None
    assert outage.doubts == ()
    assert _keys(own_server) == []  # what filled it is gone
    assert list((state / "undo").iterdir()) == []


def test_a_kill_in_a_rewrite_finds_the_rewrite_under_way_and_leaves_no_child(own_server: Embedded) -> None:
    pid = own_server.pid
    with killed_in_rewrite(own_server) as outage:
        assert list(own_server.folder.glob("temp-rewriteaof*.aof"))
    assert outage.doubts == ()
    assert _keys(own_server) == []
    assert not [each for each in _working_in(own_server.folder) if each not in (own_server.pid, pid)]


def test_a_kill_that_comes_after_the_rewrite_leaves_its_doubts(
    own_server: Embedded, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., object]
) -> None:
    kill = own_server.kill

    def kill_late() -> int:
        eventually(lambda: not list(own_server.folder.glob("temp-rewriteaof*.aof")))
        return kill()

    monkeypatch.setattr(own_server, "kill", kill_late)
    with killed_in_rewrite(own_server) as outage:
        pass
    assert outage.doubts == ("no rewrite was under way when the server was killed",)


def _working_in(folder: Path) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if path.readlink() == folder:
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found
