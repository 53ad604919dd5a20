"""What tests of both clients share."""

import asyncio
import signal
import threading
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
