"""Which notebook and which drill passed on which target, and how long ago: a proof grows old, and then it has to be made again."""

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from runbook.evidence.archive import Entry
from runbook.evidence.verdict import Verdict
from runbook.report.history import verdict_text
from runbook.report.measured import MISSING

# After how many days a success proves nothing about today any more. Notebooks are cheap, and a week sees a deployment; drills are done by
# hand, and a month is how often one should have practised.
FRESH_DAYS = {"notebook": 7, "drill": 31}
# Of how many runs the share is taken that came to no decision.
RECENT = 20


class Freshness(enum.StrEnum):
    """Whether the last success still counts."""

    FRESH = "FRESH"
    STALE = "STALE"
    NEVER_PASSED = "NEVER PASSED"
    NEVER = "NEVER RUN"


@dataclass(frozen=True, slots=True)
class Row:
    """A notebook or a drill on a target.

    Attributes:
        kind: `notebook` or `drill`.
        name: its name.
        target: on which it ran; empty if it never did.
        last: the newest run; None if there is none.
        succeeded: when it passed for the last time; None if it never did.
        runs: how often it ran.
        undecided: how many of the last `RECENT` came to no decision: INCONCLUSIVE, or broken.
    """

    kind: str
    name: str
    target: str = ""
    last: Entry | None = None
    succeeded: datetime | None = None
    runs: int = 0
    undecided: int = 0

    @property
    def title(self) -> str:
        """Its name, and the target."""
        return f"{self.name} on {self.target}" if self.target else self.name

    @property
    def verdict(self) -> Verdict | None:
        """The verdict of the newest run; None if it is broken, or there is none."""
        return Verdict(self.last.content["verdict"]) if self.last and self.last.content["verdict"] else None

    @property
    def due(self) -> datetime | None:
        """When the last success becomes stale; None without one."""
        return self.succeeded + timedelta(days=FRESH_DAYS[self.kind]) if self.succeeded else None

    @property
    def recent(self) -> int:
        """How many runs the share of undecided ones is taken of."""
        return min(self.runs, RECENT)

    def freshness(self, now: datetime) -> Freshness:
        """Tell whether the last success still counts."""
        if self.last is None:
            return Freshness.NEVER
        if self.due is None:
            return Freshness.NEVER_PASSED
        return Freshness.FRESH if now <= self.due else Freshness.STALE


