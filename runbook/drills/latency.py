"""Do basic operations answer in under a millisecond?

Promise: at a modest rate, at most 1 % of GET, SET and PING take over 1 ms from the moment at which each should have been sent: over bare
connections, and through the client library. What the host does to every process on it is taken off, by a control: a server without a
database that gets the same load, interleaved call by call.
"""

import dataclasses
import uuid
from collections import Counter
from dataclasses import dataclass
from typing import Any

import redis

from runbook.drills.attribution import Layers, take_apart
from runbook.drills.sampling import LOOKS, MOST_OVER, THRESHOLD_MS, judge_excess, measured_excess, sampled
from runbook.drills.stage import server_pid, staged
from runbook.evidence import Finding, Measurement, Verdict, judge
from runbook.load import History
from runbook.load.estimates import JUDGED, contradicts_little
from runbook.load.excess import FEWEST_BLOCKS, excess_over
from runbook.load.histogram import Histogram
from runbook.load.offered import Offered
from runbook.load.pacer import check_duration, check_rate
from runbook.load.quantile import estimate
from runbook.load.recording import LATE
from runbook.load.server_time import ServerTimeMeter
from runbook.load.side import UNSENT
from runbook.load.sockets import LoadError
from runbook.load.steal import StealMeter
from runbook.load.traffic import Traffic
from runbook.load.watch import Watch
from runbook.targets import Target

OPERATIONS = ("GET", "SET", "PING")
BARE, CLIENT = "bare connections", "cachelib"


@dataclass(frozen=True, slots=True)
class Result:
    """One measurement at a stated rate.

    Attributes:
        offered: the loads and what they measured, by what carried them: `bare connections`, `cachelib`; empty if none could be offered.
        findings: the claims judged.
        layers: where the time went, by operation and percentile.
        unwatched: what of the server could not be watched meanwhile, in words.
        stolen: share of CPU time that the hypervisor took meanwhile; None where the system does not tell.
    """

    offered: dict[str, Offered]
    findings: tuple[Finding, ...]
    layers: tuple[Layers, ...] = ()
    unwatched: tuple[str, ...] = ()
    stolen: float | None = None

    @property
    def histories(self) -> dict[str, History]:
        """None: histograms are kept instead."""
        return {}

    @property
    def loads(self) -> dict[str, Offered]:
        """What was measured, by name."""
        return {f"modest-rate-{name.replace(' ', '-')}": offered for name, offered in self.offered.items()}


def measure(target: Target, *, rate_per_s: float, connections: int = 10, duration_s: float = 25.0, size_bytes: int = 64) -> Result:
    """Offer GET, SET and PING in random order at a constant rate, and judge how many of each are over the limit.

    Sampling ends when every claim is decided, which is looked at three times (`LOOKS`).

    Args:
        target: which server.
        rate_per_s: operations a second, of all three together.
        connections: over how many they are sent.
        duration_s: seconds of load at most, over bare connections and then through the client library.
        size_bytes: length of the values.

    Raises:
        ValueError: one of the numbers is impossible.
    """
    traffic = Traffic(f"runbook:latency:{uuid.uuid4().hex}:", dict.fromkeys(OPERATIONS, 1.0), {size_bytes: 1.0})
    check_rate(rate_per_s)
    check_duration(duration_s)
    offered: dict[str, Offered] = {}
    steal = StealMeter()
    try:
        with (
            staged(target, traffic) as stage,
            stage.controlled() as controlled,
            Watch(target.config, own=server_pid(target) is not None) as watch,
        ):
            server_time = ServerTimeMeter(target.config)
            bare: dict[str, Any] = {"rate_per_s": rate_per_s, "connections": connections}
            through: dict[str, Any] = {"rate_per_s": rate_per_s, "size_bytes": size_bytes}
            offered[BARE] = sampled(lambda seconds: controlled.offer(duration_s=seconds, **bare), _judge_bare, duration_s)
            offered[CLIENT] = sampled(lambda seconds: stage.through_client(duration_s=seconds, **through), _judge_client, duration_s)
            spent = server_time.read()
    except (LoadError, redis.RedisError) as error:
        return _interrupted(offered, error, steal.share())
    offered = {name: dataclasses.replace(load, marks=watch.marks) for name, load in offered.items()}
    commands = spent.commands if spent else {}
    layers = (
        take_apart(
            operation,
            p,
            bare=offered[BARE],
            client=offered[CLIENT],
            command_us=commands[operation.lower()].percentile_us(p) if operation.lower() in commands else None,
        )
        for operation in OPERATIONS
        for p in (0.5, JUDGED)
    )
    stolen = steal.share()
    findings = (*_judge_bare(offered[BARE], stolen), *_judge_client(offered[CLIENT], stolen))
    return Result(offered, findings, tuple(layer for layer in layers if layer), (*watch.unwatched, *server_time.unread), stolen)


