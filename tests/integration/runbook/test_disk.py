"""The faults of the disk on a real server: each shows that it broke, heals, and leaves nothing behind."""

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from cachelib import Client, connect
from runbook.drills.disks.recovery import reopen, rewrite, unwell
from runbook.drills.faults import disk
from runbook.drills.faults.disk import BentSync, failing_fsync, full, slow_fsync, small_disk
from runbook.drills.safety import Refusal
from runbook.drills.undo import UndoLog, heal, left_behind
from runbook.targets import Embedded
from runbook.targets.embedded import STORY_FLAGS

root = pytest.mark.skipif(os.getuid() != 0, reason="takes root, who may mount")
tracer = pytest.mark.skipif(os.getuid() != 0 or not shutil.which("strace"), reason="takes strace, and root, who may trace")

Eventually = Callable[..., object]


@pytest.fixture
def own_client(own_server: Embedded) -> Iterator[Client]:
    with connect(own_server.config) as client:
        yield client


def _traced(server: Embedded) -> bool:
    statuses = [status.read_text() for status in Path(f"/proc/{server.pid}/task").glob("*/status")]
    return any("TracerPid:\t0\n" not in status for status in statuses)


def _says(client: Client, field: str) -> object:
    return client.info("persistence")[field]


@root
class TestAFullDisk:
    def test_a_server_on_it_refuses_writes_until_there_is_room_and_needs_a_rewrite_only_if_one_failed(
        self, tmp_path: Path, eventually: Eventually
    ) -> None:
        with (
            small_disk(UndoLog(tmp_path), tmp_path) as folder,
            Embedded({"PATH": os.environ["PATH"]}, parent=folder) as server,
            connect(server.config) as client,
        ):
            with full(folder) as fault:
                client.set("k", "x" * 10_000)  # acknowledged, and then not written
                with pytest.raises(redis.ResponseError, match="MISCONF"):
                    client.set("k", "refused")
                assert client.get("k") == b"x" * 10_000
                with pytest.raises(redis.ResponseError, match="rewriting"):
                    client.bgrewriteaof()
                assert "aof_last_write_status:err" in unwell(client.info("persistence"))
            assert fault.doubts == ()
            eventually(lambda: _says(client, "aof_last_write_status") == "ok")
            assert unwell(client.info("persistence")) == ("aof_last_bgrewrite_status:err",)
            assert rewrite(client) == ()
            server.stop()
            server.start()
            assert client.get("k") == b"x" * 10_000

    def test_the_disk_is_unmounted_and_its_folder_removed_after_a_block_that_raises(self, tmp_path: Path) -> None:
        with contextlib.suppress(ZeroDivisionError), small_disk(UndoLog(tmp_path), tmp_path) as folder, full(folder):
            assert os.path.ismount(folder)
            raise ZeroDivisionError
        assert not folder.exists()
        assert list(left_behind(tmp_path)) == []

    def test_the_mount_of_a_process_that_was_killed_can_be_healed(self, tmp_path: Path) -> None:
        log = UndoLog(tmp_path)
        log._owner["born"] = 0  # as if another process, which has ended, had this one's id
        with small_disk(log, tmp_path) as folder:
            assert list(heal(tmp_path)) == [f"mount {folder}"]
            assert not os.path.ismount(folder)

    def test_a_disk_that_somebody_else_made_room_on_is_doubted(self, tmp_path: Path) -> None:
        with small_disk(UndoLog(tmp_path), tmp_path) as folder, full(folder) as fault:
            (folder / disk.BALLAST).unlink()
        assert "free again before room was made" in fault.doubts[0]

    def test_another_error_than_a_lack_of_room_is_raised(self, tmp_path: Path) -> None:
        with pytest.raises(OSError, match="directory") as error, full(tmp_path / "missing"):
            pass
        assert error.value.errno == errno.ENOENT


def test_a_disk_that_cannot_be_mounted_is_a_refusal_that_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refusal, match="run this drill as root"), small_disk(UndoLog(tmp_path), tmp_path):
        pass
    assert list(tmp_path.glob("runbook-disk-*")) == []


