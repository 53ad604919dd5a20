"""Servers and clients that tests share: each server is a process of our own on a free loopback port."""

import contextlib
import dataclasses
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import pytest
from hypothesis import is_hypothesis_test, settings

from cachelib import Client, connect, deadline
from runbook.targets.embedded import STORY_FLAGS, Embedded
from tests.wait import wait_for

T = TypeVar("T")

# A shell lets what it starts in the background ignore SIGINT, and our children would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The examples are the same in each run, and a busy host makes none of them fail.
settings.register_profile("steady", deadline=None, derandomize=True, database=None)
settings.load_profile("steady")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Leave the processes that a test starts out of the coverage measurement, which slows them, unless it is marked `covers_processes`.

    The mark `no_cover` of pytest-cov leaves out the test's own process: for loops that are long, and for what is timed. Tests of properties
    are such loops.
    """
    if is_hypothesis_test(getattr(item, "obj", None)):
        item.add_marker("no_cover")
    with pytest.MonkeyPatch.context() as patch:
        if not item.get_closest_marker("covers_processes"):
            for name in ("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START"):
                patch.delenv(name, raising=False)
        yield


# The developer's own REDIS_* variables must not reach a test.
SERVER_ENVIRON = {name: os.environ[name] for name in ("PATH", "REDIS_SERVER") if name in os.environ}


@pytest.fixture(scope="session")
def shared_server() -> Iterator[Embedded]:
    with Embedded(SERVER_ENVIRON) as server:
        yield server


@pytest.fixture
def server(shared_server: Embedded) -> Embedded:
    """Hand out the session's server, emptied; a test may pause it, but must neither kill nor configure it."""
    with connect(shared_server.config) as client:
        client.flushall()
    return shared_server


@pytest.fixture
def start_server() -> Iterator[Callable[..., Embedded]]:
    """Start a server for this test alone; the arguments are its flags, the story's if there are none."""
    with contextlib.ExitStack() as stack:
        yield lambda *flags: stack.enter_context(Embedded(SERVER_ENVIRON, flags or STORY_FLAGS))


@pytest.fixture
def own_server(start_server: Callable[..., Embedded]) -> Embedded:
    """A server that the test may kill and configure."""
    return start_server()


@pytest.fixture
def connect_to() -> Iterator[Callable[..., Client]]:
    """Build a client for a server with some settings changed, closed after the test; `connected` makes its first connection at leisure."""
    with contextlib.ExitStack() as stack:

        def build(server: Embedded, *, decode_responses: bool = False, connected: bool = False, **changes: Any) -> Client:
            config = dataclasses.replace(server.config, **changes)
            client = stack.enter_context(connect(config, decode_responses=decode_responses))
            if connected:
                with deadline(10.0):
                    client.ping()
            return client

        yield build


@pytest.fixture
def paused() -> Callable[[Embedded], AbstractContextManager[None]]:
    """Stop a server's process for the length of a `with` block."""

    @contextlib.contextmanager
    def pause(server: Embedded) -> Iterator[None]:
        server.pause()
        try:
            yield
        finally:
            server.resume()

    return pause


@pytest.fixture
def eventually() -> Callable[[Callable[[], T]], T]:
    """Ask again until the answer is true, and return it; the test fails after 10 s."""
    return wait_for
