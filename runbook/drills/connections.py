"""Are a hundred connections at once served: by one pool of the client, at a stated rate, and with all of them busy?

Promise: one client holds a hundred connections at once and serves a hundred callers; over a hundred connections every call at a stated rate
is answered, at most 1 % of them over 1 ms beyond the control; in a closed loop, which shows the server's capacity and is not held against a
latency, every call is answered as well.
"""

import dataclasses
import uuid
from dataclasses import dataclass
from typing import Any

import redis

from cachelib import connect
from runbook.drills.latency import OPERATIONS
from runbook.drills.pool import fill_pool
from runbook.drills.sampling import LOOKS, MOST_OVER, THRESHOLD_MS, judge_excess, measured_excess, sampled
from runbook.drills.stage import WARM_UP_S, staged
from runbook.evidence import Finding, Measurement, Verdict, judge
from runbook.load import Basics, History, Outcome, run
from runbook.load.estimates import JUDGED, contradicts_little, estimated
from runbook.load.excess import excess_over
from runbook.load.offered import Offered
from runbook.load.sockets import LoadError
from runbook.load.traffic import Traffic
from runbook.targets import Target

CALLERS_RATE_PER_S = 500
# Seconds of load at the stated rate at most; it is looked at after a quarter.
RATED_S = 10.0


@dataclass(frozen=True, slots=True)
class Result:
    """A hundred at once.

    Attributes:
        connections: how many at once.
        offered: the loads and what they measured: `at the stated rate`, `at saturation`, `callers of one client`.
        calls: every call of the callers of one client.
        findings: the claims judged.
    """

    connections: int
    offered: dict[str, Offered]
    calls: History
    findings: tuple[Finding, ...]

    @property
    def histories(self) -> dict[str, History]:
        """What was recorded call by call, by name."""
        return {f"{self.connections}-callers": self.calls}

    @property
    def loads(self) -> dict[str, Offered]:
        """What was measured, by name."""
        return {f"connections-{name.replace(' ', '-')}": offered for name, offered in self.offered.items()}


RATED, SATURATED, CALLERS = "at the stated rate", "at saturation", "callers of one client"


def measure(target: Target, *, connections: int, rate_per_s: float, duration_s: float) -> Result:
    """Keep many connections at once.

    Args:
        target: which server.
        connections: how many.
        rate_per_s: calls a second over all of them, which come independently of each other (Poisson).
        duration_s: seconds of each load.
    """
    traffic = Traffic(f"runbook:connections:{uuid.uuid4().hex}:", dict.fromkeys(OPERATIONS, 1.0))
    offered: dict[str, Offered] = {}
    try:
        with staged(target, traffic) as stage:
            rated: dict[str, Any] = {"rate_per_s": rate_per_s, "connections": connections, "arrivals": "poisson"}
            with stage.controlled() as controlled:
                offered[RATED] = sampled(
                    lambda seconds: controlled.offer(duration_s=seconds, **rated), lambda load: [judge_rated(load)], RATED_S
                )
            offered[SATURATED] = stage.offer(duration_s=duration_s, connections=connections)
        busy, _ = fill_pool(target.config, connections)
        calls = _call_as_many(target, connections, duration_s)
    except (LoadError, redis.RedisError) as error:
        claims = (_callers_claim(connections), _rated_claim(connections, rate_per_s), _saturated_claim(connections))
        findings = tuple(Finding("P-1", claim, Verdict.INCONCLUSIVE, str(error)) for claim in claims)
        return Result(connections, offered, History([]), findings)
    findings = (
        judge_callers(calls, connections, busy),
        judge_rated(offered[RATED]),
        judge_served(offered[SATURATED], _saturated_claim(connections)),
    )
    return Result(connections, offered, calls, findings)


