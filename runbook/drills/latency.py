"""Do basic operations answer in under a millisecond, and do a hundred callers at once get served?

Promise: the 99th percentile of GET, SET and PING at a modest rate, counted from the moment at which each call *should* have started, is
below 1 ms.
"""

import dataclasses
import uuid
from dataclasses import dataclass

from cachelib import Refused, Unavailable, connect
from runbook.drills.pool import fill_pool
from runbook.evidence import Finding, Measurement, Verdict, judge
from runbook.load import Basics, History, Outcome, run
from runbook.load.canary import Canary, split_by_stalls
from runbook.load.noise import MOST_IDLE_LATE_MS, Noise, NoiseMeter
from runbook.load.quantile import Quantile, estimate
from runbook.quiet import quiet_host
from runbook.targets import Target

THRESHOLD_MS = 1.0
JUDGED = 0.99
SHOWN = (0.5, 0.9, 0.99, 0.999)
OPERATIONS = ("GET", "SET", "PING")
WARM_UP_S = 0.5


NOTHING = History([])


@dataclass(frozen=True, slots=True)
class Result:
    """One measurement at a stated rate.

    Attributes:
        rate_per_s: operations a second that were offered, of all kinds together.
        workers: callers.
        history: every operation after the warm-up.
        noise: of the host; None where nothing is judged by it.
        findings: the claims judged.
        left_out: operations of the seconds in which the host itself stalled, and which were not judged.
    """

    rate_per_s: float
    workers: int
    history: History
    noise: Noise | None
    findings: tuple[Finding, ...]
    left_out: History = NOTHING

    @property
    def histories(self) -> dict[str, History]:
        """What was recorded, by name."""
        judged = {f"{self.workers}-callers": self.history}
        return judged | ({f"{self.workers}-callers-left-out": self.left_out} if len(self.left_out) else {})

    def latencies_ms(self, operation: str) -> list[float]:
        """Return the latencies of the successful operations of one kind, from the intended start, ascending."""
        return latencies_ms(self.history, operation)


def latencies_ms(history: History, operation: str) -> list[float]:
    """Return the latencies of the successful operations of one kind, in ms from the intended start, ascending."""
    return sorted(r.latency_ns / 1e6 for r in history if r.operation == operation and r.outcome is Outcome.OK)


def own_lateness_ms(history: History) -> list[float]:
    """Tell how late a lone sender was by itself, in ms: from when it could have sent (its moment come, its last call done), ascending."""
    late, free_ns = [], 0
    for record in history:
        late.append((record.sent_ns - max(record.intended_ns, free_ns)) / 1e6)
        free_ns = record.done_ns
    return sorted(late)


def measure(target: Target, *, rate_per_s: float, duration_s: float, longest_s: float) -> Result:
    """Offer GET, SET and PING in random order at a constant rate through one caller, and judge each at the 99th percentile.

    Seconds in which the host itself stalled, by the word of a process that only naps, are left out and counted. While one of the three
    does not pass, more samples are taken.

    Args:
        target: which server.
        rate_per_s: operations a second, of all three together.
        duration_s: seconds of load that count, after a warm-up of half a second; each time more samples are taken, as many again.
        longest_s: seconds of load at the most.
    """
    recorded = history = left_out = NOTHING
    with quiet_host(), Canary() as canary:
        meter = NoiseMeter()
        try:
            for _ in range(max(1, round(longest_s / duration_s))):
                meter.nap()
                more = _offer(target, rate_per_s=rate_per_s, workers=1, duration_s=duration_s, spin=True)
                recorded = History([*recorded, *more])
                history, left_out = split_by_stalls(recorded, canary.overslept())
                noise = meter.read()
                findings = tuple(judge_latency(history, operation, noise, len(left_out)) for operation in OPERATIONS)
                # A host can make a server look slow, but never fast: so PASS may come early, and FAIL only at the end.
                if all(finding.verdict is Verdict.PASS for finding in findings) or recorded.count(Outcome.OK) < len(recorded):
                    break
        except (Unavailable, Refused) as error:
            findings = tuple(Finding("P-2", _claim(operation), Verdict.INCONCLUSIVE, str(error)) for operation in OPERATIONS)
            noise = meter.read()
    return Result(rate_per_s, 1, history, noise, findings, left_out)


def measure_callers(target: Target, *, callers: int, rate_per_s: float, duration_s: float) -> Result:
    """Offer the same load through many callers, a thread and a connection each, and judge that every one is served.

    Args:
        target: which server.
        callers: how many.
        rate_per_s: operations a second, of all callers together.
        duration_s: seconds of load that count.
    """
    with quiet_host():
        try:
            busy, _ = fill_pool(target.config, callers)
            history = _offer(target, rate_per_s=rate_per_s, workers=callers, duration_s=duration_s, spin=False)
        except (Unavailable, Refused) as error:
            finding = Finding("P-1", _callers_claim(callers), Verdict.INCONCLUSIVE, str(error))
            return Result(rate_per_s, callers, History([]), None, (finding,))
    return Result(rate_per_s, callers, history, None, (judge_callers(history, callers, busy),))


