"""Do basic operations answer in under a millisecond?

Promise: the 99th percentile of GET, SET and PING at a modest rate, counted from the moment at which each call *should* have been sent, is
below 1 ms: over bare connections, and through the client library.
"""

import dataclasses
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import redis

from runbook.drills.attribution import Layers, take_apart
from runbook.drills.stage import server_pid, staged
from runbook.evidence import Finding, Measurement, Verdict, judge
from runbook.load import History
from runbook.load.canary import Canary, sleep_jitter, stalled_seconds
from runbook.load.echo import echo_server
from runbook.load.estimates import JUDGED, contradicts_little, estimated
from runbook.load.noise import Noise, NoiseMeter
from runbook.load.offered import Mark, Offered
from runbook.load.open_loop import UNSENT
from runbook.load.pacer import check_duration, check_rate
from runbook.load.quantile import Quantile, estimate
from runbook.load.recording import LATE, SECOND_NS, Recording, together
from runbook.load.server_time import ServerTimeMeter
from runbook.load.sockets import LoadError
from runbook.load.traffic import Traffic
from runbook.load.watch import Watch
from runbook.targets import Target

THRESHOLD_MS = 1.0
OPERATIONS = ("GET", "SET", "PING")
# A sender that is later than a quarter of the limit by itself colours the percentile in question.
MOST_LATE_MS = THRESHOLD_MS / 4
# A server that itself uses more than half of a core may be what keeps the canary from waking: then nothing is excused.
MOST_SERVER_BUSY = 0.5
# Marks of what a server does in a process of its own, on our host.
FORKING = ("fork", "rewrite", "snapshot")
# Seconds of what is measured beside the load over bare connections: the floors once, as they are not judged; the client in its looks.
JITTER_S, ECHO_S, CLIENT_S = 1.2, 1.0, 4.0
BARE, CLIENT = "bare connections", "cachelib"


@dataclass(frozen=True, slots=True)
class Result:
    """One measurement at a stated rate.

    Attributes:
        offered: the loads and what they measured, by what carried them: `bare connections`, `cachelib`; empty if none could be offered.
        findings: the claims judged.
        layers: where the time went, by operation and percentile.
        unwatched: what of the server could not be watched meanwhile, in words.
    """

    offered: dict[str, Offered]
    findings: tuple[Finding, ...]
    layers: tuple[Layers, ...] = ()
    unwatched: tuple[str, ...] = ()

    @property
    def histories(self) -> dict[str, History]:
        """None: histograms are kept instead."""
        return {}

    @property
    def loads(self) -> dict[str, Offered]:
        """What was measured, by name."""
        return {f"modest-rate-{name.replace(' ', '-')}": offered for name, offered in self.offered.items()}


@dataclass(slots=True)
class _Looks:
    """What all looks so far have measured."""

    bare: list[Offered] = field(default_factory=list)
    client: list[Recording] = field(default_factory=list)


