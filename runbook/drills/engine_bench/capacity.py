"""Holds the rate of a closed loop against that of redis-benchmark."""

import os
import statistics
import subprocess

from runbook.client_worker import installed
from runbook.drills.engine_bench.part import CONNECTIONS, Budget, Part, Row, interval, intervals, judge_values, undecided
from runbook.drills.paired_limit import Limit
from runbook.drills.stage import Stage
from runbook.load.recording import LATENCY, SECOND_NS
from runbook.load.sockets import LoadError

# What of the rate of redis-benchmark is kept, by depth. The deeper, the more each reply's validation in Python counts: 40 pairs showed 1.4,
# 1.1 and 0.9 to 1.0 ×.
LIMITS = {depth: Limit("ratio of the rates", least) for depth, least in ((1, 0.95), (16, 0.9), (64, 0.7))}
KEYS, SIZE_BYTES = 1000, 64
_LOAD_S, _WARM_UP_S, _RUN_S = 0.5, 0.05, 0.12


def capacity(stage: Stage, budget: Budget) -> Part:
    """Measure each depth: intervals of 0.1 s of our closed loop, and runs of redis-benchmark as long as these, in turn."""
    if not installed("redis-benchmark"):
        reason = "redis-benchmark is not installed, so there is nothing to hold our rate against"
        for depth in LIMITS:
            yield undecided(_claim(depth), reason)
        return
    redis_benchmark(stage, "set", 1, 20_000)  # its keys
    for depth, limit in LIMITS.items():
        sampler = _Sampler(stage, depth)
        values = budget.sample(sampler.take, limit)
        what = f"closed loop, {CONNECTIONS} connections, depth {depth}"
        yield Row(what, "redis-benchmark", f"{statistics.median(sampler.theirs):,.0f} calls/s"), None
        shown = f"{statistics.median(sampler.ours):,.0f} calls/s, {interval(values, '×')}"
        yield Row(what, "runbook", shown, str(limit)), judge_values(_claim(depth), limit, values, sampler.wrong)


class _Sampler:
    """Alternates between our load and redis-benchmark."""

    def __init__(self, stage: Stage, depth: int) -> None:
        self._stage, self._depth = stage, depth
        self.ours: list[float] = []
        self.theirs: list[float] = []
        self.wrong = 0

    def take(self, number: int) -> list[float]:
        """Return the ratios of a round; who begins changes."""
        if number % 2 and self.ours:
            theirs = self._theirs(self.ours[-1])
            ours = self._ours()
        else:
            ours = self._ours()
            theirs = self._theirs(ours[-1])
        self.ours += ours
        self.theirs += theirs
        return [mine / other for mine, other in zip(ours, theirs, strict=False)]

    def _ours(self) -> list[float]:
        made = self._stage.offer(duration_s=_LOAD_S, warm_up_s=_WARM_UP_S, connections=CONNECTIONS, depth=self._depth).recording
        self.wrong += made.failed().total()
        return [sum(count for _, count in pairs) * SECOND_NS / made.slice_ns for pairs in intervals(made, LATENCY)]

    def _theirs(self, rate_per_s: float) -> list[float]:
        return [redis_benchmark(self._stage, "get", self._depth, round(rate_per_s * _RUN_S)) for _ in range(round(_LOAD_S * 10) - 1)]


def redis_benchmark(stage: Stage, test: str, depth: int, calls: int) -> float:
    """Run redis-benchmark and return its own rate, which its start is no part of."""
    return float(redis_benchmark_row(stage, test, depth, calls)[1])


def redis_benchmark_row(stage: Stage, test: str, depth: int, calls: int) -> list[str]:
    """Run redis-benchmark on the core of the load; its row holds test, calls a second, mean, minimum, p50, p95, p99 and maximum in ms."""
    command = ["redis-benchmark", "-h", stage.config.host, "-p", str(stage.config.port), "-c", str(CONNECTIONS), "-P", str(depth)]
    command += ["-n", str(max(calls, CONNECTIONS * depth)), "-r", str(KEYS), "-d", str(SIZE_BYTES), "-t", test, "--csv"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        if stage.placement.load is not None:
            os.sched_setaffinity(process.pid, {stage.placement.load})
        try:
            output, _ = process.communicate(timeout=120)
        finally:
            process.kill()
    row = next((line for line in output.splitlines() if line.lower().startswith(f'"{test}')), None)
    if row is None:
        raise LoadError(
            f"redis-benchmark ended with status {process.returncode} and printed no rate: run it by hand, or remove it from PATH"
        )
    return row.replace('"', "").split(",")


def _claim(depth: int) -> str:
    return f"A closed loop of depth {depth} keeps {LIMITS[depth].value:g} × the rate of redis-benchmark"
