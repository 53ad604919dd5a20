"""Ends a server together with its container, or behind its engine's back, and proves which of the two came about."""

import contextlib
import time
from collections.abc import Callable, Iterator

from runbook.drills.faults.process import Outage, ended, run_id
from runbook.targets import Contained, NotServing, Restartable, Target


@contextlib.contextmanager
def recreated(target: Target) -> Iterator[Outage]:
    """Stop the server, as Compose does when something changed; a new container takes over its data at the end of the block."""
    assert isinstance(target, Contained)
    with _replaced(target, "recreation", target.recreate) as outage:
        yield outage


@contextlib.contextmanager
def removed(target: Target) -> Iterator[Outage]:
    """Stop the server, and remove container and network as `down` does; `up` makes them anew at the end of the block."""
    assert isinstance(target, Contained)
    with _replaced(target, "removal", target.up) as outage:
        target.down()
        yield outage


@contextlib.contextmanager
def crashed(target: Target) -> Iterator[Outage]:
    """Kill the server's process as a crash would, and wait until the engine's restart policy has healed it; then comes the block.

    A policy that does not act is a finding, and the server is started by hand.
    """
    assert isinstance(target, Contained)
    assert isinstance(target, Restartable)
    before, container = run_id(target.config), target.instance
    outage = Outage("crash", broken_ns=time.monotonic_ns())
    target.crash()
    outage.down_ns = time.monotonic_ns()
    try:
        target.await_restart()
    except NotServing as error:
        outage.unhealed = str(error)
        target.start()
    except BaseException:
        target.start()
        raise
    outage.ready_ns = time.monotonic_ns()
    if run_id(target.config) == before:
        outage.doubts += ("the same server process answers as before",)
    if target.instance != container:
        outage.doubts += ("another container answers: it was no restart",)
    yield outage


@contextlib.contextmanager
def _replaced(target: Target, fault: str, heal: Callable[[], None]) -> Iterator[Outage]:
    assert isinstance(target, Contained)
    before = target.instance
    with ended(target, fault, end=target.stop, status=0, heal=heal) as outage:
        yield outage
    if target.instance == before:
        outage.doubts += ("the same container answers as before",)
