"""Tells what changed between two runs beyond noise, for like environments and like loads only.

A percentile changed if its two confidence intervals lie apart and the change is worth telling. Intervals of 99 % that lie apart are a
stricter test than 1 %: two estimates of equal error σ have to differ by 2 × 2.58 σ = 3.6 times the error of their difference, which
happens by chance once in 3,700 comparisons. A run with three operations makes 12 of them, so chance alone cries wolf in one diff of 300,
and `LEAST_SHARE` and `LEAST_MS` leave fewer.

That holds within a run. A neighbour who keeps the host busy throughout one run is in none of its intervals. On two shared cores, 12 runs of
one server at 2,000/s, each held against each other, cried wolf in 52 of 132 diffs: their p99 lay between 0.3 and 3.7 ms. So the load's own
lateness serves as control: where it grew as well, by `LATER_FACTOR` and by `LATER_SHARE` of the change, the host may be the cause, and
the change is `DOUBTFUL`. That left 2 of the 132. A closed loop is never late, so it has no such control: 27 of 56 diffs cried wolf on that
host without a canary. With one, most seconds of most runs there are stalled, and what remains is chosen by chance: `MOST_LEFT_OUT`.
"""

import enum
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from runbook.evidence.verdict import Verdict
from runbook.load.offered import Offered
from runbook.load.quantile import estimate, widen
from runbook.load.recording import LATE, SECOND_NS
from runbook.report.loads import Loads

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
CONFIDENCE, RESAMPLES = 0.99, 1000
# Smaller changes are left untold: code that merely moves in memory shifts a program by some percent (Mytkowicz et al., "Producing wrong
# data without doing anything obviously wrong!", ASPLOS 2009).
LEAST_SHARE = 0.05
# A process that the kernel has to wake up answers later by tens of µs; less is about the host's scheduler, and no caller's trouble.
LEAST_MS = 0.02
# How much later the load itself has to be before a change is doubtful. Chosen on those 132 diffs, of which they left 2 false ones: a share
# of 0.1 left 10, a factor of 1.1 none, but that would also doubt more of what is true.
LATER_FACTOR, LATER_SHARE = 1.25, 0.05
# A load of half a second says nothing of how the host varies from one to the next: p90 of one rate of a sweep moved by 21 % between two
# runs of the same server that followed each other.
SHORTEST_S = 1.5
# Capacity moved by 7 to 11 % between the same two runs, each within itself sure of its own: less is not told of a closed loop.
LEAST_SHARE_CLOSED = 0.15
# With more of its calls in seconds in which the host stalled, a load is not compared.
MOST_LEFT_OUT = 0.5
# Failures come in clusters, as a lost connection fails all that is under way on it, so no interval is honest: where calls failed before
# already, only twice the share and so many more are told.
FAILURES_FACTOR, FEWEST_MORE_FAILURES = 2, 10
# A rate's interval is made of whole slices; fewer of them say nothing about how it varies.
FEWEST_SLICES = 10

_HOST = ("system", "machine", "cpus", "kernel")


