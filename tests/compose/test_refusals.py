"""What goes wrong on the way to a server in a container: each message alone says what to do, and nothing is left."""

import contextlib
import os
import shutil
import socket
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runbook.targets import TargetError
from runbook.targets.compose import DEV, PROD, Compose
from runbook.targets.docker import Docker, explain
from tests.compose.conftest import ENVIRON, of_project

OpenCompose = Callable[..., Compose]


@pytest.fixture
def open_compose(docker: Docker) -> Iterator[OpenCompose]:
    """Start a project for this test alone, of which nothing may be left at its end."""
    project = f"refusal-{uuid.uuid4().hex[:10]}"
    with contextlib.ExitStack() as stack:
        yield lambda file=DEV, **more: stack.enter_context(Compose(ENVIRON | {"RUNBOOK_PROJECT": project} | more, file))
    assert not of_project(docker, project)


@pytest.fixture
def image(docker: Docker, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Make an image that runs something else instead of the server."""
    made: list[str] = []

    def build(script: str) -> str:
        name = f"runbook-test-{os.getpid()}-{len(made)}"
        (tmp_path / "Dockerfile").write_text(f'FROM redis:7-alpine\nENTRYPOINT ["sh", "-c", "{script}"]\n')
        docker.run("build", "--quiet", "--tag", name, str(tmp_path))
        made.append(name)
        return name

    yield build
    for name in made:
        docker.run("image", "rm", "--force", name)


def test_no_program(open_compose: OpenCompose) -> None:
    with pytest.raises(TargetError, match="no program `docker`: install Docker Engine and Compose, or choose another target"):
        open_compose(PATH="/no-such-folder")


def test_no_engine(open_compose: OpenCompose) -> None:
    with pytest.raises(TargetError, match="no Docker engine answers: start it"):
        open_compose(DOCKER_HOST="unix:///no-such.sock")


@pytest.mark.skipif(os.getuid() != 0 or not Path("/var/run/docker.sock").exists(), reason="takes root, who can become nobody")
def test_no_permission() -> None:
    read = subprocess.run(["docker", "version"], user=65534, env={"PATH": ENVIRON["PATH"]}, capture_output=True, text=True, check=False)
    assert read.returncode
    assert "may not talk to the Docker engine: `sudo usermod -aG docker $USER`" in explain(read.stderr)


def test_no_compose(open_compose: OpenCompose, tmp_path: Path) -> None:
    """A client without the plugin, which this machine may have where every client finds it, and no `docker-compose` beside it."""
    client = tmp_path / "docker"
    docker = shutil.which("docker", path=ENVIRON["PATH"])
    client.write_text(f'#!/bin/sh\n[ "$1" != compose ] || exit 1\nexec {docker} "$@"\n')
    client.chmod(0o755)
    with pytest.raises(TargetError, match="no Compose: install the package docker-compose-plugin or docker-compose"):
        open_compose(PATH=str(tmp_path))


def test_a_taken_port(open_compose: OpenCompose, docker: Docker, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server((docker.address(), 0)) as taken:
        monkeypatch.setattr("runbook.targets.compose.free_port", lambda *_: taken.getsockname()[1])
        with pytest.raises(TargetError, match=r"`docker.compose up` failed: a port is taken: end what listens there"):
            open_compose()


def test_a_missing_image(open_compose: OpenCompose) -> None:
    with pytest.raises(TargetError, match=r"an image is missing and can't be pulled: .* or name another in REDIS_IMAGE"):
        open_compose(REDIS_IMAGE="redis-runbook-no-such-image:1")


def test_an_image_that_ends_at_once(open_compose: OpenCompose, image: Callable[[str], str]) -> None:
    with pytest.raises(
        TargetError, match=r"(?s)redis is (restarting|exited) \(exit status 3\) and does not serve; its log ends:.*no such luck"
    ):
        open_compose(REDIS_IMAGE=image("echo no such luck; exit 3"))


def test_an_image_that_is_no_redis(open_compose: OpenCompose, image: Callable[[str], str]) -> None:
    with pytest.raises(TargetError, match=r"redis answers and refuses us: is image .* a Redis"):
        open_compose(REDIS_IMAGE=image("while :; do printf -- '-ERR who is there\\\\r\\\\n' | nc -l -p 6379; done"))


def test_an_unhealthy_server_is_shown_with_its_probes_and_its_log(own_compose: Compose) -> None:
    own_compose.pause()
    with pytest.raises(
        TargetError, match=r"(?s)was not healthy within 0.5 s; its probes: .*; its log ends:\n.*Ready to accept connections"
    ):
        own_compose.await_health("healthy", timeout_s=0.5)


def test_an_endpoint_that_does_not_start_is_shown_with_its_log(open_compose: OpenCompose) -> None:
    """Its environment is invalid, which it says before it ends."""
    compose = open_compose()
    compose._project.variables["REDIS_POOL_SIZE"] = "0"
    with pytest.raises(TargetError, match=r"(?s)health does not answer; its log ends:\n.*REDIS_POOL_SIZE"):
        compose.up_health()


def test_what_is_not_running_can_not_be_paused(own_compose: Compose) -> None:
    own_compose.stop()
    with pytest.raises(TargetError, match="does not run: start it first"):
        own_compose.pause()


def test_a_start_that_is_interrupted_leaves_nothing(docker: Docker, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Compose] = []

    def interrupt(compose: Compose) -> None:
        started.append(compose)
        assert len(of_project(docker, compose.project)) == 3  # a container, a network, a volume
        raise KeyboardInterrupt

    monkeypatch.setattr(Compose, "_await_serving", interrupt)
    with pytest.raises(KeyboardInterrupt):
        Compose(ENVIRON)
    assert of_project(docker, started[0].project) == []
    assert not started[0].folder.exists()


@pytest.mark.parametrize(
    ("complaint", "meaning"),
    [
        ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?", "no Docker engine answers"),
        ("Couldn't connect to Docker daemon at http+docker://localhost - is it running?", "no Docker engine answers"),
        (
            "docker.errors.DockerException: Error while fetching server API version: ('Connection aborted.', ...)",
            "no Docker engine answers",
        ),
        ("permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock", "this user may not talk"),
        (
            "requests.exceptions.ConnectionError: ('Connection aborted.', PermissionError(13, 'Permission denied'))",
            "this user may not talk",
        ),
        ("Error response from daemon: driver failed: Bind for 127.0.0.1:6379 failed: port is already allocated", "a port is taken"),
        ("Error starting userland proxy: listen tcp4 127.0.0.1:6379: bind: address already in use", "a port is taken"),
        ("pull access denied for x, repository does not exist or may require 'docker login'", "an image is missing"),
        ('Get "https://registry-1.docker.io/v2/": dial tcp: lookup registry-1.docker.io: no such host', "an image is missing"),
        ("failed to solve: python:3.11-slim: failed to resolve source metadata for docker.io/library/python", "an image is missing"),
        (
            "ERROR: No matching distribution found for redis==8.1.0",
            "the packages of the health endpoint",
        ),
        ('Conflict. The container name "/redis" is already in use by container "abc"', "a container's name is taken"),
    ],
)
def test_both_generations_of_refusals_are_understood(complaint: str, meaning: str) -> None:
    explained = explain(complaint)
    assert explained.startswith(meaning)
    assert complaint in explained


def test_an_unknown_refusal_is_repeated() -> None:
    assert explain("one\ntwo\nthree\nfour\n") == "two\nthree\nfour"
    assert explain("") == "it failed and did not say why"


@pytest.mark.parametrize("file", [DEV, PROD])
def test_an_invalid_environment_is_told_before_anything_is_made(file: str, open_compose: OpenCompose) -> None:
    with pytest.raises(Exception, match="REDIS_DEADLINE_S"):
        open_compose(file, REDIS_DEADLINE_S="never")
