"""Ends the server's process, proves that it ended, and starts it again on what it left."""

import contextlib
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cachelib import Config, connect
from runbook.targets import Restartable, Target


@dataclass(slots=True)
class Outage:
    """What a fault did, filled in as it happens; times are of `time.monotonic_ns`.

    Attributes:
        fault: name of the signal.
        broken_ns: just before the signal.
        down_ns: when the process had ended.
        ready_ns: when the server served again; 0 until then.
        doubts: why it can't be said that the fault took place; empty if it did.
    """

    fault: str
    broken_ns: int = 0
    down_ns: int = 0
    ready_ns: int = 0
    doubts: tuple[str, ...] = ()

    @property
    def duration_s(self) -> float:
        """Seconds from the signal until the server served again."""
        return (self.ready_ns - self.broken_ns) / 1e9


@contextlib.contextmanager
def stopped(target: Target) -> Iterator[Outage]:
    """End the server with SIGTERM, so that it may close its files; start it again at the end of the block."""
    with _ended(target, signal.SIGTERM, 0) as outage:
        yield outage


@contextlib.contextmanager
def killed(target: Target) -> Iterator[Outage]:
    """End the server with SIGKILL, which it can't notice; start it again at the end of the block."""
    with _ended(target, signal.SIGKILL, -signal.SIGKILL) as outage:
        yield outage


@contextlib.contextmanager
def _ended(target: Target, signal_number: signal.Signals, expected_status: int) -> Iterator[Outage]:
    assert isinstance(target, Restartable)
    end: Callable[[], int] = {signal.SIGTERM: target.stop, signal.SIGKILL: target.kill}[signal_number]
    before = _run_id(target.config)
    outage = Outage(signal_number.name, broken_ns=time.monotonic_ns())
    try:
        status = end()
        outage.down_ns = time.monotonic_ns()
        if status != expected_status:
            outage.doubts += (f"the server ended with status {status} instead of {expected_status}",)
        if _listens(target.config):
            outage.doubts += ("its port still accepted connections after it ended",)
        yield outage
    finally:
        target.start()
        outage.ready_ns = time.monotonic_ns()
    if _run_id(target.config) == before:
        outage.doubts += ("the same server process answers as before",)


def _run_id(config: Config) -> str:
    with connect(config) as client:
        return str(client.info("server")["run_id"])


def _listens(config: Config) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((config.host, config.port)) == 0
