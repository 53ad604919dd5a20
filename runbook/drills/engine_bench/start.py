"""Holds the time that many connections take against a bare loop of `connect`, and shows that they all are served."""

import contextlib
import os
import socket
import time
from collections.abc import Iterator

from cachelib import Config
from runbook.drills.engine_bench.part import Budget, Part, Row, interval, judge_figure, judge_values, undecided
from runbook.drills.paired_limit import Limit
from runbook.drills.stage import Stage
from runbook.load.sockets import LoadError, dialled

MANY, MOST = 500, 10_000
LIMIT = Limit("ratio of the times", 2.0, at_most=True)
CLAIM = f"{MANY:,} connections take at most {LIMIT.value:g} × as long as a bare loop of connect and PING"
SERVED_CLAIM = f"{MOST:,} connections are served"


def start(stage: Stage, budget: Budget) -> Part:
    """Connect many times, in turn with the bare loop; then offer a load over the most connections."""
    with _pinned(stage.placement.load):
        values = budget.sample(lambda number: [_ratio(stage.config, number)], LIMIT)
    yield Row(f"making {MANY:,} connections", "runbook", interval(values, LIMIT.unit), str(LIMIT)), judge_values(CLAIM, LIMIT, values, 0)
    began_s, load_s = time.monotonic(), 0.5
    try:
        made = stage.offer(duration_s=load_s, warm_up_s=0.0, rate_per_s=5000, connections=MOST).recording
    except LoadError as error:
        yield undecided(SERVED_CLAIM, str(error))
        return
    took_s = time.monotonic() - began_s - load_s
    finding = judge_figure(SERVED_CLAIM, made.lost, "connections lost", (0, 0), "= 0", made.failed().total())
    yield Row(f"a run of {MOST:,} connections", "runbook", f"{took_s:.2f} s beside its load"), finding


def _ratio(config: Config, number: int) -> float:
    if number % 2:
        bare_s, engine_s = bare_connect_s(config), engine_connect_s(config)
    else:
        engine_s, bare_s = engine_connect_s(config), bare_connect_s(config)
    return engine_s / bare_s


def engine_connect_s(config: Config) -> float:
    """Return how long the engine takes to make its connections, in s."""
    began_s = time.monotonic()
    with dialled(config, MANY):
        return time.monotonic() - began_s


def bare_connect_s(config: Config) -> float:
    """Return how long a bare loop takes to connect as often, and to hear a PONG on each connection, in s."""
    with contextlib.ExitStack() as stack:
        began_s = time.monotonic()
        for _ in range(MANY):
            connection = stack.enter_context(socket.create_connection((config.host, config.port), timeout=10))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(b"*1\r\n$4\r\nPING\r\n")
            connection.recv(100)
        return time.monotonic() - began_s


@contextlib.contextmanager
def _pinned(core: int | None) -> Iterator[None]:
    """Keep this thread on one core for the length of the block."""
    before = os.sched_getaffinity(0) if core is not None else set()
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        if before:
            os.sched_setaffinity(0, before)
