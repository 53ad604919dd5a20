"""Where loads are offered to be measured: keys filled, server and load on a core each, nothing else of ours at work."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import redis

from cachelib import Config, connect
from runbook.load import Basics, History, Outcome, engine, run
from runbook.load.noise import cpu_seconds
from runbook.load.offered import Offered, describe
from runbook.load.placement import Placement, cores, placed
from runbook.load.plan import Plan
from runbook.load.recording import SECOND_NS, Recorder, Recording, slice_width_ns
from runbook.load.sockets import LoadError
from runbook.load.traffic import Traffic
from runbook.targets import Local, Target

WARM_UP_S = 0.3


@dataclass(frozen=True, slots=True)
class Stage:
    """Offers loads to one server.

    Attributes:
        config: of the server.
        traffic: whose keys are filled.
        placement: which cores are used.
        server_pid: of a server of ours; None for another's.
    """

    config: Config
    traffic: Traffic
    placement: Placement
    server_pid: int | None = None

    def offer(self, *, duration_s: float, processes: int = 1, **more: Any) -> Offered:
        """Offer the traffic, spinning where the load has a core of its own.

        Args:
            duration_s: seconds of load that count.
            processes: how many send.
            more: fields of `Plan`.

        Raises:
            LoadError: it could not be offered.
            ValueError: the plan is impossible.
        """
        # More processes than cores share them, and those that share can't spin.
        alone = self.placement.apart and processes <= len(self.placement.loads)
        plan = self._plan(duration_s=duration_s, **({"spin": alone} | more))
        return Offered(describe(plan, self.placement.words), engine.offer(plan, processes=processes, cores=self.placement.loads))

    def server_cpu_s(self) -> float | None:
        """Return how many seconds of CPU time a server of ours has used so far; None for another's."""
        return None if self.server_pid is None else cpu_seconds(self.server_pid)

    def offer_to(self, other: Config, traffic: Traffic, *, duration_s: float, **more: Any) -> Recording:
        """Offer another traffic to another server, in the same way."""
        plan = dataclasses.replace(self._plan(duration_s=duration_s, **more), config=other, traffic=traffic)
        return engine.offer(plan, cores=self.placement.loads)

    def through_client(self, *, rate_per_s: float, duration_s: float) -> Recording:
        """Offer GET, SET and PING through one caller of the client library, on the same core."""
        workload = Basics(prefix=f"{self.traffic.prefix}client:", seed=self.traffic.seed)
        with connect(dataclasses.replace(self.config, pool_size=1)) as client, _on_core(self.placement.load):
            workload.load(client)
            try:
                run(client, workload, rate_per_s=rate_per_s, workers=1, duration_s=WARM_UP_S)
                spin = self.placement.apart
                return recorded(run(client, workload, rate_per_s=rate_per_s, workers=1, duration_s=duration_s, spin=spin), duration_s)
            finally:
                workload.unload(client)

    def _plan(self, **more: Any) -> Plan:
        return Plan(self.config, self.traffic, **({"warm_up_s": WARM_UP_S, "spin": self.placement.apart} | more))


@contextlib.contextmanager
def staged(target: Target, traffic: Traffic) -> Iterator[Stage]:
    """Fill the keys, pin a server of ours, wait until no other notebook is at work; afterwards delete the keys.

    Args:
        target: which server.
        traffic: whose keys it takes.

    Raises:
        LoadError: the keys could not be written; the message says why.
    """
    with connect(target.config) as client, placed(server_pid(target)) as placement:
        try:
            try:
                traffic.clear(client)  # who may not delete keys should not write any
                traffic.fill(client)
            except redis.RedisError as error:
                raise LoadError(f"the keys of the load could not be written and deleted: {error}") from error
            yield Stage(target.config, traffic, placement, server_pid(target))
        finally:
            with contextlib.suppress(redis.RedisError):  # of a server that is gone no key need be deleted
                traffic.clear(client)


def server_pid(target: Target) -> int | None:
    """Return the process of a server of ours; None for another's, and for one that this host can't see."""
    return target.pid if isinstance(target, Local) else None


def recorded(history: History, duration_s: float) -> Recording:
    """Turn the history of callers into a recording, as the engine makes one.

    Args:
        history: of whole callers: what a caller waited for is told from when its last call ended.
        duration_s: how long the load took.
    """
    recorder, free_ns = Recorder(slice_width_ns(duration_s), 0), dict[int, int]()
    for record in history:
        recorder.sent(record.operation, record.intended_ns, free_ns.get(record.worker, 0), record.sent_ns)
        free_ns[record.worker] = record.done_ns
        if record.outcome is Outcome.OK:
            recorder.call(record.operation, record.intended_ns, record.sent_ns, record.done_ns)
        else:
            recorder.error(record.operation, record.error)
    waited_ns = sum(record.service_ns for record in history)
    cells, under_way = recorder.finish(), waited_ns / SECOND_NS / duration_s
    return Recording(recorder.slice_ns, cells, recorder.errors, duration_s, len(history), under_way=under_way)


@contextlib.contextmanager
def _on_core(core: int | None) -> Iterator[None]:
    """Keep this thread, and those that it starts, on one core for the length of the block."""
    if core is None:
        yield
        return
    before = set(cores())
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
