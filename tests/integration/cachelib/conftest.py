"""What tests of both clients share."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from runbook.drills.faults import Proxy
from runbook.targets.embedded import Embedded


@pytest.fixture
def direct(server: Embedded) -> Iterator[Any]:
    """redis-py's own client, past every proxy, to see what the server holds."""
    with redis.Redis(port=server.config.port, decode_responses=True) as client:
        yield client


@pytest.fixture
def proxy(server: Embedded) -> Iterator[Proxy]:
    """Stand between a client and the server."""
    with Proxy(server.config.port) as proxy:
        yield proxy


@pytest.fixture(params=["asyncio", "uvloop"])
def loop_factory(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    """Make an event loop of one kind, then of the other."""
    factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    if request.param == "uvloop":
        factory = pytest.importorskip("uvloop").new_event_loop
    return factory