class Effect(enum.StrEnum):
    """What became of a figure."""

    WORSE = "worse"
    BETTER = "better"
    SAME = "within noise"
    DOUBTFUL = "maybe the host"
    UNTOLD = "too few samples"


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and between which values it lies, at `CONFIDENCE`.

    Attributes:
        value: the figure.
        low: lower end.
        high: upper end; infinite if the samples don't reach far enough.
        samples: from how many it was taken.
    """

    value: float
    low: float
    high: float
    samples: int


@dataclass(frozen=True, slots=True)
class Change:
    """One figure of a load in both runs.

    Attributes:
        what: it is, such as `p99 of SET`.
        at: of which load, such as `at 2,000/s`.
        unit: `ms`, `calls/s`, or empty for a count.
        before: the figure; None with too few samples.
        after: the same.
        effect: whether it changed.
        note: what failed, or what makes it doubtful; may be empty.
    """

    what: str
    at: str
    unit: str
    before: Interval | None
    after: Interval | None
    effect: Effect
    note: str = ""

    @property
    def share(self) -> float:
        """By which share it changed: 0.61 for 61 % more; infinite where it was nothing before."""
        if self.before is None or self.after is None or self.before.value == self.after.value:
            return 0.0
        return self.after.value / self.before.value - 1 if self.before.value else math.inf

    @property
    def share_text(self) -> str:
        """Write the share as `+61 %`."""
        return "" if math.isinf(self.share) or not (self.unit or self.share) else f"{self.share * 100:+,.0f} %".replace("-", "−")

    @property
    def sentence(self) -> str:
        """Say it in a sentence."""
        assert self.before
        assert self.after
        digits = 0 if self.unit != "ms" else _digits(min(self.before.value, self.after.value))
        figures = f"{self.before.value:,.{digits}f} → {self.after.value:,.{digits}f} {self.unit}".rstrip()
        if not self.unit:
            return f"{self.what} {self.at}: {figures}" + (f" ({self.note})" if self.note else "")
        parts = (figures, self.share_text, self.note or "beyond noise")
        return f"{self.what} {self.at}: {', '.join(part for part in parts if part)}"

    @property
    def _weight(self) -> tuple[bool, bool, float]:
        size = abs(math.log1p(self.share)) if -1 < self.share < math.inf else math.inf
        return self.effect is not Effect.WORSE, bool(self.unit), -size


@dataclass(frozen=True, slots=True)
class LoadDiff:
    """A load that both runs offered.

    Attributes:
        name: notebook and load.
        before: what it measured.
        after: the same.
        changes: each figure, changed or not.
    """

    name: str
    before: Offered
    after: Offered
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Diff:
    """Two runs, held against each other.

    Attributes:
        before: the first run.
        after: the second one.
        left_out: what was not compared, and why.
        differs: what differs between the environments and does not forbid to compare.
        loads: what was compared.
        hindrance: what differs, or what the host did, so that nothing could be compared; empty if something was, or there was nothing.
    """

    before: Loads
    after: Loads
    left_out: tuple[str, ...]
    differs: tuple[str, ...] = ()
    loads: tuple[LoadDiff, ...] = ()
    hindrance: str = ""

    @property
    def changes(self) -> list[Change]:
        """What changed beyond noise: the worse first, and of those what fails, then the largest change."""
        told = [change for load in self.loads for change in load.changes if change.effect in (Effect.WORSE, Effect.BETTER)]
        return sorted(told, key=lambda change: change._weight)

    @property
    def doubtful(self) -> list[Change]:
        """What changed when the load itself was as much later or earlier, so that it may have been the host."""
        found = [change for load in self.loads for change in load.changes if change.effect is Effect.DOUBTFUL]
        return sorted(found, key=lambda change: -change.share)

    @property
    def verdict(self) -> Verdict:
        """FAIL if something became worse; INCONCLUSIVE if nothing could be compared, or something is doubtfully worse."""
        if any(change.effect is Effect.WORSE for change in self.changes):
            return Verdict.FAIL
        compared = any(change.unit and change.effect is not Effect.UNTOLD for load in self.loads for change in load.changes)
        doubtful = any(change.share > 0 for change in self.doubtful)
        return Verdict.PASS if compared and not doubtful else Verdict.INCONCLUSIVE

    @property
    def headline(self) -> str:
        """Say the verdict and what made it."""
        return f"{self.verdict}: {self.reason}"

    @property
    def reason(self) -> str:
        """Say what made the verdict."""
        worse = sum(change.effect is Effect.WORSE for change in self.changes)
        better = len(self.changes) - worse
        also = f", {_count(better, 'figure')} better" if better else ""
        if worse:
            return f"{_count(worse, 'figure')} worse beyond noise{also}"
        if self.verdict is Verdict.PASS:
            return f"nothing worse beyond noise{also}"
        if self.doubtful:
            return f"{_count(sum(change.share > 0 for change in self.doubtful), 'figure')} worse, and the host may be why{also}"
        if self.loads:
            return "too few samples to tell anything"
        return f"nothing can be compared{self.hindrance and ': ' + self.hindrance}"

    @property
    def summary(self) -> str:
        """Say how much did not change, and of how much that can't be told."""
        figures = [change for load in self.loads for change in load.changes if change.unit]
        same = [change for change in figures if change.effect is Effect.SAME]
        rates = sum(change.unit == "calls/s" for change in same)
        parts = [_count(len(same) - rates, "percentile")] + ([_count(rates, "rate")] if rates else [])
        text = f"{' and '.join(parts)} of {_count(len(self.loads), 'load')} did not change beyond noise"
        few = sum(change.effect is Effect.UNTOLD for change in figures)
        return f"{text}; {few} had too few samples to tell" if few else text

    @property
    def sentences(self) -> list[str]:
        """Say what differs, what was left out, what changed, and how much did not."""
        found = [f"differs, and is compared: {text}" for text in self.differs] + [f"not compared: {text}" for text in self.left_out]
        found += [change.sentence for change in [*self.changes, *self.doubtful]]
        return [*found, self.summary] if self.loads else found


