"""Does what the client adds cost its users speed? Our client against the library it wraps, and against others where they are installed.

Promise: one caller gets 1.2 × redis-py's rate, a hundred threads on ten connections 2 ×, a hundred asyncio callers 8 ×; ten thousand
asyncio callers get at least 0.3 × the rate of a hundred. The 99th percentile of the other library is at least 2 × ours with threads, and
1.5 × with tasks. Both clients alternate in slices of 80 ms, so that a host which slows down slows both; the confidence interval of
the median over the pairs is judged.
"""

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import redis

from cachelib import connect
from runbook.client_worker import KEY, installed
from runbook.drills.imports import CLAIM as IMPORT_CLAIM
from runbook.drills.imports import ImportTimes, judge_imports, measure_imports
from runbook.drills.paired_limit import Limit
from runbook.drills.slices import WORKER, Slice, Workers, started_workers
from runbook.drills.stage import server_pid
from runbook.evidence import Finding, Measurement, Verdict, judge
from runbook.load import History
from runbook.load.paired_median import LOOKS
from runbook.load.placement import Placement, placed
from runbook.targets import Target

CRITERION = "bench"
RATE, P99 = "ratio of the rates", "p99 of theirs over ours"
_OTHERS_SLICES = 6


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two workers that alternate.

    Attributes:
        ours: worker that is judged, as `<work>/<client>`.
        theirs: that it is held against.
        limits: what the ratio of each figure has to keep.
        slice_s: seconds of a slice.
        together: whether client and server share a core.
    """

    ours: str
    theirs: str
    limits: tuple[Limit, ...]
    slice_s: float = 0.08
    together: bool = False

    @property
    def name(self) -> str:
        """Such as `100 threads against redis-py`."""
        (work, ours), (their_work, theirs) = self.ours.split("/"), self.theirs.split("/")
        return f"{work} against {their_work if ours == theirs else theirs}"

    def claim(self, limit: Limit) -> str:
        """Say what must hold."""
        (work, ours), (their_work, theirs) = self.ours.split("/"), self.theirs.split("/")
        if limit.what == P99:
            return f"{work} through {theirs}: a p99 of at least {limit.value:g} × that of {ours}"
        against = f"that of {their_work}" if ours == theirs else f"the rate of {theirs}"
        return f"{work} through {ours}: at least {limit.value:g} × {against}"


# The limits leave room below the medians that were measured on two shared cores, idle and beside a busy loop on each of them: 1.3 to 1.45,
# 2.7 to 3.7, 9 to 16 and 0.45 to 0.95; p99 5 to 14 and 2.6 to 11. What one caller gains depends on the host: both clients pay the same for
# system calls.
COMPARISONS = (
    Comparison("one caller/cachelib", "one caller/redis-py", (Limit(RATE, 1.2),), together=True),
    Comparison("100 threads/cachelib", "100 threads/redis-py", (Limit(RATE, 2.0), Limit(P99, 2.0))),
    Comparison("100 tasks/cachelib", "100 tasks/redis.asyncio", (Limit(RATE, 8.0), Limit(P99, 1.5))),
    # One call of each of ten thousand tasks takes 60 ms, so a slice holds three. Sending the first and awaiting the last counts.
    Comparison("10,000 tasks/cachelib", "100 tasks/cachelib", (Limit(RATE, 0.3),), slice_s=0.2),
)
# Shown beside them where they are installed; not judged.
OTHERS = ("one caller/redis-benchmark", "100 tasks/coredis", "100 tasks/valkey-glide", "100 tasks/redis-benchmark")

Pair = tuple[Slice, Slice]


@dataclass(frozen=True, slots=True)
class Result:
    """All slices.

    Attributes:
        placement: which cores client and server had, in words.
        pairs: slices of ours and of theirs, by comparison, in the order in which they were run.
        others: slices of what is shown and not judged, by worker.
        imports: times of importing the client and redis-py.
        seconds: how long all of it took.
        findings: the claims judged.
    """

    placement: str
    pairs: Mapping[Comparison, Sequence[Pair]]
    others: Mapping[str, Sequence[Slice]]
    imports: Sequence[ImportTimes]
    seconds: float
    findings: tuple[Finding, ...] = ()

    @property
    def histories(self) -> dict[str, History]:
        """None: a closed loop has no moments at which its calls should have started."""
        return {}

    @property
    def slices(self) -> dict[str, list[Slice]]:
        """Slices by worker."""
        found: dict[str, list[Slice]] = {}
        for comparison, pairs in self.pairs.items():
            for worker, own in zip((comparison.ours, comparison.theirs), zip(*pairs, strict=True), strict=False):
                found.setdefault(worker, list(own))  # of one that is in two comparisons the first one's, since slices differ in length
        return found | {name: list(own) for name, own in self.others.items()}


def compare(
    target: Target,
    *,
    seconds: float,
    full: bool = False,
    comparisons: Sequence[Comparison] = COMPARISONS,
    imports: bool = True,
    command: Sequence[str] = WORKER,
) -> Result:
    """Let the workers alternate until every claim is decided.

    Args:
        target: which server; one of our own is pinned to a core.
        seconds: how long all of it takes at the most.
        full: whether other libraries and redis-benchmark take part, as far as they are installed.
        comparisons: what is compared.
        imports: whether the time of importing the client is judged, too.
        command: that starts a worker.
    """
    began_s = time.monotonic()
    with connect(target.config) as client:
        try:
            client.ping()
        except redis.RedisError as error:
            return _refused(str(error), comparisons)
    if target.config.tls:
        return _refused("the client workers speak no TLS: compare on an embedded target", comparisons)
    others = [name for name in OTHERS if full and installed(name.split("/")[1])]
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(connect(target.config))
        stack.callback(client.unlink, KEY)
        placement = stack.enter_context(placed(server_pid(target)))
        cores = {name: placement.load for each in comparisons for name in (each.ours, each.theirs)} | dict.fromkeys(others, placement.load)
        together = {name for each in comparisons if each.together for name in (each.ours, each.theirs)} | {"one caller/redis-benchmark"}
        cores |= {name: placement.server for name in together if name in cores}
        workers = stack.enter_context(started_workers(cores, target.config, (server_pid(target), placement.server), command))
        sampled = _Sampler(workers, comparisons, others, began_s + seconds)
        sampled.run(imports)
    findings = [finding for each in comparisons for finding in judge_pairs(each, sampled.pairs[each])]
    findings += [judge_imports(sampled.imports)] if imports else []
    return Result(_words(placement), sampled.pairs, sampled.others, sampled.imports, time.monotonic() - began_s, tuple(findings))


class _Sampler:
    """Takes pairs of each comparison in turn, until all are decided, the last look was taken, or time is up."""

    def __init__(self, workers: Workers, comparisons: Sequence[Comparison], others: Sequence[str], until_s: float) -> None:
        self._workers, self._until_s = workers, until_s
        self.pairs: dict[Comparison, list[Pair]] = {each: [] for each in comparisons}
        self.others: dict[str, list[Slice]] = {name: [] for name in others}
        self.imports: list[ImportTimes] = []

    def run(self, importing: bool) -> None:
        """Fill `pairs`, `others` and, if asked for, `imports`."""
        for name in dict.fromkeys(name for each in self.pairs for name in (each.ours, each.theirs)):
            self._workers.ask(name, 0.01)  # it starts, connects, and is not counted
        undecided = list(self.pairs)
        for number in range(1, LOOKS[-1] + 1):
            for each in undecided:
                if self._is_over():
                    return
                self.pairs[each].append(_pair(self._workers, each, number))
            if importing and not self._is_over():
                self.imports.append(measure_imports())
            for name in self.others if number <= _OTHERS_SLICES else ():
                self.others[name].append(self._workers.ask(name, COMPARISONS[0].slice_s))
            if number in LOOKS:
                undecided = [each for each in undecided if not _are_decided(judge_pairs(each, self.pairs[each]))]
                importing = importing and not _are_decided((judge_imports(self.imports),))
            if not undecided and not importing:
                return

    def _is_over(self) -> bool:
        return time.monotonic() >= self._until_s


def _pair(workers: Workers, comparison: Comparison, number: int) -> Pair:
    """Run a slice of each, in the order ABBA: what drifts in one direction hits both alike."""
    names = (comparison.ours, comparison.theirs) if number % 2 else (comparison.theirs, comparison.ours)
    first, second = (workers.ask(name, comparison.slice_s) for name in names)
    return (first, second) if number % 2 else (second, first)


def _are_decided(findings: Sequence[Finding]) -> bool:
    return all(finding.verdict is not Verdict.INCONCLUSIVE for finding in findings)


def ratios(limit: Limit, pairs: Sequence[Pair]) -> list[float]:
    """Return the ratio of each pair; one in which a client had no call that succeeded has none."""
    whole = [(ours, theirs) for ours, theirs in pairs if ours.calls and theirs.calls]
    if limit.what == P99:
        return [(theirs.p99_us or 0.0) / (ours.p99_us or 1.0) for ours, theirs in whole]
    return [ours.own_rate_per_s / theirs.own_rate_per_s for ours, theirs in whole]


def judge_pairs(comparison: Comparison, pairs: Sequence[Pair]) -> tuple[Finding, ...]:
    """Judge each limit of a comparison: a failed call fails it, otherwise the interval of the median decides."""

    def judge_one(limit: Limit) -> Finding:
        def compare_slices() -> tuple[Verdict, str, tuple[Measurement, ...]]:
            verdict, reason, measured = limit.judge(ratios(limit, pairs))
            errors, calls = (sum(getattr(each, name) for pair in pairs for each in pair) for name in ("errors", "calls"))
            measured += (Measurement("failed", errors, "calls", calls + errors, "= 0"),)
            return (Verdict.FAIL, f"{errors} calls failed", measured) if errors else (verdict, reason, measured)

        return judge(CRITERION, comparison.claim(limit), compare_slices)

    return tuple(judge_one(limit) for limit in comparison.limits)


def _refused(reason: str, comparisons: Sequence[Comparison]) -> Result:
    claims = [*(each.claim(limit) for each in comparisons for limit in each.limits), IMPORT_CLAIM]
    findings = tuple(Finding(CRITERION, claim, Verdict.INCONCLUSIVE, reason) for claim in claims)
    return Result("not placed", {}, {}, (), 0.0, findings)


def _words(placement: Placement) -> str:
    if placement.load is None:
        return "client and server on any core"
    return "one caller on the server's core, threads and tasks on another" if placement.apart else "all on one core"