@tracer
class TestAnFsyncThatFails:
    def test_once_it_latches_until_the_file_is_opened_anew(
        self, own_server: Embedded, own_client: Client, eventually: Eventually, tmp_path: Path
    ) -> None:
        with failing_fsync(own_server, tmp_path, when="1") as fault:
            own_client.set("k", "acknowledged")
            eventually(lambda: _says(own_client, "aof_last_write_status") == "err")
            with pytest.raises(redis.ResponseError, match="MISCONF"):
                own_client.set("k", "refused")
        assert (fault.bent, fault.doubts) == (1, ())
        assert not _traced(own_server)
        with pytest.raises(redis.ResponseError, match="MISCONF"):
            own_client.set("k", "refused")
        assert reopen(own_client) == ()
        own_client.set("later", "v")
        own_server.stop()
        own_server.start()
        assert own_client.mget("k", "later") == [b"acknowledged", b"v"]

    def test_a_recovery_that_comes_too_early_is_found_out(
        self, own_server: Embedded, own_client: Client, eventually: Eventually, tmp_path: Path
    ) -> None:
        with failing_fsync(own_server, tmp_path):
            own_client.set("k", "v")
            eventually(lambda: _says(own_client, "aof_last_write_status") == "err")
            assert "aof_last_bgrewrite_status:err" in reopen(own_client, 0.5)
        assert reopen(own_client) == ()

    def test_under_always_it_ends_the_server_and_the_tracer_with_it(self, start_server: Callable[..., Embedded], tmp_path: Path) -> None:
        server = start_server(*("always" if flag == "everysec" else flag for flag in STORY_FLAGS))
        with connect(server.config) as client, failing_fsync(server, tmp_path) as fault:
            with pytest.raises(redis.RedisError):
                client.incr("k")
            assert server.await_end(5.0) == 1
        assert fault.doubts == ()
        assert list(tmp_path.iterdir()) == []

    def test_a_server_that_asked_for_no_fsync_is_doubted(self, start_server: Callable[..., Embedded], tmp_path: Path) -> None:
        with failing_fsync(start_server("--appendonly", "no", "--save", ""), tmp_path) as fault:
            pass
        assert fault.doubts == ("strace bent no fsync of the server",)


@tracer
class TestASlowFsync:
    def test_what_is_acknowledged_meanwhile_is_held_back_and_the_server_is_let_go_in_the_midst(
        self, own_server: Embedded, own_client: Client, eventually: Eventually, tmp_path: Path
    ) -> None:
        with slow_fsync(own_server, tmp_path, delay_s=30) as fault:
            own_client.set("k", "v")
            eventually(lambda: fault.inside)
            assert _says(own_client, "aof_pending_bio_fsync") == 1
            own_client.set("k", "held back")
            eventually(lambda: int(str(_says(own_client, "aof_buffer_length"))) > 0)
            assert repr(fault) == "<BentSync 0 bent, inside of a call>"
        assert (fault.bent, fault.inside, fault.doubts) == (0, True, ())
        assert not _traced(own_server)
        eventually(lambda: _says(own_client, "aof_pending_bio_fsync") == 0)

    def test_one_that_has_ended_is_counted(self, own_server: Embedded, own_client: Client, eventually: Eventually, tmp_path: Path) -> None:
        with slow_fsync(own_server, tmp_path, delay_s=0.1) as fault:
            own_client.set("k", "v")
            eventually(lambda: fault.bent == 1)
            assert not fault.inside

    @pytest.mark.parametrize("pauses", [False, True])
    def test_the_end_of_the_server_within_one_is_told_from_one_that_had_ended_before(
        self, own_server: Embedded, own_client: Client, eventually: Eventually, tmp_path: Path, pauses: bool
    ) -> None:
        with slow_fsync(own_server, tmp_path, delay_s=0.5) as fault:
            own_client.set("k", "v")
            eventually(lambda: fault.inside)
            if pauses:  # the fsync goes on in a server that is stopped
                own_server.pause()
                eventually(lambda: not fault.inside)
            own_server.kill()
            assert (fault.bent, fault.inside) == (int(pauses), not pauses)
        own_server.start()


class TestWithoutTheRight:
    def test_without_strace_the_refusal_says_what_to_install(
        self, own_server: Embedded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(Refusal, match="apt-get install strace"), failing_fsync(own_server, tmp_path):
            pass

    def test_a_server_that_may_not_be_traced_is_a_refusal_with_the_words_of_strace(
        self, own_server: Embedded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        program = tmp_path / "strace"
        program.write_text("#!/bin/sh\necho 'attach: Operation not permitted' >&2\nexit 1\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        with (
            pytest.raises(Refusal, match=r"Operation not permitted\): run this drill as root"),
            slow_fsync(own_server, tmp_path, delay_s=1),
        ):
            pass
        assert own_server.pid


def test_a_call_is_told_from_its_end_also_where_two_threads_are_in_one(tmp_path: Path) -> None:
    log = tmp_path / "log"
    fault = BentSync(log, "(DELAYED)")
    log.write_text("7 fdatasync(8 <unfinished ...>\n9 fsync(5) = 0 (DELAYED)\n")
    assert (fault.bent, fault.inside) == (1, True)
    log.write_text("7 fdatasync(8 <unfinished ...>\n9 fsync(5) = 0 (DELAYED)\n7 <... fdatasync resumed>) = 0 (DELAYED)\n")
    assert (fault.bent, fault.inside) == (2, False)