def compare(before: Loads, after: Loads) -> Diff:
    """Hold two runs against each other.

    Args:
        before: the run that things were like.
        after: the run in which something may have changed.
    """
    unlike = tuple(_unlike(before, after))
    if unlike:
        return Diff(before, after, unlike, hindrance=unlike[0])
    left_out = [f"load {name} is in {before.run} only" for name in before.loads if name not in after.loads]
    left_out += [f"load {name} is in {after.run} only" for name in after.loads if name not in before.loads]
    common = [name for name in before.loads if name in after.loads]
    like, hindrance = [], ""
    for name in common:
        differences = list(_differences(before.loads[name].description, after.loads[name].description))
        differences = differences or list(_too_short(before, after, name))
        stalls = list(_stalls(before, after, name))
        hindrance = hindrance or ("the host stalled, so try again when it is quiet" if stalls else "")
        if differences := differences or stalls:
            left_out.append(f"load {name}: {', '.join(differences)}")
        else:
            like.append(name)
    loads = tuple(
        LoadDiff(name, before.loads[name], after.loads[name], tuple(_changes(name, before.loads[name], after.loads[name], len(like) > 1)))
        for name in like
    )
    return Diff(before, after, tuple(left_out), tuple(_stated(before, after)), loads, "" if loads else hindrance)


def _unlike(before: Loads, after: Loads) -> Iterator[str]:
    """Name whatever forbids to compare at all; what is unknown is like nothing."""
    if before.target is None or before.target != after.target:
        yield f"target {before.target or 'unknown'} against {after.target or 'unknown'}"
    products = [side.engine.get("product") for side in (before, after)]
    if None in products or products[0] != products[1]:
        yield f"engine {_engine(before)} against {_engine(after)}"
    for name in _HOST:
        values = [side.host.get(name) for side in (before, after)]
        if None in values or values[0] != values[1]:
            yield f"{name} of the host {_known(values[0])} against {_known(values[1])}"


def _stated(before: Loads, after: Loads) -> Iterator[str]:
    if before.engine != after.engine:
        texts = [_engine(side) for side in (before, after)]
        if texts[0] == texts[1]:  # another program or image of the same version
            texts = [f"{_engine(side)}, {_known(side.engine.get('found_by'))}" for side in (before, after)]
        yield f"engine {' → '.join(texts)}"
    for name in sorted(before.versions.keys() | after.versions.keys()):
        ours, theirs = before.versions.get(name), after.versions.get(name)
        if ours != theirs:
            yield f"{name} {ours or 'absent'} → {theirs or 'absent'}"


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            yield f"{name} {_known(before.get(name))} against {_known(after.get(name))}"


def _too_short(before: Loads, after: Loads, name: str) -> Iterator[str]:
    for side in (before, after):
        seconds = side.loads[name].recording.seconds
        if seconds < SHORTEST_S:
            yield f"{seconds:.1f} s of {side.run} are too short to tell how the host varies"


def _stalls(before: Loads, after: Loads, name: str) -> Iterator[str]:
    for side in (before, after):
        offered = side.loads[name]
        calls = offered.recording.count()
        if offered.left_out > MOST_LEFT_OUT * calls:
            yield f"the host stalled during {offered.left_out / calls:.0%} of the calls of {side.run}"


def _changes(name: str, before: Offered, after: Offered, several: bool) -> Iterator[Change]:
    rate_per_s = before.description.get("rate_per_s")
    at = "at full speed" if rate_per_s is None else f"at {rate_per_s:,.10g}/s"
    at += f" in {name}" if several else ""
    closed = before.description.get("loop") == "closed"
    least_share = LEAST_SHARE_CLOSED if closed else LEAST_SHARE
    for operation in sorted({*before.recording.operations, *after.recording.operations}):
        found = [_percentiles(offered, operation) for offered in (before, after)]
        for label, p in PERCENTILES.items():
            ours, theirs = (percentiles[label] for percentiles in found)
            effect, note = _effect(ours, theirs, LEAST_MS, least_share), ""
            if effect in (Effect.WORSE, Effect.BETTER):
                note = _doubt(before, after, operation, p)
            yield Change(f"{label} of {operation}", at, "ms", ours, theirs, Effect.DOUBTFUL if note else effect, note)
        yield _failed(operation, at, before, after)
    if closed:
        ours, theirs = _rate(before), _rate(after)
        yield Change(
            "rate of all calls", at, "calls/s", ours, theirs, _effect(theirs, ours, 0.0, least_share)
        )  # turned round: more is better
    # A host that stalls keeps calls from being sent, and that is not the server's fault.
    unsent_before, unsent_after = (0 if offered.stalled else offered.recording.unsent for offered in (before, after))
    yield _counted("calls never sent", at, before, after, unsent_before, unsent_after, "every connection was busy or lost")
    yield _counted("connections lost", at, before, after, before.recording.lost, after.recording.lost, "the server closed them")


