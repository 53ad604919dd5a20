"""Holds the latencies that the engine reports against delays that the server knows, interval by interval."""

import math
import os
import statistics
from collections.abc import Sequence

from cachelib import Config
from runbook.drills.engine_bench.part import Budget, Part, Row, interval, intervals, judge_values, numbered_intervals
from runbook.drills.paired_limit import Limit
from runbook.drills.stage import Stage
from runbook.load.bare_loop import BareLoop, bare_loop
from runbook.load.known_delays import KINDS, Delays, Truth, slow_server
from runbook.load.recording import LATENCY, Recording
from runbook.load.traffic import Traffic

# In each interval no quantile may be shorter than the truth by more than the first of these, and the mean not longer by more than the
# second; or by `MOST_OFF` of the truth where that is more. The mean may also be longer by so many times what undelayed calls cost.
MOST_SHORT_MS, MOST_LONG_MS, MOST_OFF, COSTS = 0.03, 0.1, 0.03, 3
LIMIT = Limit("error", 1.0, "of what is allowed", at_most=True)
# What a call costs that is answered at once, against a bare loop of such calls on one connection at the same rate.
COST_LIMIT = Limit("time of an undelayed call", 4.0, at_most=True)
COST_CLAIM = f"A call that is answered at once takes at most {COST_LIMIT.value:g} × what it takes a bare loop"
TRAFFIC = Traffic("", {"PING": 1, "ECHO": 1}, {1: 1})
# So few that server and engine sleep most of the time: a process that rarely runs gets its core at once where others compute.
RATE_PER_S, CONNECTIONS, _LOAD_S, _BARE_S = 2000, 64, 1.0, 0.4


def known_delays(stage: Stage, budget: Budget) -> Part:
    """Measure each kind of delays; then what calls cost that are answered at once, which the first comparison leaves out."""
    with bare_loop(stage.placement.load) as bare:
        costs: list[float] = []
        for kind in KINDS:
            sampler = DelaySampler(stage, bare, kind)
            values = budget.sample(sampler.take, LIMIT)
            claim = f"{kind.capitalize()} delays come out as the server knows them"
            shown = f"{interval(values, LIMIT.unit)}; {sampler.shown}"
            yield Row(f"{kind} delays", "runbook", shown, str(LIMIT)), judge_values(claim, LIMIT, values, sampler.wrong)
            costs += sampler.costs
        row = Row("calls that are answered at once", "runbook", interval(costs, COST_LIMIT.unit), str(COST_LIMIT))
        yield row, judge_values(COST_CLAIM, COST_LIMIT, costs, 0)


class DelaySampler:
    """Runs a slow server again and again, for a bare loop and for a load of the engine."""

    def __init__(self, stage: Stage, bare: BareLoop, kind: str) -> None:
        self._stage, self._bare, self._kind = stage, bare, kind
        self.costs: list[float] = []
        self.shown, self.wrong = "", 0

    def take(self, number: int) -> list[float]:
        """Return the error of each interval of a load."""
        with slow_server(self._kind) as slow:
            if self._stage.placement.server is not None:
                os.sched_setaffinity(slow.pid, {self._stage.placement.server})
            bare_us = self._bare.ask("echo", slow.port, RATE_PER_S, _BARE_S)
            config = Config(host="127.0.0.1", port=slow.port)
            load = {"rate_per_s": RATE_PER_S, "connections": CONNECTIONS, "spin": False, "warm_up_s": 0.0}
            made = self._stage.offer_to(config, TRAFFIC, duration_s=_LOAD_S, **load)
            truth = slow.end()
        self.wrong += wrong_calls(made, truth, len(bare_us))
        self.costs += _costs(made, bare_us)
        self.shown = _shown(made, truth)
        return interval_errors(made, truth)


def wrong_calls(made: Recording, truth: Truth, bare_calls: int = 0) -> int:
    """Count calls that failed, or that only one of engine and server knows of."""
    missing = abs(made.count("PING") - len(truth.pings)) + abs(made.count("ECHO") + bare_calls - len(truth.echoes))
    return made.failed().total() + missing


def interval_errors(made: Recording, truth: Truth) -> list[float]:
    """Return the error of each interval, as a multiple of what is allowed.

    Whatever a host does makes a call longer and never shorter, so quantiles of the engine must not lie below those of the server. What its
    mean exceeds the server's by must be no more than a few times what it does for ECHO, whose calls lie among the others: a reply that
    wakes the engine costs more than one that comes while it is awake. Means add up, and quantiles don't where a host stalls.
    """
    echoes = numbered_intervals(made, LATENCY, "ECHO")
    errors = []
    for number, pairs in numbered_intervals(made, LATENCY, "PING").items():
        found = _expanded_ms(pairs)
        true, true_echo = (_within_ms(delays, number, made.slice_ns) for delays in (truth.pings, truth.echoes))
        if number not in echoes or not true or not true_echo:
            continue
        short = max((_at(true, p) - _at(found, p)) / max(MOST_OFF * _at(true, p), MOST_SHORT_MS) for p in (0.5, 0.9, 0.99))
        cost_ms = _mean_ms(echoes[number]) - statistics.fmean(true_echo)
        allowed_ms = max(MOST_OFF * statistics.fmean(true), MOST_LONG_MS) + COSTS * cost_ms
        errors.append(max(short, (statistics.fmean(found) - statistics.fmean(true)) / allowed_ms))
    return errors


def _costs(made: Recording, bare_us: Sequence[float]) -> list[float]:
    """Return how many times as long as in a part of the bare loop's calls an ECHO took in each interval."""
    ours_ms = [_mean_ms(pairs) for pairs in intervals(made, LATENCY, "ECHO")]
    size = len(bare_us) // len(ours_ms)
    return [1e3 * ms / statistics.fmean(bare_us[size * part : size * (part + 1)]) for part, ms in enumerate(ours_ms)]


def _shown(made: Recording, truth: Truth) -> str:
    """Say what the last load came to, for the reader."""
    found, true = made.histogram(operation="PING"), sorted(waited_ns / 1e6 for _, waited_ns in truth.pings)
    return ", ".join(f"p{p * 100:g} {_at(found, p):.3f} of {_at(true, p):.3f} ms" for p in (0.5, 0.99))


def _within_ms(delays: Delays, number: int, slice_ns: int) -> list[float]:
    return sorted(waited_ns / 1e6 for read_ns, waited_ns in delays if read_ns // slice_ns == number)


def _expanded_ms(pairs: Sequence[tuple[int, int]]) -> list[float]:
    return sorted(us / 1e3 for us, count in pairs for _ in range(count))


def _mean_ms(pairs: Sequence[tuple[int, int]]) -> float:
    return sum(us * count for us, count in pairs) / 1e3 / sum(count for _, count in pairs)


def _at(ordered: Sequence[float], p: float) -> float:
    return ordered[max(0, math.ceil(len(ordered) * p) - 1)]
