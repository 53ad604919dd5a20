"""Stops the server once, and holds the reported p99 against the length that the stall really had."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from runbook.client_worker import installed
from runbook.drills.engine_bench.capacity import redis_benchmark_row
from runbook.drills.engine_bench.part import CONNECTIONS, Part, Row, judge_figure, undecided
from runbook.drills.stage import Stage
from runbook.load.quantile import estimate
from runbook.load.recording import Recording
from runbook.targets import Embedded

STALL_S, LOAD_S, RATE_PER_S = 0.5, 5.0, 5000
WHAT = f"a stall of {STALL_S * 1e3:g} ms in {LOAD_S:g} s"
CLAIM = f"At {RATE_PER_S:,} calls/s {WHAT} shows as the p99 that follows from its real length"


@dataclass(slots=True)
class Stall:
    """How long the server stood still.

    Attributes:
        least_s: from when it had been stopped to when it was told to go on.
        most_s: from before it was stopped to its first answer to somebody else, who asked meanwhile.
    """

    least_s: float = 0.0
    most_s: float = 0.0


def expected_p99_ms(stall: Stall, load_s: float) -> tuple[float, float]:
    """Return the bounds of the p99 of an open loop in which the server stalled once.

    The hundredth part of all calls that waited longest fell due in the first hundredth of the load's length, from the stall's begin on. So
    they waited for the whole stall but that, or longer, since the calls before them are answered first; and no longer than the stall, as
    long as those are answered faster than new ones fall due.

    Args:
        stall: that was measured.
        load_s: length of the load; a hundredth of it is shorter than the stall.
    """
    return 1e3 * (stall.least_s - load_s / 100), 1e3 * stall.most_s


def stall(stage: Stage, server: Embedded) -> Part:
    """Stop the server in a closed loop, in redis-benchmark and in an open loop."""
    with stalled(server, LOAD_S / 3):
        closed = stage.offer(duration_s=LOAD_S, connections=CONNECTIONS).recording
    yield Row(WHAT, "runbook, closed loop", f"p99 {_p99_ms(closed):.2f} ms"), None
    if installed("redis-benchmark"):
        with stalled(server, LOAD_S / 3):
            row = redis_benchmark_row(stage, "get", 1, round(closed.rate_per_s * LOAD_S * 0.6))
        yield Row(WHAT, "redis-benchmark", f"p99 {float(row[6]):.2f} ms"), None
    with stalled(server, LOAD_S / 3) as stood:
        made = stage.offer(duration_s=LOAD_S, rate_per_s=RATE_PER_S, connections=CONNECTIONS).recording
    low, high = expected_p99_ms(stood, LOAD_S)
    limit = f"{low:.0f} to {high:.0f} ms"
    if high - low > 1e3 * STALL_S / 2:
        yield undecided(CLAIM, f"the host let the server stand still for {stood.least_s:.2f} to {stood.most_s:.2f} s: too vague to tell")
        return
    finding = judge_figure(CLAIM, _p99_ms(made), "ms", (low, high), limit, made.failed().total())
    yield Row(WHAT, "runbook, open loop", f"p99 {_p99_ms(made):.0f} ms", limit), finding


@contextlib.contextmanager
def stalled(server: Embedded, after_s: float) -> Iterator[Stall]:
    """Stop the server once, so many seconds after the block has begun, and fill in how long that was."""
    found = Stall()

    def stop() -> None:
        time.sleep(after_s)
        with socket.create_connection((server.config.host, server.config.port), timeout=10) as other:
            began_s = time.monotonic()
            server.pause()
            try:
                stopped_s = time.monotonic()
                other.sendall(b"PING\r\n")
                time.sleep(STALL_S)
            finally:
                resumed_s = time.monotonic()
                server.resume()
            other.recv(100)
            found.least_s, found.most_s = resumed_s - stopped_s, time.monotonic() - began_s

    stopper = threading.Thread(target=stop, daemon=True)
    stopper.start()
    try:
        yield found
    finally:
        stopper.join()


def _p99_ms(made: Recording) -> float:
    found = estimate(made.histogram(), 0.99)
    return found.value if found else float("nan")
