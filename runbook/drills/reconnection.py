"""Do clients survive that Redis goes away and comes back: without a storm, without a call applied twice, and back at once?

Promise: one caller probes with growing waits, at most 25 connection attempts a second for all callers together; a call that may be
repeated survives an outage shorter than its deadline; a caller with less patience is told by its deadline, and since when; the first
success comes within 50 ms of the server's return in the median, and within 150 ms at worst; the counter holds no increment too many.
"""

import contextlib
import dataclasses
import itertools
import socket
import statistics
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from cachelib import Config, Disconnected, Event, ProbeFailed, Unavailable, connect, deadline
from runbook.drills.checkers import tally
from runbook.drills.faults import Outage, killed
from runbook.evidence import Finding, Measurement, Verdict, judge
from runbook.load import Basics, Counter, History, Load, Outcome, collector_off
from runbook.load.canary import Canary, seconds, stalled_seconds, worth_timing
from runbook.load.looped import looped
from runbook.load.workload import Operation
from runbook.targets import Restartable, Target

MOST_ATTEMPTS_PER_S = 25.0
RECOVERY_MEDIAN_MS, RECOVERY_WORST_MS = 50.0, 150.0
GRACE_S = 0.05
PATIENCE_S = 0.25
# The waits begin at a millisecond, so a shorter outage has more attempts a second than a long one.
SHORTEST_OUTAGE_S = 3.0
# For how long the server's return is waited for.
WATCH_S = 60.0

CLAIMS = {
    "storm": (
        "AC-7",
        f"While Redis is down, one prober makes at most {MOST_ATTEMPTS_PER_S:g} connection attempts a second for all callers",
    ),
    "backoff": ("AC-7", "The waits between its attempts double from the base up to the cap"),
    "twice": ("AC-7", "Through the kills, the counter holds no more than was acknowledged or is of unknown outcome"),
    "survival": ("I-5", "No GET, SET or PING fails for an outage shorter than its deadline"),
    "recovery": (
        "I-5",
        f"From the server's return to the first success: median ≤ {RECOVERY_MEDIAN_MS:g} ms, at worst {RECOVERY_WORST_MS:g} ms",
    ),
    "grace": (
        "I-6",
        f"A caller with {PATIENCE_S * 1e3:g} ms of patience is told by then (+{GRACE_S * 1e3:g} ms) that and since when Redis is away",
    ),
}


@dataclass(frozen=True, slots=True)
class Attempt:
    """A connection attempt of the client that failed.

    Attributes:
        at_ns: when it had failed, on the clock of `time.monotonic_ns`.
        number: within its outage, from 1.
        wait_s: seconds until the next one; None for the first, of which the client does not tell.
        error: why.
    """

    at_ns: int
    number: int
    wait_s: float | None
    error: str


@dataclass(frozen=True, slots=True)
class Return:
    """One outage, and how the client came back from it.

    Attributes:
        outage: what the fault did.
        answered_ns: when the server answered again, as seen by a watcher of its own.
        first_success_ns: when the first call succeeded after that; 0 if none did.
        attempts: of the client, during the outage.
        stalled: whether the host itself stalled around the server's return.
    """

    outage: Outage
    answered_ns: int
    first_success_ns: int
    attempts: tuple[Attempt, ...]
    stalled: bool = False

    @property
    def recovery_ms(self) -> float:
        """Milliseconds from the server's return to the first success."""
        return max(0.0, (self.first_success_ns - self.answered_ns) / 1e6)


@dataclass(frozen=True, slots=True)
class Result:
    """Several outages under load.

    Attributes:
        callers: how many repeated GET, SET and PING.
        basics: their calls.
        increments: the calls of the one who counted.
        looks: the calls of the impatient one.
        returns: one for each outage.
        counted: what the counter held in the end; None if it could not be read.
        backoff_s: base and cap of the client, in seconds.
        deadline_s: of the patient callers.
        stalled_s: seconds of `time.monotonic` in which the host itself stalled.
        findings: the claims judged.
    """

    callers: int
    basics: History
    increments: History
    looks: History
    returns: tuple[Return, ...]
    counted: int | None
    backoff_s: tuple[float, float]
    deadline_s: float
    stalled_s: frozenset[int] = frozenset()
    findings: tuple[Finding, ...] = ()

    @property
    def histories(self) -> dict[str, History]:
        """What was recorded, by name."""
        return {"basics": self.basics, "increments": self.increments, "looks": self.looks}


