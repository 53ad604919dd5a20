"""One caller of the client library in an open loop, in a process of its own: GET, SET and PING, each at its moment."""

import contextlib
import gc
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import redis

from cachelib import Config, connect
from runbook.load.cpu_clock import CpuClock
from runbook.load.memory import peak_mib
from runbook.load.pacer import constant, sharpen_timers
from runbook.load.recording import SECOND_NS, Recorder, Recording, slice_width_ns
from runbook.load.response import Responses
from runbook.load.side import interleaved
from runbook.load.workload import Basics

_SLEEP_S = 0.05


@dataclass(frozen=True, slots=True)
class ClientPlan:
    """What one caller of the client library does.

    Attributes:
        config: which server, and how the client behaves.
        prefix: of the keys.
        size_bytes: length of the values.
        rate_per_s: calls a second.
        warm_up_s: seconds of load that do not count.
        duration_s: seconds of load that count, behind the warm-up.
        pid: of the process that answers; None where it can't be seen.
        control_of_pid: where this is the control: the process of the server under test, if it can be seen.
        is_control: whether this is the control, whose calls alternate with those to the server.
    """

    config: Config
    prefix: str
    size_bytes: int
    rate_per_s: float
    warm_up_s: float
    duration_s: float
    pid: int | None = None
    control_of_pid: int | None = None
    is_control: bool = False


def run(plan: ClientPlan, start: Callable[[], int]) -> Recording:
    """Connect, write the keys, ask when to start, and call.

    Args:
        plan: what to do.
        start: is called once connected, and returns the start on the clock of `time.monotonic_ns`.

    Raises:
        redis.RedisError: the server can't be reached, or refuses.
    """
    workload = Basics(plan.prefix, size_bytes=plan.size_bytes)
    with contextlib.ExitStack() as opened:
        client = opened.enter_context(connect(replace(plan.config, pool_size=1), observers=[]))
        sender, answering, server = (opened.enter_context(CpuClock(pid)) for pid in (os.getpid(), plan.pid, plan.control_of_pid))
        workload.load(client)
        try:
            gc.collect()
            gc.disable()
            sharpen_timers()
            start_ns = start()
            begin_ns = start_ns + round(plan.warm_up_s * SECOND_NS)
            recorder = Recorder(slice_width_ns(plan.duration_s), begin_ns)
            responses = Responses(recorder, answering, sender, server if plan.is_control else None)
            moments = interleaved(constant(plan.rate_per_s, start_ns), 1, seed=0)[plan.is_control]
            calls = _Calls(client, recorder, responses, [clock for clock in (sender, answering, server) if clock.running])
            sent = calls.make(workload, moments, begin_ns + round(plan.duration_s * SECOND_NS))
            responses.finish()
            seconds = plan.duration_s
            return Recording(
                recorder.slice_ns,
                recorder.finish(),
                recorder.errors,
                seconds,
                sent,
                under_way=calls.waited_ns / SECOND_NS / seconds,
                peak_mib=peak_mib(),
            )
        finally:
            workload.unload(client)


class _Calls:
    def __init__(self, client: redis.Redis, recorder: Recorder, responses: Responses, clocks: list[CpuClock]) -> None:
        self._client, self._recorder, self._responses, self._clocks = client, recorder, responses, clocks
        self.waited_ns = 0

    def make(self, workload: Basics, moments: Iterator[int], end_ns: int) -> int:
        """Make each call whose moment comes before `end_ns`, one after the other, and return how many."""
        recorder, now, free_ns, sent = self._recorder, time.monotonic_ns, 0, 0
        for operation, due_ns in zip(workload.operations(0), moments, strict=False):
            if due_ns >= end_ns:
                break
            while (ahead_ns := due_ns - now()) > 0:
                time.sleep(min(ahead_ns / SECOND_NS, _SLEEP_S))
            sent_ns = now()
            self._sample(sent_ns)
            problem = ""
            try:
                reply = operation.call(self._client)
                if reply != operation.expected:
                    problem = f"unexpected reply {reply!r}"[:200]
            except redis.RedisError as error:
                problem = f"{type(error).__name__}: {error}"
            done_ns, sent = now(), sent + 1
            self._sample(done_ns)
            recorder.sent(operation.name, due_ns, free_ns, sent_ns)
            if problem:
                recorder.error(operation.name, problem)
            else:
                recorder.call(operation.name, due_ns, sent_ns, done_ns)
                late_ns = sent_ns - max(due_ns, free_ns)
                self._responses.add(operation.name, due_ns, done_ns - due_ns - late_ns, done_ns)
            if due_ns >= recorder.begin_ns:
                self.waited_ns += done_ns - sent_ns
            free_ns = done_ns
        return sent

    def _sample(self, now_ns: int) -> None:
        for clock in self._clocks:
            if now_ns >= clock.next_ns:
                clock.sample(now_ns)