def _percentiles(offered: Offered, operation: str) -> dict[str, Interval | None]:
    latencies = offered.histogram(operation)
    slices = offered.recording.slices(operation, without=offered.stalled)
    in_ms = [[(us / 1e3, count) for us, count in pairs] for pairs in slices.values()]
    found: dict[str, Interval | None] = {}
    for label, p in PERCENTILES.items():
        narrow = estimate(latencies, p, CONFIDENCE)
        wide = widen(narrow, in_ms, CONFIDENCE, RESAMPLES) if narrow else None
        found[label] = Interval(wide.value, wide.low, wide.high, wide.samples) if wide else None
    return found


def _rate(offered: Offered) -> Interval | None:
    """Estimate the rate from whole slices, with the interval of a bootstrap over them."""
    made = offered.recording
    counts = {number: sum(count for _, count in pairs) for number, pairs in made.slices().items()}
    if not counts:
        return None
    first, last = min(counts), max(counts)
    # A slice in which nothing was answered counts too, unless it lies between two loads that were merged.
    gapless = (last - first - 1) * made.slice_ns <= made.seconds * SECOND_NS
    inner = range(first + 1, last) if gapless else sorted(counts)[1:-1]
    rates = np.array([counts.get(number, 0) for number in inner if not _stalled(offered, number)]) * SECOND_NS / made.slice_ns
    if len(rates) < FEWEST_SLICES:
        return None
    drawn = np.random.default_rng(1).multinomial(len(rates), np.full(len(rates), 1 / len(rates)), size=RESAMPLES) @ rates / len(rates)
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(rates.mean()), float(low), float(high), len(rates))


def _stalled(offered: Offered, number: int) -> bool:
    width_ns = offered.recording.slice_ns
    return any(
        second in offered.stalled for second in range(number * width_ns // SECOND_NS, ((number + 1) * width_ns - 1) // SECOND_NS + 1)
    )


def _effect(before: Interval | None, after: Interval | None, least: float, least_share: float = LEAST_SHARE) -> Effect:
    """Tell whether a figure of which less is better changed."""
    if before is None or after is None:
        return Effect.UNTOLD
    change = after.value - before.value
    apart = before.high < after.low or after.high < before.low
    if not apart or abs(change) < max(least, least_share * before.value):
        return Effect.SAME
    return Effect.WORSE if change > 0 else Effect.BETTER


def _doubt(before: Offered, after: Offered, operation: str, p: float) -> str:
    """Say by how much the load itself was later, or earlier, if that may explain a change of this percentile; empty if not."""
    latencies = [estimate(offered.histogram(operation), p) for offered in (before, after)]
    lateness = [estimate(offered.histogram(operation, LATE), p) for offered in (before, after)]
    if None in latencies or None in lateness:
        return ""
    values_ms = [found.value for found in lateness if found]
    (fast_ms, early_ms), (slow_ms, late_ms) = sorted(zip([found.value for found in latencies if found], values_ms, strict=True))
    if late_ms - early_ms <= LATER_SHARE * (slow_ms - fast_ms) or late_ms <= LATER_FACTOR * early_ms:
        return ""
    digits = _digits(min(values_ms))
    return f"but the load itself came {values_ms[0]:.{digits}f} → {values_ms[1]:.{digits}f} ms late, so it may be the host"


def _failed(operation: str, at: str, before: Offered, after: Offered) -> Change:
    ours, theirs = (offered.recording.failed(operation) for offered in (before, after))
    return _counted(
        f"failed calls of {operation}",
        at,
        before,
        after,
        ours.total(),
        theirs.total(),
        ", ".join(f"{count:,} × {text}" for text, count in (theirs or ours).most_common(3)),
    )


def _counted(what: str, at: str, before: Offered, after: Offered, ours: int, theirs: int, note: str) -> Change:
    """Compare how many calls or connections failed; the first one is worth telling already."""
    calls = [max(1, offered.recording.sent + offered.recording.unsent) for offered in (before, after)]
    effect = Effect.SAME
    if _many_more((ours, calls[0]), (theirs, calls[1])):
        effect = Effect.WORSE
    elif _many_more((theirs, calls[1]), (ours, calls[0])):
        effect = Effect.BETTER
    return Change(what, at, "", Interval(ours, ours, ours, calls[0]), Interval(theirs, theirs, theirs, calls[1]), effect, note)


def _many_more(few: tuple[int, int], many: tuple[int, int]) -> bool:
    if not few[0]:
        return many[0] > 0
    return many[0] >= few[0] + FEWEST_MORE_FAILURES and many[0] / many[1] >= FAILURES_FACTOR * few[0] / few[1]


def _engine(side: Loads) -> str:
    return f"{side.engine.get('product', 'unknown')} {side.engine.get('version', '')}".rstrip()


def _known(value: Any) -> str:
    return "unknown" if value is None else str(value)


def _digits(value_ms: float) -> int:
    return 3 if value_ms < 0.1 else 2 if value_ms < 10 else 1 if value_ms < 100 else 0


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
