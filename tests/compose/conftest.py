"""Projects of Compose on a real engine; the conftest.py at the top leaves this folder out where there is none."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cachelib import Client, connect
from runbook.targets import TargetError
from runbook.targets.compose import DEV, Compose
from runbook.targets.docker import Docker

# Whatever names the engine and the images, and nothing of the developer's own REDIS_* variables otherwise.
_PASSED_ON = ("PATH", "HOME", "DOCKER_HOST", "DOCKER_CONFIG", "DOCKER_CONTEXT", "REDIS_IMAGE", "PYTHON_IMAGE", "HEALTH_IMAGE")
ENVIRON = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}


@pytest.fixture(scope="session")
def environ() -> dict[str, str]:
    return ENVIRON


@pytest.fixture(scope="session")
def docker() -> Docker:
    return Docker.find(ENVIRON)


@pytest.fixture
def open_compose() -> Iterator[Callable[..., Compose]]:
    """Start a project for this test alone; the arguments are the file and further variables."""
    with ExitStack() as stack:
        yield lambda file=DEV, **more: stack.enter_context(Compose(ENVIRON | more, file))


@pytest.fixture
def own_compose(open_compose: Callable[..., Compose]) -> Compose:
    return open_compose()


@pytest.fixture(scope="module")
def compose() -> Iterator[Compose]:
    """A project that the tests of a file share; who stops its server starts it again."""
    with Compose(ENVIRON) as project:
        yield project


@pytest.fixture
def client(compose: Compose) -> Iterator[Client]:
    with connect(compose.config, decode_responses=True) as client:
        yield client


def composes() -> list[Any]:
    """List the command lines of each Compose that answers on this machine as a `pytest.param`; all but the first are nightly."""
    found = []
    for command in (("docker", "compose"), ("docker-compose",)):
        try:
            Docker(ENVIRON, "", command).run_compose(command=("version",), environ={})
        except (TargetError, FileNotFoundError):
            continue
        found.append(pytest.param(command, id=" ".join(command), marks=pytest.mark.nightly if found else ()))
    return found


def of_project(docker: Docker, project: str) -> list[str]:
    """List all containers, networks and volumes that bear the label of a project of ours."""
    return [name for kind in ("container", "network", "volume") for name in docker.found(kind, f"label=redis-runbook.project={project}")]


COMPOSE_FOLDER = Path(__file__).resolve().parent.parent.parent / "compose"