@dataclass(frozen=True, slots=True)
class Looking:
    """PING with little patience."""

    def operations(self, worker: int) -> Iterator[Operation]:
        """Yield PING after PING."""
        return itertools.repeat(Operation("PING", "", _look, True))


def _look(client: redis.Redis) -> Any:
    with deadline(PATIENCE_S):
        try:
            return client.ping()
        except Unavailable as error:
            raise Unavailable(f"since {error.since:%H:%M:%S.%f}: {error}" if error.since else str(error), error.since) from error


def drill(
    target: Target,
    *,
    with_asyncio: bool = False,
    kills: int,
    callers: int,
    rate_per_s: float,
    down_s: float,
    before_s: float = 1.0,
    after_s: float = 0.7,
) -> Result:
    """Kill and restart the server under load, and record every call and every connection attempt of the client.

    Args:
        target: which server; one that can't be restarted by us gives INCONCLUSIVE findings.
        with_asyncio: whether `connect_async` is under test, in an event loop that runs beside the callers, instead of `connect`.
        kills: how often.
        callers: of GET, SET and PING, a thread each, beside one that counts and one that is impatient; all share one client.
        rate_per_s: calls a second of the callers, together.
        down_s: seconds for which the server stays down.
        before_s: seconds of load before each kill.
        after_s: seconds of load after it is back.

    Raises:
        ValueError: there are no kills, or no callers.
    """
    if kills < 1 or callers < 1:
        raise ValueError(f"a drill takes at least one kill and one caller, got {kills} and {callers}")
    config = target.config
    backoff_s = (config.backoff_base_s, config.backoff_cap_s)
    if not isinstance(target, Restartable):
        refusal = f"a {target.name} target is not ours to kill: run this drill on embedded or compose"
        findings = tuple(Finding(criterion, claim, Verdict.INCONCLUSIVE, refusal) for criterion, claim in CLAIMS.values())
        return Result(callers, History([]), History([]), History([]), (), None, backoff_s, config.deadline_s, findings=findings)

    prefix = f"runbook:reconnection:{uuid.uuid4().hex}:"
    basics, counting, attempts = Basics(prefix, keys=100), Counter(f"{prefix}counter"), list[Attempt]()
    client: Callable[..., Any] = looped if with_asyncio else connect
    observers = [lambda event: _note(attempts, event)]
    with connect(config) as admin, client(config, observers=observers) as tested, Canary() as canary:
        basics.load(admin)
        watched: list[tuple[Outage, int]] = []
        with (
            collector_off(),
            Load(tested, basics, rate_per_s=rate_per_s, workers=callers) as calls,
            Load(tested, counting, rate_per_s=100, workers=1) as increments,
            Load(tested, Looking(), rate_per_s=20, workers=1) as looks,
        ):
            for _ in range(kills):
                time.sleep(before_s)
                with killed(target) as outage, _watching(config) as answered:
                    time.sleep(down_s)
                    answered.wanted.set()
                answered.thread.join()
                watched.append((outage, answered.at_ns))
                time.sleep(after_s)
        raw = admin.get(counting.key)
        basics.unload(admin)
        admin.unlink(counting.key)
        stalled_s = stalled_seconds(canary.overslept())
    histories = (calls.history, increments.history, looks.history)
    returns = tuple(_return(outage, answered_ns, histories, attempts, stalled_s) for outage, answered_ns in watched)
    result = Result(callers, *histories, returns, int(raw or 0), backoff_s, config.deadline_s, stalled_s)
    return dataclasses.replace(result, findings=judge_result(result))