def judge_rated(offered: Offered) -> Finding:
    """Judge that every call at the stated rate was answered, and that at most 1 % were over the limit beyond the control."""
    claim = _rated_claim(offered.description["connections"], offered.description["rate_per_s"])
    excess, served = excess_over(offered.recording, THRESHOLD_MS, looks=len(LOOKS)), judge_served(offered, claim)
    measured = (*measured_excess(excess, "calls", offered.recording.count()), *served.measured)
    if served.verdict is not Verdict.PASS:
        return dataclasses.replace(served, measured=measured)
    if excess is None:
        reason = f"{offered.recording.count()} calls are too few: measure for longer"
        return Finding("P-1", claim, Verdict.INCONCLUSIVE, reason, measured)
    return Finding("P-1", claim, *judge_excess(excess, "all calls"), measured)


def judge_served(offered: Offered, claim: str) -> Finding:
    """Judge that every call was answered; percentiles and rate are shown beside it."""

    def compare() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        made, samples = offered.recording, offered.histogram()
        failures, p99 = made.failed(), estimated(offered, None, JUDGED)
        measured = (
            Measurement("failed", failures.total(), "calls", made.sent + made.unsent, "= 0"),
            Measurement("rate", round(made.rate_per_s), "calls/s", made.count()),
            Measurement("p99 of all calls", round(p99.value, 3) if p99 else None, "ms", len(samples)),
            Measurement("maximum", round(samples[-1], 3) if len(samples) else None, "ms", len(samples)),
            Measurement("connections lost", made.lost, "connections", None, "= 0"),
        )
        if failures or made.lost:
            first = next(iter(failures), "a connection was closed")
            return Verdict.FAIL, f"{failures.total()} of {made.sent + made.unsent} calls failed, first: {first}", measured
        if not made.count():
            return Verdict.INCONCLUSIVE, "no call was made: measure for longer", measured
        if doubt := contradicts_little(offered):
            return Verdict.INCONCLUSIVE, doubt, measured
        return Verdict.PASS, "", measured

    return judge("P-1", claim, compare)


def judge_callers(history: History, callers: int, busy: int) -> Finding:
    """Judge that the server saw all callers at once, and that each was served without an error."""

    def compare() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        failed = [record for record in history if record.outcome is not Outcome.OK]
        served = {record.worker for record in history if record.outcome is Outcome.OK}
        measured = (
            Measurement("connections busy at once", busy, "connections", None, f"= {callers}"),
            Measurement("callers served", len(served), "callers", callers, f"= {callers}"),
            Measurement("failed", len(failed), "calls", len(history), "= 0"),
        )
        if busy != callers:
            return Verdict.FAIL, f"the server saw {busy} of {callers} connections at once", measured
        if failed:
            return Verdict.FAIL, f"{len(failed)} of {len(history)} calls failed, first: {failed[0].error}", measured
        if len(served) < callers:
            return Verdict.INCONCLUSIVE, f"only {len(served)} of {callers} callers had a turn: measure for longer", measured
        return Verdict.PASS, "", measured

    return judge("P-1", _callers_claim(callers), compare)


def _call_as_many(target: Target, callers: int, duration_s: float) -> History:
    workload = Basics(prefix=f"runbook:connections:{uuid.uuid4().hex}:")
    with connect(dataclasses.replace(target.config, pool_size=callers)) as client:
        workload.load(client)
        try:
            run(client, workload, rate_per_s=CALLERS_RATE_PER_S, workers=callers, duration_s=WARM_UP_S)
            return run(client, workload, rate_per_s=CALLERS_RATE_PER_S, workers=callers, duration_s=duration_s)
        finally:
            workload.unload(client)


def _callers_claim(callers: int) -> str:
    return f"{callers} callers of one client hold {callers} connections at once, and each is served"


def _rated_claim(connections: int, rate_per_s: float) -> str:
    return f"{connections} connections at {rate_per_s:g} calls a second: each is answered, at most {MOST_OVER:.0%} over {THRESHOLD_MS:g} ms"


def _saturated_claim(connections: int) -> str:
    return f"{connections} connections that are all kept busy: every call is answered"
