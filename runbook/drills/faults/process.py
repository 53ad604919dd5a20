"""Ends the server's process, proves that it ended, and starts it again on what it left."""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cachelib import CacheError, Config, connect, deadline
from runbook.drills.undo import UndoLog, birth_of, state_folder
from runbook.targets import Local, Pausable, Restartable, Target

# A server that goes on answers within that time, and one that was stopped doesn't after it either.
ANSWER_S = 0.5


@dataclass(slots=True)
class Outage:
    """What a fault did, filled in as it happens; times are of `time.monotonic_ns`.

    Attributes:
        fault: its name, such as SIGKILL.
        broken_ns: just before the signal.
        down_ns: when the process had ended.
        ready_ns: when the server served again; 0 until then.
        doubts: why it can't be said that the fault took place; empty if it did.
        unhealed: how whoever had to heal it failed to, so that we had to; empty if it was done.
    """

    fault: str
    broken_ns: int = 0
    down_ns: int = 0
    ready_ns: int = 0
    doubts: tuple[str, ...] = ()
    unhealed: str = ""

    @property
    def duration_s(self) -> float:
        """Seconds from the signal until the server served again."""
        return (self.ready_ns - self.broken_ns) / 1e9


@contextlib.contextmanager
def stopped(target: Target) -> Iterator[Outage]:
    """End the server with SIGTERM, so that it may close its files; start it again at the end of the block."""
    assert isinstance(target, Restartable)
    with ended(target, "SIGTERM", end=target.stop, status=0, heal=target.start) as outage:
        yield outage


@contextlib.contextmanager
def killed(target: Target) -> Iterator[Outage]:
    """End the server with SIGKILL, which it can't notice; start it again at the end of the block."""
    assert isinstance(target, Restartable)
    with ended(target, "SIGKILL", end=target.kill, status=-signal.SIGKILL, heal=target.start) as outage:
        yield outage


@contextlib.contextmanager
def paused(target: Target) -> Iterator[Outage]:
    """Stop the server with SIGSTOP, so that its connections stay open and nothing is answered; let it go on at the end of the block."""
    assert isinstance(target, Pausable)
    before = run_id(target.config)
    outage = Outage("SIGSTOP", broken_ns=time.monotonic_ns())
    healing = contextlib.ExitStack()
    if isinstance(target, Local) and target.pid:  # one in a container would stay silent if we died
        undo = UndoLog(state_folder(os.environ))
        healing.enter_context(undo.undoing("stopped process", pid=target.pid, born=birth_of(target.pid)))
    with healing:
        target.pause()
        try:
            outage.down_ns = time.monotonic_ns()
            if _answers(target.config):
                outage.doubts += ("it still answered after it was stopped",)
            yield outage
        finally:
            target.resume()
            outage.ready_ns = time.monotonic_ns()
    if run_id(target.config) != before:
        outage.doubts += ("another server process answers than before",)


@contextlib.contextmanager
def ended(target: Target, fault: str, *, end: Callable[[], int], status: int, heal: Callable[[], None]) -> Iterator[Outage]:
    """End the server, and let another one serve at the end of the block.

    Args:
        target: which server.
        fault: name of the fault.
        end: ends it, and returns its exit status.
        status: that it should end with.
        heal: returns when the next one serves.
    """
    before = run_id(target.config)
    outage = Outage(fault, broken_ns=time.monotonic_ns())
    try:
        found = end()
        outage.down_ns = time.monotonic_ns()
        if found != status:
            outage.doubts += (f"the server ended with status {found} instead of {status}",)
        if _listens(target.config):
            outage.doubts += ("its port still accepted connections after it ended",)
        yield outage
    finally:
        heal()
        outage.ready_ns = time.monotonic_ns()
    if run_id(target.config) == before:
        outage.doubts += ("the same server process answers as before",)


def run_id(config: Config) -> str:
    """Ask for what tells this start of the server from another."""
    with connect(config) as client:
        return str(client.info("server")["run_id"])


def _answers(config: Config) -> bool:
    with connect(config) as client, contextlib.suppress(CacheError), deadline(ANSWER_S):
        return bool(client.ping())
    return False


def _listens(config: Config) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((config.host, config.port)) == 0
