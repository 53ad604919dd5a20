"""Does what the client adds cost its users speed? Our client against the library it wraps, and against others where they are installed.

Promise: one caller gets 1.4 × redis-py's rate, a hundred threads on ten connections 2 ×, a hundred asyncio callers 8 ×; ten thousand
asyncio callers get at least 0.8 × the rate of a hundred. Ratios are of rounds that follow each other at once, so that a host which slows
down slows both; the median of the rounds is judged.
"""

import contextlib
import dataclasses
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from cachelib import Config, connect
from runbook.contestant import CONNECTIONS, KEY, installed
from runbook.drills.pool import fill_pool
from runbook.drills.stage import server_pid
from runbook.evidence import Finding, Measurement, Verdict, judge
from runbook.load import History
from runbook.load.placement import Placement, placed
from runbook.targets import Target

CRITERION = "C-1"
START_TIMEOUT_S = 30.0
# Fewer rounds may pass, but a single stall of the host would decide that they fail.
FEWEST_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two contestants in one kind of work.

    Attributes:
        ours: contestant that is judged, as `<work>/<client>`.
        theirs: that it is held against.
        at_least: ratio of their rates that must be reached.
        together: whether client and server share a core.
        p99_below_ms: what the 99th percentile must stay below at full speed; None for no limit.
    """

    ours: str
    theirs: str
    at_least: float
    together: bool = False
    p99_below_ms: float | None = None

    @property
    def claim(self) -> str:
        """What must hold."""
        (work, ours), (their_work, theirs) = self.ours.split("/"), self.theirs.split("/")
        against = f"that of {their_work}" if ours == theirs else f"the rate of {theirs}"
        return f"{work} through {ours}: at least {self.at_least:g} × {against}"


COMPARISONS = (
    Comparison("one caller/cachelib", "one caller/redis-py", 1.4, together=True),
    Comparison("100 threads/cachelib", "100 threads/redis-py", 2.0, p99_below_ms=20.0),
    Comparison("100 tasks/cachelib", "100 tasks/redis.asyncio", 8.0, p99_below_ms=1.0),
    Comparison("10,000 tasks/cachelib", "100 tasks/cachelib", 0.8),
)
# Shown beside them where they are installed; not judged.
OTHERS = ("one caller/redis-benchmark", "100 tasks/coredis", "100 tasks/valkey-glide", "100 tasks/redis-benchmark")
MOST_IMPORT_RATIO = 1.5


@dataclass(frozen=True, slots=True)
class Round:
    """One contestant's round.

    Attributes:
        calls: that succeeded.
        seconds: how long it took.
        p50_us: median latency, in µs; None without a call.
        p99_us: 99th percentile, in µs.
        longest_us: the longest latency, in µs; shows those who starve where they are fewer than one in a hundred calls.
        errors: calls that failed.
    """

    calls: int
    seconds: float
    p50_us: float | None
    p99_us: float | None
    longest_us: float | None
    errors: int

    @property
    def rate_per_s(self) -> float:
        """Calls a second."""
        return self.calls / self.seconds


@dataclass(frozen=True, slots=True)
class Result:
    """All rounds.

    Attributes:
        placement: which cores client and server had, in words.
        rounds: by contestant, in the order in which they were run.
        imports_s: seconds that `import cachelib` and `import redis` took, by name.
        findings: the claims judged.
    """

    placement: str
    rounds: Mapping[str, tuple[Round, ...]]
    imports_s: Mapping[str, tuple[float, ...]]
    findings: tuple[Finding, ...] = ()

    @property
    def histories(self) -> dict[str, History]:
        """None: a closed loop has no moments at which its calls should have started."""
        return {}

    def ratios(self, ours: str, theirs: str) -> list[float]:
        """Return the ratio of two contestants' rates, round by round."""
        pairs = zip(self.rounds[ours], self.rounds[theirs], strict=True)
        return [mine.rate_per_s / yours.rate_per_s for mine, yours in pairs if yours.calls]