def judge_latency(history: History, operation: str, noise: Noise, left_out: int = 0) -> Finding:
    """Judge the 99th percentile of one operation: PASS or FAIL only where its whole confidence interval lies on one side."""

    def compare() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        samples = latencies_ms(history, operation)
        failed = sum(record.operation == operation and record.outcome is not Outcome.OK for record in history)
        estimates = {p: estimate(samples, p) for p in SHOWN}
        judged = estimates[JUDGED]
        late = estimate(own_lateness_ms(history), JUDGED)
        measured = (
            *(_measurement(operation, p, estimates[p], len(samples)) for p in (JUDGED, 0.5, 0.9, 0.999)),
            Measurement(f"{operation} maximum", round(samples[-1], 3) if samples else None, "ms", len(samples)),
            Measurement("own sender late, p99", round(late.value, 3) if late else None, "ms", len(history)),
            Measurement("idle thread late, p99", round(noise.idle_late_ms_p99, 3), "ms"),
            Measurement("busy with other processes", None if noise.cpus_of_others is None else round(noise.cpus_of_others, 2), "CPUs"),
            Measurement("left out, as the host stalled", left_out, "calls", len(history) + left_out),
            Measurement(f"{operation} failed", failed, "calls", len(samples) + failed, "= 0"),
        )
        if failed:
            first = next(r.error for r in history if r.operation == operation and r.outcome is not Outcome.OK)
            return Verdict.FAIL, f"{failed} of {failed + len(samples)} {operation} failed, first: {first}", measured
        stalls = [f"the host stalled during {left_out} of {len(history) + left_out} calls"] if left_out else []
        if judged is None or late is None:
            too_few = f"{len(samples)} samples are too few for p99: measure for longer"
            return Verdict.INCONCLUSIVE, "; ".join([too_few, *stalls]), measured
        if judged.high < THRESHOLD_MS:
            return Verdict.PASS, "", measured
        doubts = list(noise.doubts)
        if late.value > MOST_IDLE_LATE_MS:
            doubts.append(f"our own sender was {late.value:.2f} ms late at p99 (limit {MOST_IDLE_LATE_MS} ms)")
        interval = f"p99 of {operation} is {judged.value:.2f} ms, 99 % confidence {judged.low:.2f} to {judged.high:.2f}"
        if doubts:
            return Verdict.INCONCLUSIVE, f"{interval}; {'; '.join(doubts)}", measured
        if judged.low >= THRESHOLD_MS:
            return Verdict.FAIL, interval, measured
        return Verdict.INCONCLUSIVE, f"{interval}: the limit lies within", measured

    return judge("P-2", _claim(operation), compare)


def judge_callers(history: History, callers: int, busy: int) -> Finding:
    """Judge that the server saw all callers at once, and that each was served without an error."""

    def compare() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        failed = [record for record in history if record.outcome is not Outcome.OK]
        served = {record.worker for record in history if record.outcome is Outcome.OK}
        samples = sorted(record.latency_ns / 1e6 for record in history)
        p50, p99 = estimate(samples, 0.5), estimate(samples, JUDGED)
        measured = (
            Measurement("connections busy at once", busy, "connections", None, f"= {callers}"),
            Measurement("callers served", len(served), "callers", callers, f"= {callers}"),
            Measurement("failed", len(failed), "calls", len(history), "= 0"),
            Measurement("p50 of all calls", round(p50.value, 3) if p50 else None, "ms", len(history)),
            Measurement("p99 of all calls", round(p99.value, 3) if p99 else None, "ms", len(history)),
        )
        if busy != callers:
            return Verdict.FAIL, f"the server saw {busy} of {callers} connections at once", measured
        if failed:
            return Verdict.FAIL, f"{len(failed)} of {len(history)} calls failed, first: {failed[0].error}", measured
        if len(served) < callers:
            return Verdict.INCONCLUSIVE, f"only {len(served)} of {callers} callers had a turn: measure for longer", measured
        return Verdict.PASS, "", measured

    return judge("P-1", _callers_claim(callers), compare)


def _claim(operation: str) -> str:
    return f"The 99th percentile of {operation} is below {THRESHOLD_MS:g} ms"


def _callers_claim(callers: int) -> str:
    return f"{callers} callers hold {callers} connections at once, and each is served"


def _offer(target: Target, *, rate_per_s: float, workers: int, duration_s: float, spin: bool) -> History:
    workload = Basics(prefix=f"runbook:latency:{uuid.uuid4().hex}:")
    with connect(dataclasses.replace(target.config, pool_size=workers)) as client:
        workload.load(client)
        try:
            run(client, workload, rate_per_s=rate_per_s, workers=workers, duration_s=WARM_UP_S)
            return run(client, workload, rate_per_s=rate_per_s, workers=workers, duration_s=duration_s, spin=spin)
        finally:
            workload.unload(client)


def _measurement(operation: str, p: float, quantile: Quantile | None, samples: int) -> Measurement:
    threshold = f"< {THRESHOLD_MS:g} ms" if p == JUDGED else ""
    return Measurement(f"{operation} p{p * 100:g}", round(quantile.value, 3) if quantile else None, "ms", samples, threshold)
