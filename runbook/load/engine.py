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

import redis

from runbook.load import client_load
from runbook.load.client_load import ClientPlan
from runbook.load.closed_loop import ClosedLoop
from runbook.load.cpu_clock import CpuClock
from runbook.load.memory import peak_mib
from runbook.load.open_loop import OpenLoop
from runbook.load.pacer import constant, poisson, sharpen_timers
from runbook.load.plan import Plan
from runbook.load.recording import SECOND_NS, Recorder, Recording, slice_width_ns, together
from runbook.load.response import Responses
from runbook.load.side import Side, interleaved
from runbook.load.sockets import LoadError, dialled
from runbook.load.traffic import Request
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


def offer_through_client(plan: ClientPlan, control: ClientPlan, *, cores: Sequence[int] = ()) -> Recording:
    """Offer a load through the client library, and the same one to a control at the same time, interleaved call by call.

    Args:
        plan: what to offer.
        control: the same for a server without a database.
        cores: to pin both processes to the first of; without any nothing is pinned.

    Raises:
        LoadError: a server could not be reached; the message says what to do.
    """
    core = cores[0] if cores else None
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(_worker(core)) for _ in range(2)]
        for worker, share in zip(workers, (plan, control), strict=True):
            _tell(worker, (share, 0, 1))
        for worker in workers:
            _hear(worker)
        start_ns = time.monotonic_ns() + _LEAD_NS
        for worker in workers:
            _tell(worker, start_ns)
        made: Recording = _hear(workers[0])
        return dataclasses.replace(made, control=_hear(workers[1]))


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
    requests = plan.traffic.requests(number, plan.calls)
    with contextlib.ExitStack() as opened:
        # The epoll comes first, since `select` on it takes numbers below 1024 only.
        epoll = opened.enter_context(select.epoll())
        connections = opened.enter_context(dialled(plan.config, plan.connections))
        controls = opened.enter_context(dialled(plan.control.config, plan.connections)) if plan.control else []
        server_clock = opened.enter_context(CpuClock(plan.control.server_pid if plan.control else None))
        # What one side waits for a CPU is taken off only where that of the other side is known as well.
        control_clock = opened.enter_context(CpuClock(plan.control.pid if plan.control and server_clock.running else None))
        sender_clock = opened.enter_context(CpuClock(os.getpid() if plan.control else None))
        gc.collect()
        gc.disable()
        sharpen_timers()
        start_ns = start()
        begin_ns = start_ns + round(plan.warm_up_s * SECOND_NS)
        end_ns = begin_ns + round(plan.duration_s * SECOND_NS)
        recorder = Recorder(slice_width_ns(plan.duration_s), begin_ns)
        moments, controlled = _moments(plan, number, processes, start_ns), _NO_MOMENTS
        if plan.control:
            moments, controlled = interleaved(moments, plan.control_every, number)
        server = Side(
            connections, plan.depth, requests, moments, recorder, Responses(recorder, server_clock, sender_clock) if plan.control else None
        )
        time.sleep(max(0.0, (start_ns - time.monotonic_ns()) / SECOND_NS))
        if plan.rate_per_s is None:
            closed = ClosedLoop(plan, connections, requests, recorder)
            closed.run(end_ns)
            return _recording(plan, closed, recorder, end_ns, float(plan.connections * plan.depth))
        control = None
        if plan.control:
            mirrored = _mirrored(requests[:: plan.control_every])
            mirror = Recorder(recorder.slice_ns, begin_ns)
            responses = Responses(mirror, control_clock, sender_clock, server_clock)
            control = Side(controls, plan.depth, mirrored, controlled, mirror, responses)
        OpenLoop(plan, epoll, server, control, sender_clock).run(end_ns)
        made = _recording(plan, server, recorder, end_ns)
        return dataclasses.replace(made, control=_recording(plan, control, control.recorder, end_ns)) if control else made


_NO_MOMENTS: Iterator[int] = iter(())


def _moments(plan: Plan, number: int, processes: int, start_ns: int) -> Iterator[int]:
    """Yield the intended starts of one process; those of several take turns."""
    if plan.rate_per_s is None:
        return iter(())
    if plan.arrivals == "poisson":
        return poisson(plan.rate_per_s, start_ns, f"{plan.traffic.seed}:arrivals:{number}")
    return constant(plan.rate_per_s, start_ns + round(number * SECOND_NS / (plan.rate_per_s * processes)))


def _mirrored(requests: Sequence[Request]) -> list[Request]:
    """Ask the control for replies of the same sizes: it sends back what it reads."""
    replies = (request.expected or b":1\r\n" for request in requests)
    return [Request(request.operation, reply, reply) for request, reply in zip(requests, replies, strict=True)]


def _recording(plan: Plan, loop: ClosedLoop | Side, recorder: Recorder, end_ns: int, under_way: float | None = None) -> Recording:
    # What was answered behind the end took longer than the load; where every connection was lost it took less.
    ended_ns = loop.ended_ns if loop.lost == plan.connections else max(loop.ended_ns, end_ns)
    seconds = max(1e-9, (ended_ns - recorder.begin_ns) / SECOND_NS)
    if isinstance(loop, Side):
        under_way = loop.waited_ns / SECOND_NS / seconds
    counts = (loop.sent, loop.unsent, loop.lost)
    return Recording(recorder.slice_ns, recorder.finish(), recorder.errors, seconds, *counts, under_way or 0.0, peak_mib())


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
        answer(client_load.run(plan, start) if isinstance(plan, ClientPlan) else run(plan, number, processes, start))
    except LoadError as error:
        answer(error)
    except redis.RedisError as error:
        answer(LoadError(str(error)))
    except EOFError:  # who started us has ended
        sys.exit(1)


if __name__ == "__main__":
    main()
