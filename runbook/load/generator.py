"""Runs a workload in an open loop: each operation has its moment, and is late rather than left out."""

import contextlib
import gc
import threading
import time
from collections.abc import Iterator
from typing import Self

import redis

from cachelib import Refused, Unavailable
from runbook.load.history import History, Outcome
from runbook.load.journal import Journal, Lane
from runbook.load.pacer import check_rate, constant, sharpen_timers, wait_until
from runbook.load.workload import Operation, Workload

# Errors after which the operation certainly did not happen; any other leaves that open.
_DID_NOT_HAPPEN = (Unavailable, Refused, redis.ResponseError)


class Load:
    """Workers that issue a workload at a constant rate until stopped; use it in a `with` statement, then read `history`.

    Args:
        client: shared by all workers.
        workload: what they do.
        rate_per_s: operations a second, of all workers together.
        workers: how many callers, a thread each.
        spin: whether a worker burns the CPU for exact starts; for a single worker that is measured.
        journal: where every operation is recorded as it goes, for a record that outlives us; by default one that goes with the history.

    Raises:
        ValueError: the rate is not a finite number above 0.
    """

    def __init__(
        self,
        client: redis.Redis,
        workload: Workload,
        *,
        rate_per_s: float,
        workers: int,
        spin: bool = False,
        journal: Journal | None = None,
    ) -> None:
        check_rate(rate_per_s)
        self._client, self._workload, self._spin = client, workload, spin
        self._stop = threading.Event()
        self._journal = journal or Journal()
        self._lanes = [self._journal.lane(worker) for worker in range(workers)]
        self._crashes: list[BaseException] = []
        start_ns = time.monotonic_ns() + 20_000_000
        # Workers take turns: worker k of n issues operations k, k + n, k + 2n, …
        gap_ns = round(1e9 / rate_per_s)
        self._threads = [
            threading.Thread(target=self._work, args=(worker, start_ns + worker * gap_ns, rate_per_s / workers), daemon=True)
            for worker in range(workers)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        for lane in self._lanes:
            lane.close()
        if self._crashes:
            raise self._crashes[0]

    @property
    def history(self) -> History:
        """What has happened so far; complete once the `with` block has ended."""
        return self._journal.history_of(self._lanes)

    def _work(self, worker: int, start_ns: int, rate_per_s: float) -> None:
        lane = self._lanes[worker]
        sharpen_timers()
        try:
            moments = constant(rate_per_s, start_ns)
            for operation, intended_ns in zip(self._workload.operations(worker), moments, strict=False):
                if not wait_until(intended_ns, self._stop, spin=self._spin):
                    return
                _perform(self._client, lane, operation, intended_ns)
        except BaseException as crash:  # raised where the `with` block ends, instead of being lost with the thread
            self._crashes.append(crash)


def run(client: redis.Redis, workload: Workload, *, rate_per_s: float, workers: int, duration_s: float, spin: bool = False) -> History:
    """Run a workload for a while and return its history.

    Args:
        client: shared by all workers.
        workload: what they do.
        rate_per_s: operations a second, of all workers together.
        workers: how many callers.
        duration_s: for how long, in seconds.
        spin: whether a worker burns the CPU for exact starts.
    """
    with collector_off(), Load(client, workload, rate_per_s=rate_per_s, workers=workers, spin=spin) as load:
        time.sleep(duration_s)
    return load.history


@contextlib.contextmanager
def collector_off() -> Iterator[None]:
    """Keep Python's garbage collector from pausing the callers: 60 ms were seen in a kernel that holds pandas and matplotlib."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _perform(client: redis.Redis, lane: Lane, operation: Operation, intended_ns: int) -> None:
    outcome, problem, read = Outcome.OK, "", None
    sent_ns = time.monotonic_ns()
    lane.invoke(operation.name, operation.value, intended_ns, sent_ns)
    try:
        reply = operation.call(client)
    except _DID_NOT_HAPPEN as error:
        outcome, problem = Outcome.FAIL, f"{type(error).__name__}: {error}"
    except redis.RedisError as error:
        outcome, problem = Outcome.UNKNOWN, f"{type(error).__name__}: {error}"
    else:
        if operation.expected is not None and reply != operation.expected:
            outcome, problem = Outcome.UNKNOWN, f"unexpected reply {reply!r}"[:200]
        elif operation.read is not None:
            read = operation.read(reply)
    lane.done(time.monotonic_ns(), outcome, problem, read)