def judge_result(result: Result) -> tuple[Finding, ...]:
    """Judge what was recorded: pure, so that its tests can hand it any result."""
    doubts = [doubt for done in result.returns for doubt in done.outage.doubts]

    def storm() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        rates = [len(done.attempts) / done.outage.duration_s for done in result.returns]
        shortest_s = min((done.outage.duration_s for done in result.returns), default=0.0)
        worst = max(rates, default=0.0)
        measured = (
            Measurement("attempts a second", round(worst, 1), "/s", len(rates), f"≤ {MOST_ATTEMPTS_PER_S:g}/s"),
            Measurement("callers at work", result.callers + 2, "callers"),
            Measurement("shortest outage", round(shortest_s, 2), "s", len(rates)),
        )
        if shortest_s < SHORTEST_OUTAGE_S:
            return (
                Verdict.INCONCLUSIVE,
                f"an outage of {shortest_s:.1f} s is too short to tell a rate: {SHORTEST_OUTAGE_S:g} s are needed",
                measured,
            )
        if worst > MOST_ATTEMPTS_PER_S:
            return Verdict.FAIL, f"{worst:.0f} attempts a second", measured
        return _unless(doubts or [f"no attempt in outage {n}" for n, done in enumerate(result.returns, 1) if not done.attempts], measured)

    def backoff() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        base_s, cap_s = result.backoff_s
        waits = [attempt for done in result.returns for attempt in done.attempts if attempt.wait_s is not None]
        strange = [
            a
            for a in waits
            if not 0.79 * min(cap_s, base_s * 2.0 ** (a.number - 1)) <= (a.wait_s or 0.0) <= min(cap_s, base_s * 2.0 ** (a.number - 1))
        ]
        longest = max((attempt.wait_s or 0.0 for attempt in waits), default=0.0)
        measured = (
            Measurement("waits outside their bounds", len(strange), "waits", len(waits), "= 0"),
            Measurement("longest wait", round(longest * 1e3, 1), "ms", len(waits), f"≤ {cap_s * 1e3:g} ms"),
        )
        if strange:
            return Verdict.FAIL, f"first: a wait of {(strange[0].wait_s or 0.0) * 1e3:.1f} ms after attempt {strange[0].number}", measured
        return _unless(doubts or ([] if len(waits) >= 10 else [f"only {len(waits)} waits were seen"]), measured)

    def twice() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        found = tally(result.increments, result.counted or 0)
        measured = (
            Measurement("counter in the end", result.counted, "", found.attempted, f"≤ {found.acknowledged} + {found.unknown}"),
            Measurement("acknowledged", found.acknowledged, "increments", found.attempted),
            Measurement("outcome unknown", found.unknown, "increments", found.attempted),
        )
        if result.counted is None or not found.acknowledged:
            return Verdict.INCONCLUSIVE, "the counter was not read" if result.counted is None else "nothing was counted", measured
        if found.excess:
            return Verdict.FAIL, f"{found.excess} increments too many", measured
        return _unless(doubts, measured)

    def survival() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        failed = [record for record in result.basics if record.outcome is not Outcome.OK]
        through = [r for r in result.basics if any(r.sent_ns < d.answered_ns and r.done_ns > d.outage.down_ns for d in result.returns)]
        measured = (
            Measurement("failed", len(failed), "calls", len(result.basics), "= 0"),
            Measurement("waited out an outage", len(through), "calls", len(result.basics)),
        )
        longest_s = max((done.outage.duration_s for done in result.returns), default=0.0)
        if longest_s >= result.deadline_s:
            return (
                Verdict.INCONCLUSIVE,
                f"an outage of {longest_s:.1f} s is not shorter than the deadline of {result.deadline_s:g} s",
                measured,
            )
        if failed:
            return Verdict.FAIL, f"{len(failed)} calls failed, first {failed[0].error}", measured
        return _unless(doubts or ([] if through else ["no call fell into an outage"]), measured)

    def recovery() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        # A host that stalls can make a client late, but never early.
        counted = [done for done in result.returns if not done.stalled or done.recovery_ms <= RECOVERY_MEDIAN_MS]
        times = sorted(done.recovery_ms for done in counted if done.first_success_ns)
        measured = (
            Measurement("worst", round(times[-1], 1) if times else None, "ms", len(times), f"≤ {RECOVERY_WORST_MS:g} ms"),
            Measurement("median", round(statistics.median(times), 1) if times else None, "ms", len(times), f"≤ {RECOVERY_MEDIAN_MS:g} ms"),
            Measurement("left out, late on a host that stalled", len(result.returns) - len(counted), "returns", len(result.returns)),
        )
        if missing := sum(not done.first_success_ns for done in result.returns):
            return Verdict.FAIL, f"after {missing} of {len(result.returns)} outages no call succeeded again", measured
        if times and (times[-1] > RECOVERY_WORST_MS or statistics.median(times) > RECOVERY_MEDIAN_MS):
            return Verdict.FAIL, f"the slowest return took {times[-1]:.0f} ms", measured
        return _unless(doubts or ([] if times else ["the host stalled around each return, and each was late"]), measured)

    def grace() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        during = [
            look for look in result.looks if any(look.sent_ns < d.answered_ns and look.done_ns > d.outage.down_ns for d in result.returns)
        ]
        failed = [look for look in during if look.outcome is not Outcome.OK]
        # What a caller is told does not depend on the host.
        timed = worth_timing(during, PATIENCE_S + GRACE_S, result.stalled_s)
        late_s = max((look.service_ns / 1e9 - PATIENCE_S for look in timed), default=0.0)
        measured = (
            Measurement("latest error after its deadline", round(max(0.0, late_s) * 1e3, 1), "ms", len(timed), f"≤ {GRACE_S * 1e3:g} ms"),
            Measurement("callers told", len(failed), "calls", len(during)),
            Measurement("not timed, late on a host that stalled", len(during) - len(timed), "calls", len(during)),
        )
        strange = [look for look in failed if not look.error.startswith("Unavailable: since ")]
        if strange:
            return Verdict.FAIL, f"{len(strange)} calls were not told since when, first {strange[0].error}", measured
        if late_s > GRACE_S:
            return Verdict.FAIL, f"a call ended {late_s * 1e3:.0f} ms after its deadline", measured
        untold = [] if failed else ["no impatient call fell into an outage"]
        return _unless(doubts or untold or ([] if timed else ["the host stalled all the time, and each was late"]), measured)

    checks = {"storm": storm, "backoff": backoff, "twice": twice, "survival": survival, "recovery": recovery, "grace": grace}
    return tuple(judge(*CLAIMS[name], check) for name, check in checks.items())