def measure(
    target: Target, *, rate_per_s: float, connections: int = 10, duration_s: float, longest_s: float, size_bytes: int = 64
) -> Result:
    """Offer GET, SET and PING in random order at a constant rate, and judge each at the 99th percentile.

    Seconds in which the host itself stalled, by the word of a process that only naps, are left out and counted. Of what does not pass, more
    samples are taken.

    Args:
        target: which server.
        rate_per_s: operations a second, of all three together.
        connections: over how many they are sent.
        duration_s: seconds of load that count; each time more samples are taken, as many again.
        longest_s: seconds of load at the most.
        size_bytes: length of the values.

    Raises:
        ValueError: one of the numbers is impossible.
    """
    traffic = Traffic(f"runbook:latency:{uuid.uuid4().hex}:", dict.fromkeys(OPERATIONS, 1.0), {size_bytes: 1.0})
    check_rate(rate_per_s)
    check_duration(duration_s)
    looks, meter = _Looks(), NoiseMeter(server_pid(target))
    try:
        with (
            staged(target, traffic) as stage,
            echo_server(stage.placement.server) as echo,
            Watch(target.config, own=server_pid(target) is not None) as watch,
            Canary() as canary,
        ):
            server_time = ServerTimeMeter(target.config)
            jitter = sleep_jitter(JITTER_S, stage.placement.load)
            echoed = stage.offer_to(echo, _echoes(size_bytes), duration_s=ECHO_S, rate_per_s=rate_per_s, connections=connections)
            undecided = {BARE, CLIENT}
            for _ in range(max(1, round(longest_s / duration_s))):
                meter.nap()
                if BARE in undecided:
                    looks.bare.append(stage.offer(duration_s=duration_s, rate_per_s=rate_per_s, connections=connections))
                if CLIENT in undecided:
                    looks.client.append(stage.through_client(rate_per_s=rate_per_s, duration_s=CLIENT_S))
                offered = _merged(looks, excused(canary.overslept(), watch.server_busy, watch.marks), rate_per_s)
                judged = _judge_all(offered, meter.read())
                # A host can make a server look slow, but never fast: so PASS may come early, and FAIL only at the end.
                undecided = {name for name, found in judged.items() if any(finding.verdict is not Verdict.PASS for finding in found)}
                if not undecided or any(load.recording.errors for load in offered.values()):
                    break
            spent = server_time.read()
    except (LoadError, redis.RedisError) as error:
        if looks.bare and looks.bare[-1].recording.errors:  # it went away under the load that is judged
            made = Offered(looks.bare[0].description, together(look.recording for look in looks.bare))
            bare = [judge_latency(made, operation, meter.read()) for operation in OPERATIONS]
            return Result({BARE: made}, (*bare, Finding("P-2", CLIENT_CLAIM, Verdict.INCONCLUSIVE, str(error))))
        claims = [_claim(operation) for operation in OPERATIONS] + [CLIENT_CLAIM]
        # A server too full for a thousand small keys answers no SET; any other reason leaves open how it would answer.
        verdict = Verdict.FAIL if isinstance(error.__cause__, redis.OutOfMemoryError) else Verdict.INCONCLUSIVE
        return Result({}, tuple(Finding("P-2", claim, verdict, str(error)) for claim in claims))
    offered = {name: dataclasses.replace(load, marks=watch.marks) for name, load in offered.items()}
    commands = spent.commands if spent else {}
    layers = (
        take_apart(
            operation,
            p,
            jitter=jitter,
            echo=Offered({}, echoed, offered[BARE].stalled),
            bare=offered[BARE],
            client=offered[CLIENT],
            command_us=commands[operation.lower()].percentile_us(p) if operation.lower() in commands else None,
        )
        for operation in OPERATIONS
        for p in (0.5, JUDGED)
    )
    findings = (*judged[BARE], *judged[CLIENT])
    return Result(offered, findings, tuple(layer for layer in layers if layer), (*watch.unwatched, *server_time.unread))