def _interrupted(offered: dict[str, Offered], error: Exception, stolen: float | None) -> Result:
    """Judge a load that could not be offered, or not to its end."""
    if BARE in offered and offered[BARE].recording.errors:  # the server went away under the load that is judged
        left = Finding("P-2", CLIENT_CLAIM, Verdict.INCONCLUSIVE, str(error))
        return Result(offered, (*_judge_bare(offered[BARE], stolen), left))
    claims = [*map(_claim, OPERATIONS), CLIENT_CLAIM]
    # A server too full for a thousand small keys answers no SET; any other reason leaves open how it would answer.
    verdict = Verdict.FAIL if isinstance(error.__cause__, redis.OutOfMemoryError) else Verdict.INCONCLUSIVE
    return Result({}, tuple(Finding("P-2", claim, verdict, str(error)) for claim in claims))


def _judge_bare(load: Offered, stolen: float | None = None) -> tuple[Finding, ...]:
    return tuple(judge_latency(load, operation, stolen) for operation in OPERATIONS)


def _judge_client(load: Offered, stolen: float | None = None) -> tuple[Finding, ...]:
    return (judge_client(load, stolen),)


def judge_latency(offered: Offered, operation: str, stolen: float | None = None) -> Finding:
    """Judge one operation over bare connections; `stolen` is the share of CPU time that the hypervisor took meanwhile."""
    return judge("P-2", _claim(operation), lambda: _compare(offered, operation, stolen))


def judge_client(offered: Offered, stolen: float | None = None) -> Finding:
    """Judge all operations through the client library."""
    return judge("P-2", CLIENT_CLAIM, lambda: _compare(offered, None, stolen))


def _compare(offered: Offered, operation: str | None, stolen: float | None) -> tuple[Verdict, str, tuple[Measurement, ...]]:
    """Decide: PASS or FAIL only where the whole interval of the excess lies on one side of the limit."""
    name, made = operation or "all operations", offered.recording
    excess = excess_over(made, THRESHOLD_MS, operation, looks=len(LOOKS))
    failures = made.failed(operation) + (made.failed("") if operation else Counter())
    failed, above = failures.total(), made.histogram(operation=operation).out_of_range
    calls = made.count(operation) + failed
    measured = (
        *measured_excess(excess, name, calls),
        *_seen(name, made.histogram(operation=operation)),
        *(_seen("control", made.control.histogram(operation=operation)) if made.control else ()),
        Measurement("taken off by the control", offered.description.get("control")),
        Measurement("own sender late, p99", _quantile_ms(made.histogram(LATE, operation), JUDGED), "ms", calls),
        Measurement("CPU time taken by the hypervisor", None if stolen is None else round(100 * stolen, 1), "%"),
        Measurement("above 60 s", above, "calls", calls, "= 0"),
        Measurement("connections lost", made.lost, "connections", None, "= 0"),
        Measurement(f"{name} failed", failed, "calls", calls, "= 0"),
    )
    if failed and failed == failures[UNSENT] and made.control and made.control.unsent:
        return Verdict.INCONCLUSIVE, f"{failed} {name} were never sent, and {made.control.unsent} calls to the control neither", measured
    if made.lost and not failed:
        return Verdict.FAIL, f"{made.lost} connections were closed under load", measured
    if failed or above:
        first = next(iter(failures), "a latency above 60 s")
        return Verdict.FAIL, f"{failed + above} of {calls} {name} failed, first: {first}", measured
    if excess is None:
        reason = f"{calls} calls are too few: measure for at least {FEWEST_BLOCKS * 0.25:g} s" if made.control else "there was no control"
        return Verdict.INCONCLUSIVE, reason, measured
    if doubt := contradicts_little(offered):
        return Verdict.INCONCLUSIVE, doubt, measured
    verdict, reason = judge_excess(excess, name)
    return verdict, reason, measured


def _seen(name: str, samples: Histogram) -> tuple[Measurement, ...]:
    """Give what a caller on this host saw."""
    quantiles = (Measurement(f"{name} p{p * 100:g}", _quantile_ms(samples, p), "ms", len(samples)) for p in (0.5, JUDGED, 0.999))
    return (*quantiles, Measurement(f"{name} maximum", round(samples[-1], 3) if len(samples) else None, "ms", len(samples)))


def _quantile_ms(samples: Histogram, p: float) -> float | None:
    found = estimate(samples, p)
    return round(found.value, 3) if found else None


def _claim(operation: str) -> str:
    return f"At most {MOST_OVER:.0%} of {operation} take over {THRESHOLD_MS:g} ms, what the host does taken off"


CLIENT_CLAIM = (
    f"At most {MOST_OVER:.0%} of the calls through the client library take over {THRESHOLD_MS:g} ms, what the host does taken off"
)