@dataclass(frozen=True, slots=True)
class Scorecard:
    """All notebooks and drills at one moment.

    Attributes:
        now: the moment.
        rows: one for each target on which something ran, and one for what never did.
    """

    now: datetime
    rows: tuple[Row, ...]

    def of(self, freshness: Freshness) -> list[Row]:
        """Return the rows that are so."""
        return [row for row in self.rows if row.freshness(self.now) is freshness]

    @property
    def failing(self) -> list[Row]:
        """Return the rows whose newest run failed."""
        return [row for row in self.rows if row.verdict is Verdict.FAIL]

    @property
    def broken(self) -> list[Row]:
        """Return the rows whose newest run came to no verdict."""
        return [row for row in self.rows if row.last and row.verdict is None]

    @property
    def undecided(self) -> list[Row]:
        """Return the rows whose newest run is INCONCLUSIVE."""
        return [row for row in self.rows if row.verdict is Verdict.INCONCLUSIVE]

    @property
    def verdict(self) -> Verdict:
        """FAIL if something is stale or failed last, PASS if all that ever ran is fresh and passed last.

        What ran and never passed was undecided or broken last, unless it failed: so it is never a PASS.
        """
        if self.failing or self.of(Freshness.STALE):
            return Verdict.FAIL
        return Verdict.PASS if self.of(Freshness.FRESH) and not self.broken and not self.undecided else Verdict.INCONCLUSIVE

    @property
    def look(self) -> Verdict:
        """Tell how the sentence is to be shown: what was never run is no failure, and not proven either."""
        unproven = self.verdict is Verdict.PASS and bool(self.of(Freshness.NEVER))
        return Verdict.INCONCLUSIVE if unproven else self.verdict

    @property
    def sentence(self) -> str:
        """Say whether something is stale or failing and what, and how many are fresh, were never run, or came to no decision."""
        never_passed = [row for row in self.of(Freshness.NEVER_PASSED) if row not in self.failing]
        rows = {"stale": self.of(Freshness.STALE), "failing": self.failing, "never passed": never_passed}
        rows |= {"undecided": self.undecided, "broken": self.broken}
        for word in ("undecided", "broken"):
            rows[word] = [row for row in rows[word] if row not in never_passed]
        fresh = "nothing ran yet" if not self.of(Freshness.FRESH) else "fresh, as far as it ran" if self.of(Freshness.NEVER) else "fresh"
        first = [word for word, found in rows.items() if found][:2] or [fresh]
        counts = [f"{len(self.of(Freshness.FRESH))} of {len(self.rows)} are fresh", f"{len(self.of(Freshness.NEVER))} never run"]
        for word, found in rows.items():
            named = _named(found) if word in ("stale", "failing", "never passed") else ""
            counts += [f"{len(found)} {word}{named}"] if found or word in ("stale", "failing") else []
        return f"{' and '.join(first).capitalize()}: {', '.join(counts)}."

    def text(self) -> str:
        """Write it for a terminal: a line for each row, and the sentence."""
        lines = [("", "target", "last run", "last success", "", "undecided"), *(_line(row, self.now) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        table = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
        return "\n".join([*table, "", self.sentence])


def scorecard_of(entries: Sequence[Entry], catalogue: Mapping[str, Sequence[str]], now: datetime) -> Scorecard:
    """Sum up the archive.

    Args:
        entries: of runs, the oldest first.
        catalogue: names of all that there is, by kind: `notebook` and `drill`; what else was run, and is no more, is left out.
        now: of which the ages are.
    """
    # A run that its user ended says nothing, neither for nor against.
    ended = [entry for entry in entries if not entry.content["interrupted"]]
    by_name: dict[tuple[str, str], dict[str, list[Entry]]] = {}
    for entry in ended:
        content = entry.content
        by_target = by_name.setdefault((content["kind"], content["name"]), {})
        by_target.setdefault(content["target"] or "an unknown target", []).append(entry)
    return Scorecard(now, tuple(row for kind, names in catalogue.items() for name in names for row in _rows(kind, name, by_name)))


def age_text(then: datetime, now: datetime) -> str:
    """Say how long ago something was: in minutes, hours or days."""
    seconds = (now - then).total_seconds()
    for unit, size in (("days", 86_400), ("hours", 3600)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(0, seconds) // 60:.0f} min"


def finished(entry: Entry) -> datetime:
    """Return when a run ended."""
    return datetime.fromisoformat(entry.content["finished_utc"])


def _rows(kind: str, name: str, by_name: Mapping[tuple[str, str], Mapping[str, Sequence[Entry]]]) -> Iterator[Row]:
    by_target = by_name.get((kind, name), {})
    if not by_target:
        yield Row(kind, name)
    for target, entries in sorted(by_target.items()):
        succeeded = max((finished(entry) for entry in entries if entry.content["verdict"] == Verdict.PASS), default=None)
        undecided = sum(entry.content["verdict"] not in (Verdict.PASS, Verdict.FAIL) for entry in entries[-RECENT:])
        yield Row(kind, name, target, max(entries, key=finished), succeeded, len(entries), undecided)


def _line(row: Row, now: datetime) -> tuple[str, ...]:
    if row.last is None:
        return row.name, MISSING, MISSING, MISSING, row.freshness(now), MISSING
    success = f"{age_text(row.succeeded, now)} ago" if row.succeeded else "never"
    return row.name, row.target, verdict_text(row.last.content), success, row.freshness(now), f"{row.undecided} of {row.recent}"


def _named(rows: Sequence[Row]) -> str:
    return f" ({', '.join(row.title for row in rows[:3])}{', …' if len(rows) > 3 else ''})" if rows else ""
