"""What tests of both clients share."""

import asyncio
import contextlib
import dataclasses
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from cachelib import connect, connect_async, deadline
from runbook.drills.faults import Proxy
from runbook.targets.embedded import Embedded
from tests.integration.cachelib.bridge import bridged


def new_loop(kind: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if kind != "uvloop":
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = pytest.importorskip("uvloop").new_event_loop
    return factory


@pytest.fixture
def direct(server: Embedded) -> Iterator[Any]:
    """redis-py's own client, past every proxy, to see what the server holds."""
    with redis.Redis(port=server.config.port, decode_responses=True) as client:
        yield client


@pytest.fixture
def admin(own_server: Embedded) -> Iterator[Any]:
    """redis-py's own client of the test's own server."""
    with redis.Redis(port=own_server.config.port, decode_responses=True) as admin:
        yield admin


@pytest.fixture
def proxy(server: Embedded) -> Iterator[Proxy]:
    """Stand between a client and the server."""
    with Proxy(server.config.port) as proxy:
        yield proxy


@pytest.fixture(params=["threads", "asyncio", pytest.param("uvloop", marks=pytest.mark.nightly)])
def client_kind(request: pytest.FixtureRequest) -> str:
    """The client of threads, and that of asyncio on each kind of loop."""
    kind: str = request.param
    return kind


@pytest.fixture
def open_client(client_kind: str) -> Iterator[Callable[..., Any]]:
    """Build a client of either kind with some settings changed, closed after the test; `connected` makes its connections at leisure."""
    with contextlib.ExitStack() as stack:

        def build(server: Embedded, *, connected: bool = False, decode_responses: bool = False, observers: Any = (), **changes: Any) -> Any:
            config = dataclasses.replace(server.config, **changes)
            options = {"decode_responses": decode_responses, "observers": observers}
            if client_kind == "threads":
                client: Any = stack.enter_context(connect(config, **options))
            else:
                client = stack.enter_context(bridged(lambda: connect_async(config, **options), new_loop(client_kind)))
            if connected:
                with deadline(10.0):  # the asyncio client sends these two over different connections
                    client.ping()
                    client.pipeline().get("k").execute()
            return client

        yield build


@pytest.fixture(params=["asyncio", "uvloop"])
def loop_factory(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    """Make an event loop of one kind, then of the other."""
    return new_loop(request.param)


@pytest.fixture
def interrupted() -> Callable[..., None]:
    """Make a call that is interrupted, as by Ctrl-C: `by` runs beside it, and is given what raises KeyboardInterrupt in the call."""

    def run(call: Callable[[], object], *, by: Callable[[Callable[[], None]], object]) -> None:
        def handle(*_: object) -> None:
            raise KeyboardInterrupt

        main = threading.get_ident()
        before = signal.signal(signal.SIGUSR1, handle)
        helper = threading.Thread(target=by, args=(lambda: signal.pthread_kill(main, signal.SIGUSR1),))
        try:
            helper.start()
            with pytest.raises(KeyboardInterrupt):
                call()
        finally:
            helper.join()
            signal.signal(signal.SIGUSR1, before)

    return run