def compare(
    target: Target, *, rounds: int, round_s: float, most_rounds: int = 0, connections: int = CONNECTIONS, full: bool = False
) -> Result:
    """Run all contestants in turn, round after round, and judge the medians of their ratios.

    Args:
        target: which server; one of our own is pinned to a core.
        rounds: how many.
        round_s: seconds of load of each contestant in each round.
        most_rounds: so many are run at the most, while not all pass; a host that stalls disturbs a few rounds, but not most of them.
        connections: how many connections of one pool must be busy at once.
        full: whether other libraries and redis-benchmark take part, as far as they are installed, and whether percentiles at full speed
            are judged, which depend on the host as much as on the client.

    Raises:
        ValueError: there are no rounds.
    """
    if rounds < 1:
        raise ValueError(f"a comparison takes at least one round, got {rounds}")
    with connect(target.config) as client:
        try:
            client.ping()
        except redis.RedisError as error:
            return _refused(str(error), connections)
    if target.config.tls:
        return _refused("the contestants speak no TLS: compare on an embedded target", connections)
    contestants = list(dict.fromkeys(name for pair in COMPARISONS for name in (pair.ours, pair.theirs)))
    contestants += [name for name in OTHERS if full and installed(name.split("/")[1])]
    together = {name for pair in COMPARISONS if pair.together for name in (pair.ours, pair.theirs)} | {"one caller/redis-benchmark"}
    with contextlib.ExitStack() as stack, connect(target.config) as client:
        stack.callback(client.unlink, KEY)
        with placed(server_pid(target)) as placement:
            core = {True: placement.server, False: placement.load}
            running = {}
            for name in contestants:
                running[name] = stack.enter_context(_running(name, target.config, core[name in together]))
            measured: dict[str, list[Round]] = {name: [] for name in contestants}
            imports_s: dict[str, list[float]] = {"cachelib": [], "redis": []}
            for number in range(1, max(rounds, most_rounds) + 1):
                for name, process in running.items():
                    measured[name].append(_ask(process, name, round_s))
                for module, taken_s in imports_s.items():
                    taken_s.append(_import_s(module))
                result = Result(_words(placement), _frozen(measured), _frozen(imports_s))
                speeds = judge_speed(result)
                if number >= rounds and all(finding.verdict is Verdict.PASS for finding in speeds):
                    break
        busy, _ = fill_pool(target.config, connections)
    findings = (*speeds, judge_pool(busy, connections), *(judge_percentiles(result) if full else ()))
    return dataclasses.replace(result, findings=findings)


def _refused(reason: str, connections: int) -> Result:
    findings = [Finding(CRITERION, comparison.claim, Verdict.INCONCLUSIVE, reason) for comparison in COMPARISONS]
    return Result("not placed", {}, {}, (*findings, Finding("P-1", _full_claim(connections), Verdict.INCONCLUSIVE, reason)))


def judge_speed(result: Result) -> tuple[Finding, ...]:
    """Judge the ratios: PASS or FAIL by the median, INCONCLUSIVE where the rounds disagree about it."""
    findings = [_judge_pair(result, comparison) for comparison in COMPARISONS]

    def lightness() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        pairs = zip(result.imports_s["cachelib"], result.imports_s["redis"], strict=True)
        ratio = statistics.median(ours / theirs for ours, theirs in pairs)
        measured = (
            Measurement(
                "import cachelib / import redis", round(ratio, 2), "×", len(result.imports_s["redis"]), f"≤ {MOST_IMPORT_RATIO:g} ×"
            ),
        )
        if ratio > MOST_IMPORT_RATIO:
            return Verdict.FAIL, f"it takes {ratio:.2f} × as long", measured
        return Verdict.PASS, "", measured

    claim = f"Importing the client takes at most {MOST_IMPORT_RATIO:g} × as long as importing redis-py"
    return (*findings, judge(CRITERION, claim, lightness))


def judge_percentiles(result: Result) -> tuple[Finding, ...]:
    """Judge the 99th percentiles at full speed, by the median of the rounds; INCONCLUSIVE where the rounds disagree."""

    def judge_one(comparison: Comparison, below_ms: float) -> Finding:
        def below() -> tuple[Verdict, str, tuple[Measurement, ...]]:
            rounds = result.rounds[comparison.ours]
            values = sorted(done.p99_us / 1e3 for done in rounds if done.p99_us is not None)
            median = statistics.median(values)
            measured = (Measurement("p99", round(median, 3), "ms", sum(done.calls for done in rounds), f"< {below_ms:g} ms"),)
            if median < below_ms:
                return Verdict.PASS, "", measured
            if values[0] < below_ms:
                return Verdict.INCONCLUSIVE, f"the rounds disagree, from {values[0]:.2f} to {values[-1]:.2f} ms", measured
            return Verdict.FAIL, f"no round was below it, the best {values[0]:.2f} ms", measured

        return judge(CRITERION, f"{comparison.ours.replace('/', ' through ')}: p99 below {below_ms:g} ms at full speed", below)

    return tuple(judge_one(pair, pair.p99_below_ms) for pair in COMPARISONS if pair.p99_below_ms is not None)


