"""What is concluded from what was recorded around steps of the clock: pure, so that tests can hand it anything."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from runbook.drills.checkers import Account
from runbook.evidence import Finding, Measurement, Verdict, judge
from runbook.load import History, Outcome

# The server syncs each second: one that has not for this long, half of a step, has stopped.
STOPPED_S = 5.0
# Documented is that it syncs again when the clock has caught up, 10 s later; then a second may pass, and what a sync takes.
CAUGHT_UP_S = 12.5
FEWEST_WRITES = 100
TOLERANCE_S = 1.0

STEADY, FORWARD, BACK = "steady", "forward", "back"
CONTROL = "Control: with a steady clock the syncs of the server are seen"
SYNCS = {
    FORWARD: "After the clock was stepped forward by 10 s the server goes on syncing its file to the disk",
    BACK: "After the clock was stepped back by 10 s the server goes on syncing its file to the disk",
}
LIFE = "A key lives as long as it was told, whatever the wall clock does"
ANSWERS = "While the clock is stepped every write is answered"
KEPT = "After the steps and a restart no acknowledged write is lost, doubled or invented"
CRITERIA = {CONTROL: "AC-2", SYNCS[FORWARD]: "AC-2", SYNCS[BACK]: "AC-2", LIFE: "I-4", ANSWERS: "I-6", KEPT: "I-4"}
KNOWN = {
    SYNCS[BACK]: "`flushAppendOnlyFile` (aof.c) compares the wall clock with that of the last sync; seen of Redis 7.0.15 and Valkey 9.1.2",
    LIFE: "the documentation of EXPIRE: a key's end is a time of the wall clock, and the server always goes by it",
}

Judged = tuple[Verdict, str, tuple[Measurement, ...]]


@dataclass(frozen=True, slots=True)
class Phase:
    """A while after a step of the clock, or before the first; times are of `time.monotonic_ns`.

    Attributes:
        name: what the clock did.
        began_ns: when it had.
        ended_ns: when it was no longer watched.
        syncs_ns: when syncs to the disk were seen.
        doubts: why it can't be said that the server saw the step.
    """

    name: str
    began_ns: int
    ended_ns: int
    syncs_ns: tuple[int, ...]
    doubts: tuple[str, ...] = ()

    @property
    def gap_ns(self) -> tuple[int, int]:
        """Begin and end of the longest time without a sync."""
        return max(pairwise((self.began_ns, *self.syncs_ns, self.ended_ns)), key=_length)


@dataclass(frozen=True, slots=True)
class Life:
    """A key that expires, over a step of the clock.

    Attributes:
        told_s: how long it was to live, in seconds.
        stepped_s: how far the clock was stepped meanwhile; back if negative.
        asked_s: how much later it was looked for.
        is_alive: whether it was there.
    """

    told_s: float
    stepped_s: float
    asked_s: float
    is_alive: bool

    @property
    def problem(self) -> str:
        """How it was wrong to be there, or not to be; empty if it was right, or too close to tell."""
        state = "there" if self.is_alive else "gone"
        return f"a key told to live {self.told_s:g} s was {state} after {self.asked_s:.1f} s" if self._is_wrong(self.asked_s) else ""

    @property
    def is_known(self) -> bool:
        """Whether it was right by the wall clock, by which the server is documented to go, or too close to tell."""
        return not self._is_wrong(self.asked_s + self.stepped_s)

    def _is_wrong(self, age_s: float) -> bool:
        return age_s > self.told_s + TOLERANCE_S if self.is_alive else age_s < self.told_s - TOLERANCE_S


def judge_steps(
    phases: Sequence[Phase], lives: Sequence[Life], writes: History, found: Account, unproven: tuple[str, ...] = ()
) -> list[Finding]:
    """Judge what was recorded.

    Args:
        phases: in their order.
        lives: of the keys that expire.
        writes: every append to the ledger.
        found: what became of the appends.
        unproven: why it can't be said that the server was started again.
    """
    acknowledged_ns = [record.done_ns for record in writes if record.outcome is Outcome.OK]
    doubts = list(dict.fromkeys(doubt for phase in phases for doubt in phase.doubts))
    if len(acknowledged_ns) < FEWEST_WRITES:
        doubts.append(f"only {len(acknowledged_ns)} writes were acknowledged, {FEWEST_WRITES} are needed")

    def syncs(name: str) -> Judged:
        gaps_ns = [phase.gap_ns for phase in phases if phase.name == name]
        begin_ns, end_ns = max(gaps_ns, key=_length)
        longest_s, waiting = (end_ns - begin_ns) / 1e9, sum(begin_ns <= done_ns < end_ns for done_ns in acknowledged_ns)
        measured = (
            Measurement("longest time without a sync", round(longest_s, 2), "s", len(gaps_ns), f"< {STOPPED_S:g} s"),
            Measurement("acknowledged meanwhile, and not synced", waiting, "writes", len(acknowledged_ns)),
        )
        if doubts:
            return Verdict.INCONCLUSIVE, "; ".join(doubts), measured
        if longest_s < STOPPED_S:
            return Verdict.PASS, "", measured
        if name == STEADY:
            return (
                Verdict.INCONCLUSIVE,
                f"no sync for {longest_s:.1f} s, though the clock was steady: the disk or the host stalls",
                measured,
            )
        return Verdict.FAIL, f"no sync for {longest_s:.1f} s, in which {waiting} writes were acknowledged", measured

    def life() -> Judged:
        problems = [life.problem for life in lives if life.problem]
        measured = (Measurement("keys that did not live as long", len(problems), "keys", len(lives), "= 0"),)
        if doubts or not lives:
            return Verdict.INCONCLUSIVE, "; ".join(doubts) or "no key was looked for", measured
        return (Verdict.FAIL, "; ".join(problems[:2]), measured) if problems else (Verdict.PASS, "", measured)

    def answers() -> Judged:
        others = [record for record in writes if record.outcome is not Outcome.OK]
        slowest_ms = max((record.service_ns for record in writes), default=0) / 1e6
        measured = (
            Measurement("writes that were not acknowledged", len(others), "writes", len(writes), "= 0"),
            Measurement("slowest answer", round(slowest_ms, 1), "ms", len(writes)),
        )
        if others:
            return Verdict.FAIL, f"{len(others)} of {len(writes)} writes, first {others[0].value}: {others[0].error}", measured
        return (Verdict.INCONCLUSIVE, "; ".join(doubts), measured) if doubts else (Verdict.PASS, "", measured)

    def kept() -> Judged:
        measured = (Measurement("acknowledged writes lost", len(found.lost), "writes", found.acknowledged, "= 0"),)
        lost = [f"{len(found.lost)} of {found.acknowledged} lost, first {found.lost[0]}"] if found.lost else []
        if problems := [*lost, *found.corrupt]:
            return Verdict.FAIL, "; ".join(problems), measured
        unsure = [*doubts, *unproven]
        return (Verdict.INCONCLUSIVE, "; ".join(unsure), measured) if unsure else (Verdict.PASS, "", measured)

    checks: dict[str, Callable[[], Judged]] = {
        CONTROL: lambda: syncs(STEADY),
        SYNCS[FORWARD]: lambda: syncs(FORWARD),
        SYNCS[BACK]: lambda: syncs(BACK),
        LIFE: life,
        ANSWERS: answers,
        KEPT: kept,
    }
    as_documented = {
        SYNCS[BACK]: all(_length(phase.gap_ns) <= CAUGHT_UP_S * 1e9 for phase in phases if phase.name == BACK),
        LIFE: all(life.is_known for life in lives if life.problem),
    }
    return [judge(CRITERIA[claim], claim, check, KNOWN[claim] if as_documented.get(claim) else "") for claim, check in checks.items()]


def unjudged(reason: str) -> list[Finding]:
    """Leave every claim open, for a reason."""
    return [Finding(criterion, claim, Verdict.INCONCLUSIVE, reason) for claim, criterion in CRITERIA.items()]


def _length(gap: tuple[int, int]) -> int:
    return gap[1] - gap[0]