def _unless(doubts: Sequence[str], measured: tuple[Measurement, ...]) -> tuple[Verdict, str, tuple[Measurement, ...]]:
    return (Verdict.INCONCLUSIVE if doubts else Verdict.PASS), "; ".join(doubts), measured


def _note(attempts: list[Attempt], event: Event) -> None:
    now_ns = time.monotonic_ns()
    if isinstance(event, Disconnected):
        attempts.append(Attempt(now_ns, 1, None, event.error))
    elif isinstance(event, ProbeFailed):
        attempts.append(Attempt(now_ns, event.attempt, event.wait_s, event.error))


def _return(
    outage: Outage, answered_ns: int, histories: Sequence[History], attempts: Sequence[Attempt], stalled_s: frozenset[int]
) -> Return:
    answered = (r.done_ns for history in histories for r in history if r.outcome is Outcome.OK and r.done_ns > outage.down_ns)
    # A reply that was on its way when the server died is read at once, long before the server is back.
    first_ns = min((done_ns for done_ns in answered if done_ns > answered_ns - 20_000_000), default=0)
    own = tuple(attempt for attempt in attempts if outage.broken_ns <= attempt.at_ns <= outage.ready_ns)
    return Return(outage, answered_ns, first_ns, own, bool(seconds(answered_ns, answered_ns + 200_000_000) & stalled_s))


class _Watch:
    """When a server answered again, seen by a thread that asks each millisecond once it is `wanted`.

    What accepts the connection may be a proxy of a container engine, which tells nothing of the server behind it.
    """

    def __init__(self, config: Config) -> None:
        self._address = (config.host, config.port)
        self.wanted = threading.Event()
        self.stopped = threading.Event()
        self.at_ns = 0
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        self.wanted.wait()
        until_s = time.monotonic() + WATCH_S
        while not self.at_ns and time.monotonic() < until_s and not self.stopped.wait(0.001):
            with contextlib.suppress(OSError), socket.create_connection(self._address, timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                if connection.recv(1):
                    self.at_ns = time.monotonic_ns()


@contextlib.contextmanager
def _watching(config: Config) -> Iterator[_Watch]:
    watch = _Watch(config)
    watch.thread.start()
    try:
        yield watch
    except BaseException:
        watch.stopped.set()
        watch.wanted.set()
        raise
