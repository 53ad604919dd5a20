"""Tells what changed between two runs beyond noise: by what a server takes beyond its control, so that a noisy host is no change.

A percentile of an operation changed if the intervals of both runs lie apart (`own_percentiles`: 99 % each, so by chance once in some
thousands of comparisons) and the change is worth telling. Of 380 pairs of runs of one server on two shared cores, with other programs at
work beside some of them, none was told as worse; one slowed by 0.3 ms at p99 was told wherever its run had an interval below 0.3 ms.
"""

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from runbook.evidence.verdict import Verdict
from runbook.load.offered import Offered
from runbook.report.loads import Loads
from runbook.report.own_time import Interval, own_percentiles

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
# All operations together have the narrowest intervals.
ALL = "all calls"
# Smaller changes are about the host: p99 of one server beyond its control moved by up to 0.13 ms from run to run.
LEAST_MS = 0.15
# Failures come in clusters, as a lost connection fails all that is under way on it, so no interval is honest: where calls failed before
# already, only twice the share and so many more are told.
FAILURES_FACTOR, FEWEST_MORE_FAILURES = 2, 10

_HOST = ("system", "machine", "cpus", "kernel")


class Effect(enum.StrEnum):
    """What became of a figure."""

    WORSE = "worse"
    BETTER = "better"
    SAME = "within noise"
    UNTOLD = "too few samples"


@dataclass(frozen=True, slots=True)
class Change:
    """One figure of a load in both runs.

    Attributes:
        what: it is, such as `p99 of SET`.
        at: of which load, such as `at 2,000/s`.
        unit: `ms` beyond the control, or empty for a count.
        before: the figure; None with too few samples.
        after: the same.
        effect: whether it changed.
        note: what failed; may be empty.
    """

    what: str
    at: str
    unit: str
    before: Interval | None
    after: Interval | None
    effect: Effect
    note: str = ""

    @property
    def by(self) -> float:
        """By how much it changed; 0 with too few samples."""
        return self.after.value - self.before.value if self.before and self.after else 0.0

    @property
    def by_text(self) -> str:
        """Write that with its sign and unit."""
        return f"{self.by:+.{2 if self.unit else 0}f} {self.unit}".rstrip().replace("-", "−") if self.by else ""

    @property
    def sentence(self) -> str:
        """Say it in a sentence."""
        assert self.before
        assert self.after
        digits = 2 if self.unit else 0
        figures = f"{self.before.value:,.{digits}f} → {self.after.value:,.{digits}f} {self.unit}".rstrip()
        if not self.unit:
            return f"{self.what} {self.at}: {figures}" + (f" ({self.note})" if self.note else "")
        return f"{self.what} {self.at}, beyond the control: {figures}, {self.by_text}"

    @property
    def _weight(self) -> tuple[bool, bool, float]:
        return self.effect is not Effect.WORSE, bool(self.unit), -abs(self.by)


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
        hindrance: what differs, so that nothing could be compared; empty if something was, or there was nothing.
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
    def verdict(self) -> Verdict:
        """FAIL if something became worse; INCONCLUSIVE if nothing could be compared."""
        if any(change.effect is Effect.WORSE for change in self.changes):
            return Verdict.FAIL
        compared = any(change.unit and change.effect is not Effect.UNTOLD for load in self.loads for change in load.changes)
        return Verdict.PASS if compared else Verdict.INCONCLUSIVE

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
        if self.loads:
            return "too few samples to tell anything"
        return f"nothing can be compared{self.hindrance and ': ' + self.hindrance}"

    @property
    def summary(self) -> str:
        """Say how much did not change, and of how much that can't be told."""
        figures = [change for load in self.loads for change in load.changes if change.unit]
        same = sum(change.effect is Effect.SAME for change in figures)
        few = sum(change.effect is Effect.UNTOLD for change in figures)
        text = f"{_count(same, 'percentile')} of {_count(len(self.loads), 'load')} did not change beyond noise"
        return f"{text}; {few} had too few samples to tell" if few else text

    @property
    def sentences(self) -> list[str]:
        """Say what differs, what was left out, what changed, and how much did not."""
        found = [f"differs, and is compared: {text}" for text in self.differs] + [f"not compared: {text}" for text in self.left_out]
        found += [change.sentence for change in self.changes]
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
    like = []
    for name in (name for name in before.loads if name in after.loads):
        if differences := list(_differences(before.loads[name].description, after.loads[name].description)):
            left_out.append(f"load {name}: {', '.join(differences)}")
        else:
            like.append(name)
    loads = tuple(
        LoadDiff(name, before.loads[name], after.loads[name], tuple(_changes(name, before.loads[name], after.loads[name], len(like) > 1)))
        for name in like
    )
    return Diff(before, after, tuple(left_out), tuple(_stated(before, after)), loads)


def _unlike(before: Loads, after: Loads) -> Iterator[str]:
    """Name whatever forbids to compare at all; what is unknown is like nothing."""
    if before.target is None or before.target != after.target:
        yield f"target {before.target or 'unknown'} against {after.target or 'unknown'}"
    products = [side.engine.get("product") for side in (before, after)]
    if None in products or products[0] != products[1]:
        yield f"engine {_engine(before)} against {_engine(after)}"


def _stated(before: Loads, after: Loads) -> Iterator[str]:
    if before.engine != after.engine:
        texts = [_engine(side) for side in (before, after)]
        if texts[0] == texts[1]:  # another program or image of the same version
            texts = [f"{_engine(side)}, {_known(side.engine.get('found_by'))}" for side in (before, after)]
        yield f"engine {' → '.join(texts)}"
    for name in _HOST:
        values = [_known(side.host.get(name)) for side in (before, after)]
        if values[0] != values[1]:
            yield f"{name} of the host {values[0]} → {values[1]}"
    for name in sorted(before.versions.keys() | after.versions.keys()):
        ours, theirs = before.versions.get(name), after.versions.get(name)
        if ours != theirs:
            yield f"{name} {ours or 'absent'} → {theirs or 'absent'}"


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            yield f"{name} {_known(before.get(name))} against {_known(after.get(name))}"


def _changes(name: str, before: Offered, after: Offered, several: bool) -> Iterator[Change]:
    rate_per_s = before.description.get("rate_per_s")
    at = "at full speed" if rate_per_s is None else f"at {rate_per_s:,.10g}/s"
    at += f" in {name}" if several else ""
    operations = sorted({*before.recording.operations, *after.recording.operations})
    if before.recording.control and after.recording.control:
        for operation in (*operations, ALL):
            only = None if operation == ALL else operation
            ours, theirs = (own_percentiles(side.recording, only, tuple(PERCENTILES.values())) for side in (before, after))
            for label, was, is_now in zip(PERCENTILES, ours, theirs, strict=True):
                yield Change(f"{label} of {operation}", at, "ms", was, is_now, _effect(was, is_now))
    for operation in operations:
        yield _failed(operation, at, before, after)
    unsent_before, unsent_after = before.recording.unsent, after.recording.unsent
    yield _counted("calls never sent", at, before, after, unsent_before, unsent_after, "every connection was busy or lost")
    yield _counted("connections lost", at, before, after, before.recording.lost, after.recording.lost, "the server closed them")


def _effect(before: Interval | None, after: Interval | None) -> Effect:
    """Tell whether a percentile changed."""
    if before is None or after is None:
        return Effect.UNTOLD
    apart = before.high < after.low or after.high < before.low
    if not apart or abs(after.value - before.value) < LEAST_MS:
        return Effect.SAME
    return Effect.WORSE if after.value > before.value else Effect.BETTER


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


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