def judge_pool(busy: int, connections: int) -> Finding:
    """Judge that all connections of one pool were busy at once."""

    def full() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        measured = (Measurement("connections busy at once", busy, "connections", None, f"= {connections}"),)
        if busy != connections:
            return Verdict.FAIL, f"the server saw {busy} of {connections}", measured
        return Verdict.PASS, "", measured

    return judge("P-1", _full_claim(connections), full)


def _full_claim(connections: int) -> str:
    return f"{connections} connections of one pool are busy at once"


def _judge_pair(result: Result, comparison: Comparison) -> Finding:
    def compare_rates() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        ours, theirs = result.rounds[comparison.ours], result.rounds[comparison.theirs]
        if not all(done.calls or done.errors for done in (*ours, *theirs)):
            return Verdict.INCONCLUSIVE, f"no call ended within a round of {ours[0].seconds:.3g} s: give longer rounds", ()
        ratios = sorted(result.ratios(comparison.ours, comparison.theirs))
        errors = sum(done.errors for done in ours)
        measured = (
            Measurement("ratio of the rates", round(statistics.median(ratios), 2), "×", len(ratios), f"≥ {comparison.at_least:g} ×"),
            Measurement("lowest and highest ratio", f"{ratios[0]:.2f} to {ratios[-1]:.2f}", "×", len(ratios)),
            Measurement("rate", round(statistics.median(done.rate_per_s for done in ours)), "calls/s", len(ours)),
            Measurement(
                f"rate of {comparison.theirs.replace('/', ' through ')}",
                round(statistics.median(done.rate_per_s for done in theirs)),
                "calls/s",
                len(theirs),
            ),
            Measurement("failed", errors, "calls", sum(done.calls for done in ours) + errors, "= 0"),
        )
        if errors:
            return Verdict.FAIL, f"{errors} calls failed", measured
        if statistics.median(ratios) >= comparison.at_least:
            return Verdict.PASS, "", measured
        if len(ratios) < FEWEST_ROUNDS:
            return (
                Verdict.INCONCLUSIVE,
                f"of {len(ratios)} rounds the median is {statistics.median(ratios):.2f} ×, and {FEWEST_ROUNDS} are needed to tell",
                measured,
            )
        if ratios[-1] >= comparison.at_least:
            return Verdict.INCONCLUSIVE, f"the rounds disagree, from {ratios[0]:.2f} to {ratios[-1]:.2f} ×: take more rounds", measured
        return Verdict.FAIL, f"no round reached it, the best {ratios[-1]:.2f} ×", measured

    return judge(CRITERION, comparison.claim, compare_rates)


def _words(placement: Placement) -> str:
    if placement.load is None:
        return "client and server on any core"
    return "one caller on the server's core, threads and tasks on another" if placement.apart else "all on one core"


@contextlib.contextmanager
def _running(name: str, config: Config, core: int | None) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "runbook.contestant", name],
        env=_environ(config),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C reaches us alone; it ends with us, since its input does
    )
    try:
        if core is not None:
            os.sched_setaffinity(process.pid, {core})
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream:
                stream.close()


def _ask(process: subprocess.Popen[str], name: str, seconds: float) -> Round:
    assert process.stdin
    assert process.stdout
    try:
        process.stdin.write(f"{seconds}\n")
        process.stdin.flush()
        answer = process.stdout.readline()
    except BrokenPipeError:
        answer = ""
    if not answer:
        raise RuntimeError(f"the contestant {name} ended with status {process.wait(START_TIMEOUT_S)}; its error stands above")
    return Round(**json.loads(answer))


def _import_s(module: str) -> float:
    program = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    return float(
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=START_TIMEOUT_S).stdout
    )


def _environ(config: Config) -> dict[str, str]:
    """Say a configuration in variables, where another process reads it and no process list shows it."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("REDIS_")}
    environ |= {"REDIS_HOST": config.host, "REDIS_PORT": str(config.port), "REDIS_DB": str(config.db)}
    if config.password:
        environ["REDIS_PASSWORD"] = config.password.reveal()
    if config.username:
        environ["REDIS_USERNAME"] = config.username
    return environ


def _frozen(lists: Mapping[str, Sequence[Round]] | Mapping[str, Sequence[float]]) -> dict[str, Any]:
    return {name: tuple(values) for name, values in lists.items()}
