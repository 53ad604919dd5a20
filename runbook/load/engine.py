"""Runs a plan in processes of its own, where neither an interpreter at work nor a garbage collector gets in its way.

A process reads a pickled plan, connects, answers that it is ready, reads when to start, and answers with a pickled recording: between
our own processes only. As a module (`python -m runbook.load.engine`) it is such a process.
"""

import contextlib
import dataclasses
import gc
import os
import pickle
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from runbook.load.closed_loop import ClosedLoop
from runbook.load.memory import peak_mib
from runbook.load.open_loop import OpenLoop
from runbook.load.pacer import constant, poisson, sharpen_timers
from runbook.load.plan import Plan
from runbook.load.recording import SECOND_NS, Recorder, Recording, slice_width_ns, together
from runbook.load.sockets import LoadError, dialled
from runbook.tether import tethered

# How long before the first call all processes know when it comes.
_LEAD_NS = 20_000_000


def offer(plan: Plan, *, processes: int = 1, cores: Sequence[int] = ()) -> Recording:
    """Offer a load and return what was measured.

    Args:
        plan: what to offer; rate and connections are shared out among the processes.
        processes: how many send; one sends some 50,000 calls a second in an open loop.
        cores: to pin the processes to, one after the other; without any nothing is pinned.

    Raises:
        ValueError: there are fewer connections than processes.
        LoadError: a connection could not be made; the message says what to do.
    """
    if not 1 <= processes <= plan.connections:
        raise ValueError(f"{plan.connections} connections take 1 to {plan.connections} processes, got {processes}")
    with contextlib.ExitStack() as stack:
        shares = _shares(plan, processes)
        places = [cores[number % len(cores)] if cores else None for number in range(processes)]
        workers = [stack.enter_context(_worker(core)) for core in places]
        for number, (worker, share) in enumerate(zip(workers, shares, strict=True)):
            _tell(worker, (share, number, processes))
        for worker in workers:
            _hear(worker)
        start_ns = time.monotonic_ns() + _LEAD_NS
        for worker in workers:
            _tell(worker, start_ns)
        return together([_hear(worker) for worker in workers], at_once=True)


def _shares(plan: Plan, processes: int) -> list[Plan]:
    """Share out connections and rate, the remainder to the first ones."""
    counts = [plan.connections // processes + (number < plan.connections % processes) for number in range(processes)]
    rate_per_s = None if plan.rate_per_s is None else plan.rate_per_s / processes
    return [dataclasses.replace(plan, connections=count, rate_per_s=rate_per_s) for count in counts]


@contextlib.contextmanager
def _worker(core: int | None) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        tethered([sys.executable, "-m", "runbook.load.engine"]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C reaches us alone
    )
    try:
        if core is not None:
            os.sched_setaffinity(process.pid, {core})
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


def _tell(worker: subprocess.Popen[bytes], message: Any) -> None:
    assert worker.stdin
    with contextlib.suppress(BrokenPipeError):  # why it ended shows in its answer
        pickle.dump(message, worker.stdin)
        worker.stdin.flush()


def _hear(worker: subprocess.Popen[bytes]) -> Any:
    assert worker.stdout
    try:
        answer = pickle.load(worker.stdout)  # noqa: S301 our own process wrote it
    except (EOFError, pickle.UnpicklingError):  # it ended, perhaps in the middle of its answer
        raise LoadError(f"a process of the load ended with status {worker.wait()}; its error stands above") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def run(plan: Plan, number: int, processes: int, start: Callable[[], int]) -> Recording:
    """Connect, ask when to start, and offer one process's share.

    Args:
        plan: of this process.
        number: which process it is.
        processes: how many there are.
        start: is called once connected, and returns the start on the clock of `time.monotonic_ns`.
    """
    requests = plan.traffic.requests(number)
    # The epoll comes first, since `select` on it takes numbers below 1024 only.
    with select.epoll() as epoll, dialled(plan.config, plan.connections) as connections:
        gc.collect()
        gc.disable()
        sharpen_timers()
        start_ns = start()
        begin_ns = start_ns + round(plan.warm_up_s * SECOND_NS)
        end_ns = begin_ns + round(plan.duration_s * SECOND_NS)
        recorder = Recorder(slice_width_ns(plan.duration_s), begin_ns)
        loop: OpenLoop | ClosedLoop
        if plan.rate_per_s is None:
            loop = ClosedLoop(plan, connections, requests, recorder)
        elif plan.arrivals == "poisson":
            moments = poisson(plan.rate_per_s, start_ns, f"{plan.traffic.seed}:arrivals:{number}")
            loop = OpenLoop(plan, epoll, connections, requests, moments, recorder)
        else:
            # Processes take turns.
            offset_ns = round(number * SECOND_NS / (plan.rate_per_s * processes))
            loop = OpenLoop(plan, epoll, connections, requests, constant(plan.rate_per_s, start_ns + offset_ns), recorder)
        time.sleep(max(0.0, (start_ns - time.monotonic_ns()) / SECOND_NS))
        loop.run(end_ns)
        # What was answered behind the end took longer than the load; where every connection was lost it took less.
        ended_ns = loop.ended_ns if loop.lost == plan.connections else max(loop.ended_ns, end_ns)
        seconds = max(1e-9, (ended_ns - begin_ns) / SECOND_NS)
        under_way = loop.waited_ns / SECOND_NS / seconds if isinstance(loop, OpenLoop) else float(plan.connections * plan.depth)
        counts = (loop.sent, loop.unsent, loop.lost)
        cells = recorder.finish()
        return Recording(recorder.slice_ns, cells, recorder.errors, seconds, *counts, under_way, peak_mib())


def main() -> None:
    """Be one process of a load."""
    reader, writer = sys.stdin.buffer, sys.stdout.buffer

    def answer(message: Any) -> None:
        pickle.dump(message, writer)
        writer.flush()

    def start() -> int:
        answer("ready")
        return int(pickle.load(reader))  # noqa: S301 our own process wrote it

    try:
        plan, number, processes = pickle.load(reader)  # noqa: S301 our own process wrote it
        answer(run(plan, number, processes, start))
    except LoadError as error:
        answer(error)
    except EOFError:  # who started us has ended
        sys.exit(1)


if __name__ == "__main__":
    main()
