"""The power cut on a disk of our own, and the model of it: they take what was not written, and nothing else."""

import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from cachelib import connect
from runbook.drills.faults.power import (
    PAGE_BYTES,
    append_only_files,
    first_dirty_byte,
    modelled_cut,
    own_disk,
    power_cut,
    start_or_repair,
)
from runbook.drills.undo import UndoLog
from runbook.targets import Embedded, TargetError
from tests.conftest import SERVER_ENVIRON

NEVER_SYNCED = ("--appendonly", "yes", "--save", "", "--appendfsync", "no")
ALWAYS_SYNCED = ("--appendonly", "yes", "--save", "", "--appendfsync", "always")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a disk")


@pytest.fixture
def undo(tmp_path: Path) -> UndoLog:
    return UndoLog(tmp_path / "state")


@pytest.fixture
def on_disk(tmp_path: Path) -> Path:
    """A folder of which the kernel knows what is on disk."""
    kind = subprocess.run(["stat", "-f", "-c", "%T", tmp_path], check=True, capture_output=True, text=True).stdout.strip()
    if kind in ("tmpfs", "overlayfs"):
        pytest.skip(f"a {kind} keeps no account of what is on disk")
    return tmp_path


def _append(server: Embedded, count: int) -> None:
    with connect(server.config) as client:
        for number in range(count):
            client.rpush("runbook:log", number)


def _length(server: Embedded) -> int:
    with connect(server.config) as client:
        return int(client.llen("runbook:log"))


@needs_root
class TestTrueCut:
    @pytest.mark.parametrize(("flags", "kept"), [(ALWAYS_SYNCED, 200), (NEVER_SYNCED, 0)], ids=["always", "no"])
    def test_what_was_synced_is_there_and_what_was_not_is_gone(
        self, undo: UndoLog, tmp_path: Path, flags: tuple[str, ...], kept: int
    ) -> None:
        with own_disk(undo, tmp_path) as disk, Embedded(SERVER_ENVIRON, flags, parent=disk.mount_point) as server:
            _append(server, 200)
            with power_cut(server, disk) as outage:
                assert server.pid is None
            assert outage.doubts == ()
            assert _length(server) == kept

    def test_the_disk_is_unmounted_and_removed_whatever_happens(self, undo: UndoLog, tmp_path: Path) -> None:
        mounted = []

        def crash() -> None:
            with own_disk(undo, tmp_path) as disk:
                mounted.append(os.path.ismount(disk.mount_point))
                raise RuntimeError

        with pytest.raises(RuntimeError):
            crash()
        assert mounted == [True]
        assert not os.path.ismount(tmp_path / "runbook-disk")
        assert list((tmp_path / "state" / "undo").iterdir()) == []


class TestModel:
    def test_a_file_that_was_synced_has_no_dirty_page(self, on_disk: Path) -> None:
        path = on_disk / "file"
        with path.open("wb") as file:
            file.write(b"x" * 10 * PAGE_BYTES)
            file.flush()
            os.fsync(file.fileno())
        assert first_dirty_byte(path) is None

    @pytest.mark.parametrize("synced", [1, PAGE_BYTES, 3 * PAGE_BYTES, 7 * PAGE_BYTES + 5])
    def test_the_first_dirty_page_is_that_of_the_first_byte_which_was_not_synced(self, on_disk: Path, synced: int) -> None:
        path = on_disk / "file"
        with path.open("wb") as file:
            file.write(b"x" * synced)
            file.flush()
            os.fsync(file.fileno())
            file.write(b"y" * 20 * PAGE_BYTES)
        assert first_dirty_byte(path) == synced // PAGE_BYTES * PAGE_BYTES

    def test_an_empty_file_has_none(self, on_disk: Path) -> None:
        (on_disk / "file").touch()
        assert first_dirty_byte(on_disk / "file") is None

    @pytest.mark.parametrize(("flags", "kept"), [(ALWAYS_SYNCED, 200), (NEVER_SYNCED, 0)], ids=["always", "no"])
    def test_it_takes_what_was_not_synced(self, on_disk: Path, flags: tuple[str, ...], kept: int) -> None:
        with Embedded(SERVER_ENVIRON, flags, parent=on_disk) as server:
            _append(server, 200)
            with modelled_cut(server) as outage:
                assert server.pid is None
            assert outage.doubts == ()
            assert _length(server) == kept

    @pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="there is no tmpfs to try it on")
    def test_where_nothing_is_ever_on_disk_it_doubts_itself(self) -> None:
        with (
            tempfile.TemporaryDirectory(dir="/dev/shm", prefix="runbook-") as folder,
            Embedded(SERVER_ENVIRON, ALWAYS_SYNCED, parent=Path(folder)) as server,
            modelled_cut(server) as outage,
        ):
            pass
        assert "does not tell what is on disk" in outage.doubts[0]


class TestRepair:
    def test_a_tail_of_zeros_is_cut_off_and_everything_before_it_is_there(self) -> None:
        with Embedded(SERVER_ENVIRON, ALWAYS_SYNCED) as server:
            _append(server, 100)
            server.kill()
            with append_only_files(server.folder)[0].open("ab") as file:
                file.write(bytes(480))
            assert "480 bytes" in start_or_repair(server)
            assert _length(server) == 100

    def test_a_server_that_starts_by_itself_is_not_repaired(self) -> None:
        with Embedded(SERVER_ENVIRON, ALWAYS_SYNCED) as server:
            server.kill()
            assert start_or_repair(server) == ""

    def test_another_reason_not_to_start_is_told(self) -> None:
        with Embedded(SERVER_ENVIRON, ALWAYS_SYNCED) as server, pytest.raises(TargetError, match="runs already"):
            start_or_repair(server)