def excused(overslept: list[tuple[int, int]], server_busy: float | None, marks: Sequence[Mark] = ()) -> frozenset[int]:
    """Tell which seconds are not judged, since the host stalled in them; none of those in which the server may be the cause.

    Args:
        overslept: naps of the canary that ended late, as it tells them.
        server_busy: share of a core that the server used; None where that is not known.
        marks: what happened to the server; it forks processes that keep a core busy.
    """
    if (server_busy or 0.0) > MOST_SERVER_BUSY:
        return frozenset()
    forked = [mark for mark in marks if any(word in mark.what for word in FORKING)]
    own = {second for mark in forked for second in range(mark.at_ns // SECOND_NS, (mark.at_ns + mark.took_ns) // SECOND_NS + 1)}
    return stalled_seconds(overslept) - own


def judge_latency(offered: Offered, operation: str, noise: Noise) -> Finding:
    """Judge the 99th percentile of one operation over bare connections."""
    return judge("P-2", _claim(operation), lambda: _compare(offered, operation, noise))


def judge_client(offered: Offered, noise: Noise) -> Finding:
    """Judge the 99th percentile of all operations through the client library."""
    return judge("P-2", CLIENT_CLAIM, lambda: _compare(offered, None, noise))


def _compare(offered: Offered, operation: str | None, noise: Noise) -> tuple[Verdict, str, tuple[Measurement, ...]]:
    """Decide: PASS or FAIL only where the whole interval lies on one side."""
    name, left_out = operation or "all operations", offered.left_out
    samples, late = offered.histogram(operation), estimate(offered.histogram(operation, LATE), JUDGED)
    made = offered.recording
    failures = made.failed(operation) + (made.failed("") if operation else Counter())
    failed, unsent = failures.total(), failures[UNSENT]
    judged = estimated(offered, operation, JUDGED)
    calls = len(samples) + failed
    measured = (
        *(_measurement(name, p, judged if p == JUDGED else estimate(samples, p), len(samples)) for p in (JUDGED, 0.5, 0.9, 0.999)),
        Measurement(f"{name} maximum", round(samples[-1], 3) if len(samples) else None, "ms", len(samples)),
        Measurement("99 % confidence of p99", f"{judged.low:.3f} to {judged.high:.3f}" if judged else None, "ms"),
        Measurement("own sender late, p99", round(late.value, 3) if late else None, "ms", len(samples)),
        Measurement("idle thread late, p99", round(noise.idle_late_ms_p99, 3), "ms"),
        Measurement("busy with other processes", None if noise.cpus_of_others is None else round(noise.cpus_of_others, 2), "CPUs"),
        Measurement("left out, as the host stalled", left_out, "calls", offered.recording.count()),
        Measurement("above 60 s", samples.out_of_range, "calls", len(samples), "= 0"),
        Measurement("connections lost", made.lost, "connections", None, "= 0"),
        Measurement(f"{name} failed", failed, "calls", calls, "= 0"),
    )
    doubts = list(noise.doubts)
    if late and late.value > MOST_LATE_MS:
        doubts.append(f"our own sender was {late.value:.2f} ms late at p99 (limit {MOST_LATE_MS} ms)")
    if failed and failed == unsent and doubts:
        return Verdict.INCONCLUSIVE, f"{unsent} {name} were never sent; {'; '.join(doubts)}", measured
    if made.lost and not failed:
        return Verdict.FAIL, f"{made.lost} connections were closed under load", measured
    if failed or samples.out_of_range:
        first = next(iter(failures), "a latency above 60 s")
        return Verdict.FAIL, f"{failed + samples.out_of_range} of {calls} {name} failed, first: {first}", measured
    stalls = [f"the host stalled during {left_out} of {offered.recording.count()} calls"] if left_out else []
    if judged is None or late is None:
        too_few = f"{len(samples)} samples are too few for p99: measure for longer"
        return Verdict.INCONCLUSIVE, "; ".join([too_few, *stalls]), measured
    if doubt := contradicts_little(offered):
        return Verdict.INCONCLUSIVE, doubt, measured
    if judged.high < THRESHOLD_MS:
        return Verdict.PASS, "", measured
    interval = f"p99 of {name} is {judged.value:.2f} ms, 99 % confidence {judged.low:.2f} to {judged.high:.2f}"
    if doubts:
        return Verdict.INCONCLUSIVE, f"{interval}; {'; '.join(doubts)}", measured
    if judged.low >= THRESHOLD_MS:
        return Verdict.FAIL, interval, measured
    return Verdict.INCONCLUSIVE, f"{interval}: the limit lies within", measured


def _judge_all(offered: dict[str, Offered], noise: Noise) -> dict[str, tuple[Finding, ...]]:
    bare = tuple(judge_latency(offered[BARE], operation, noise) for operation in OPERATIONS)
    return {BARE: bare, CLIENT: (judge_client(offered[CLIENT], noise),)}


def _merged(looks: _Looks, stalled: frozenset[int], rate_per_s: float) -> dict[str, Offered]:
    bare, client = together(offered.recording for offered in looks.bare), together(looks.client)
    description = looks.bare[0].description
    through = {**description, "connections": 1, "rate_per_s": rate_per_s, "client": CLIENT}
    return {BARE: Offered(description, bare, stalled), CLIENT: Offered(through, client, stalled)}


def _echoes(size_bytes: int) -> Traffic:
    return Traffic("", {"ECHO": 1}, {size_bytes: 1})


def _claim(operation: str) -> str:
    return f"The 99th percentile of {operation} is below {THRESHOLD_MS:g} ms"


CLIENT_CLAIM = f"The 99th percentile through the client library is below {THRESHOLD_MS:g} ms"


def _measurement(name: str, p: float, quantile: Quantile | None, samples: int) -> Measurement:
    threshold = f"< {THRESHOLD_MS:g} ms" if p == JUDGED else ""
    return Measurement(f"{name} p{p * 100:g}", round(quantile.value, 3) if quantile else None, "ms", samples, threshold)
