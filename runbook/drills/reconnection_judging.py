"""What is concluded from outages under load: pure functions, so that their tests can hand them any result."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from runbook.drills.checkers import tally
from runbook.drills.faults import Outage
from runbook.drills.overshoot import GRACE_S, control_measurement, judge_overshoots, overshoots
from runbook.evidence import Finding, Measurement, Verdict, judge
from runbook.load import History, Outcome
from runbook.load.wait_control import Lateness

Judgement = tuple[Verdict, str, tuple[Measurement, ...]]

MOST_ATTEMPTS_PER_S = 25.0
RECOVERY_MEDIAN_MS, RECOVERY_WORST_MS = 50.0, 150.0
PATIENCE_S = 0.25
# The waits begin at a millisecond, so a shorter outage has more attempts a second than a long one. One outage has to last so long.
SHORTEST_OUTAGE_S = 3.0

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
    """

    outage: Outage
    answered_ns: int
    first_success_ns: int
    attempts: tuple[Attempt, ...]

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
        control: how late waits without a Redis ended meanwhile.
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
    control: Lateness = Lateness()
    findings: tuple[Finding, ...] = ()

    @property
    def histories(self) -> dict[str, History]:
        """What was recorded, by name."""
        return {"basics": self.basics, "increments": self.increments, "looks": self.looks, "control": self.control.history}

    @property
    def doubts(self) -> list[str]:
        """Why it can't be said that the faults took place; empty if they did."""
        return [doubt for done in self.returns for doubt in done.outage.doubts]

    def recovery_excess_ms(self, done: Return) -> float:
        """Return the milliseconds from the server's return to the first success that are beyond the control."""
        return self.control.excess_ns(done.answered_ns, done.first_success_ns) / 1e6


def judge_result(result: Result) -> tuple[Finding, ...]:
    """Judge what was recorded."""
    checks = {"storm": _storm, "backoff": _backoff, "twice": _twice, "survival": _survival, "recovery": _recovery, "grace": _grace}
    return tuple(judge(*CLAIMS[name], partial(check, result)) for name, check in checks.items())


def _storm(result: Result) -> Judgement:
    # In a short outage the attempts of its first second, which follow each other closely, would count for too much.
    rates = [len(done.attempts) / max(done.outage.duration_s, SHORTEST_OUTAGE_S) for done in result.returns]
    longest_s = max((done.outage.duration_s for done in result.returns), default=0.0)
    worst = max(rates, default=0.0)
    measured = (
        Measurement("attempts a second", round(worst, 1), "/s", len(rates), f"≤ {MOST_ATTEMPTS_PER_S:g}/s"),
        Measurement("callers at work", result.callers + 2, "callers"),
        Measurement("longest outage", round(longest_s, 2), "s", len(rates)),
    )
    if worst > MOST_ATTEMPTS_PER_S:
        return Verdict.FAIL, f"{worst:.0f} attempts a second", measured
    if longest_s < SHORTEST_OUTAGE_S:
        return (
            Verdict.INCONCLUSIVE,
            f"an outage of {longest_s:.1f} s is too short to tell a rate: {SHORTEST_OUTAGE_S:g} s are needed",
            measured,
        )
    return _unless(
        result.doubts or [f"no attempt in outage {n}" for n, done in enumerate(result.returns, 1) if not done.attempts], measured
    )


def _backoff(result: Result) -> Judgement:
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
    return _unless(result.doubts or ([] if len(waits) >= 10 else [f"only {len(waits)} waits were seen"]), measured)


def _twice(result: Result) -> Judgement:
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
    return _unless(result.doubts, measured)


def _survival(result: Result) -> Judgement:
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
    return _unless(result.doubts or ([] if through else ["no call fell into an outage"]), measured)


def _recovery(result: Result) -> Judgement:
    came_back = [done for done in result.returns if done.first_success_ns]
    excess_ms = sorted(result.recovery_excess_ms(done) for done in came_back)
    seen_ms = sorted(done.recovery_ms for done in came_back)
    median_ms = statistics.median(excess_ms) if excess_ms else None
    measured = (
        Measurement("worst", round(excess_ms[-1], 1) if excess_ms else None, "ms", len(excess_ms), f"≤ {RECOVERY_WORST_MS:g} ms"),
        Measurement("median", None if median_ms is None else round(median_ms, 1), "ms", len(excess_ms), f"≤ {RECOVERY_MEDIAN_MS:g} ms"),
        Measurement("worst as callers saw it", round(seen_ms[-1], 1) if seen_ms else None, "ms", len(seen_ms)),
        control_measurement(result.control),
    )
    if missing := len(result.returns) - len(came_back):
        return Verdict.FAIL, f"after {missing} of {len(result.returns)} outages no call succeeded again", measured
    if median_ms is not None and (excess_ms[-1] > RECOVERY_WORST_MS or median_ms > RECOVERY_MEDIAN_MS):
        return Verdict.FAIL, f"the slowest return took {seen_ms[-1]:.0f} ms, {excess_ms[-1]:.0f} ms beyond the control", measured
    return _unless(result.doubts or ([] if excess_ms else ["there was no outage"]), measured)


def _grace(result: Result) -> Judgement:
    during = [
        look for look in result.looks if any(look.sent_ns < d.answered_ns and look.done_ns > d.outage.down_ns for d in result.returns)
    ]
    failed = [look for look in during if look.outcome is not Outcome.OK]
    late, measured = judge_overshoots(overshoots(during, PATIENCE_S, result.control), result.control)
    measured += (Measurement("callers told", len(failed), "calls", len(during)),)
    strange = [look for look in failed if not look.error.startswith("Unavailable: since ")]
    if strange:
        return Verdict.FAIL, f"{len(strange)} calls were not told since when, first {strange[0].error}", measured
    if late:
        return Verdict.FAIL, late, measured
    return _unless(result.doubts or ([] if failed else ["no impatient call fell into an outage"]), measured)


def _unless(doubts: Sequence[str], measured: tuple[Measurement, ...]) -> Judgement:
    return (Verdict.INCONCLUSIVE if doubts else Verdict.PASS), "; ".join(doubts), measured
