"""A spell in which a server could not rely on its disk: what its callers saw, what brought it back, and how that is judged."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cachelib import Client, HealthReport, Reason
from runbook.drills.checkers import Account
from runbook.drills.disks.patience import await_true
from runbook.drills.drill import Ground
from runbook.evidence import Finding, Measurement, Verdict, judge
from runbook.load import Operation, Outcome, Record
from runbook.targets import Embedded
from runbook.targets.embedded import STORY_FLAGS

FEWEST_CALLS = 10
# A write finds out at once, an fsync within a second.
NOTICE_TIMEOUT_S = 10.0
# So that callers end soon once the server has.
LOAD_DEADLINE_S = 0.5
ALWAYS_FLAGS = tuple("always" if flag == "everysec" else flag for flag in STORY_FLAGS)
# What a server says that ends because it can't keep the word that it gives under always (aof.c).
EXITS = "when the AOF fsync policy is 'always'"

_Judged = tuple[Verdict, str, tuple[Measurement, ...]]


@dataclass(frozen=True, slots=True)
class Reading:
    """Reads of one key that never changes.

    Attributes:
        key: which holds its own name.
    """

    key: str

    def operations(self, worker: int) -> Iterator[Operation]:
        """Yield GET after GET."""
        while True:
            yield Operation("GET", "", lambda client: client.get(self.key), self.key.encode())


@dataclass(frozen=True, slots=True)
class Spell:
    """One spell.

    Attributes:
        accounts: what became of the appends to each ledger, as read after a restart.
        writes: appends that were made after the server had noticed, and before anything was mended.
        reads: the same of GET.
        health: what the health check said meanwhile; None if it was not asked.
        late_writes: appends that were made after the disk was well again, and before an operator did anything.
        left: what was still amiss after the recovery, see `recovery.unwell`.
        early_left: what was amiss after the same recovery while the disk still failed; None if that was not tried.
        returned_s: seconds until a write succeeded again by itself; None if it did not, or need not.
        survived: whether the server lived.
        last_words: what it logged last if it exited with an error of its own; empty if not.
        doubts: why it can't be said that the disk failed it.
    """

    accounts: tuple[Account, ...]
    writes: tuple[Record, ...] = ()
    reads: tuple[Record, ...] = ()
    health: HealthReport | None = None
    late_writes: tuple[Record, ...] = ()
    left: tuple[str, ...] = ()
    early_left: tuple[str, ...] | None = None
    returned_s: float | None = None
    survived: bool = True
    last_words: str = ""
    doubts: tuple[str, ...] = ()


def spells_of(ground: Ground, cases: Mapping[str, Callable[[Ground, str], Spell]]) -> dict[str, list[Spell]]:
    """Go through every case, in each round; return the spells by case."""
    spells: dict[str, list[Spell]] = {name: [] for name in cases}
    for number in range(1, ground.times + 1):
        for name, case in cases.items():
            ground.say(f"round {number} of {ground.times}: {name}")
            spells[name].append(case(ground, f"{name}-{number}"))
    return spells


def await_noticed(client: Client) -> tuple[str, ...]:
    """Wait until a server has noticed that its disk fails it; return why it can't be said that it has."""
    noticed = await_true(lambda: client.info("persistence")["aof_last_write_status"] == "err", NOTICE_TIMEOUT_S)
    return () if noticed else (f"the server did not notice within {NOTICE_TIMEOUT_S:g} s that its disk fails it",)


def last_words(server: Embedded) -> str:
    """Return what a server has logged last that exited with an error of its own; empty if it did not."""
    return server.log().splitlines()[-1] if server.status == 1 else ""


def accounts_of(spells: Sequence[Spell]) -> list[Account]:
    """Return the accounts of all spells."""
    return [account for spell in spells for account in spell.accounts]


def doubts_of(spells: Sequence[Spell]) -> list[str]:
    """Return the doubts of all spells, each once."""
    return list(dict.fromkeys(doubt for spell in spells for doubt in spell.doubts))


def is_refusal(write: Record) -> bool:
    """Whether a write was refused because the server can't write it down."""
    return write.outcome is Outcome.FAIL and "MISCONF" in write.error


def judge_refusals(criterion: str, claim: str, spells: Sequence[Spell]) -> Finding:
    """Judge that every write was refused with MISCONF, and that the health check told why."""

    def check() -> _Judged:
        writes = [record for spell in spells for record in spell.writes]
        strange = [record for record in writes if not is_refusal(record)]
        measured = (Measurement("refused with MISCONF", len(writes) - len(strange), "writes", len(writes), "all"),)
        if strange:
            ended = strange[0].error or strange[0].outcome
            return Verdict.FAIL, f"{len(strange)} of {len(writes)} writes ended otherwise, first {strange[0].value}: {ended}", measured
        reports = [spell.health for spell in spells if spell.health]
        wrong = [report for report in reports if report.writable or not report.ready or Reason.DISK_FAILING not in report.reasons]
        if wrong:
            told = ", ".join(wrong[0].reasons) or "nothing amiss"
            return Verdict.FAIL, f"the health check said {told}, ready {wrong[0].ready}, writable {wrong[0].writable}", measured
        unasked = [] if len(reports) == len(spells) else ["the health check was not asked each time"]
        return _unless_doubted([*doubts_of(spells), *unasked, *_few(writes, "writes")], measured)

    return judge(criterion, claim, check)


def judge_reads(criterion: str, claim: str, spells: Sequence[Spell]) -> Finding:
    """Judge that the server lived, and answered every read."""

    def check() -> _Judged:
        reads = [record for spell in spells for record in spell.reads]
        failed = [record for record in reads if record.outcome is not Outcome.OK]
        measured = (Measurement("answered", len(reads) - len(failed), "reads", len(reads), "all"),)
        if ended := sum(not spell.survived for spell in spells):
            return Verdict.FAIL, f"the server ended, {ended} of {len(spells)} times", measured
        if failed:
            return Verdict.FAIL, f"{len(failed)} of {len(reads)} reads failed, first {failed[0].error}", measured
        return _unless_doubted([*doubts_of(spells), *_few(reads, "reads")], measured)

    return judge(criterion, claim, check)


def known_end(finding: Finding, known: str, spells: Sequence[Spell]) -> Finding:
    """Say of a finding where the server is documented to end, unless more is wrong than that it did, and was missed then.

    Args:
        finding: that it went on, and was there for its callers.
        known: where that is.
        spells: that it judges.
    """
    failed = [(spell, read) for spell in spells for read in spell.reads if read.outcome is not Outcome.OK]
    more = any(spell.survived or not read.error.startswith("Unavailable") for spell, read in failed)
    strange = any(not spell.survived and EXITS not in spell.last_words for spell in spells)
    return finding if more or strange else dataclasses.replace(finding, known=known)


def judge_recovery(criterion: str, claim: str, spells: Sequence[Spell], *, by_itself: bool) -> Finding:
    """Judge that nothing was amiss after the last step; and, where no step should be needed for them, that writes came back before it."""

    def check() -> _Judged:
        took_s = [spell.returned_s for spell in spells if spell.returned_s is not None]
        recoveries = Measurement("recoveries", sum(not spell.left for spell in spells), "", len(spells), "all")
        slowest = Measurement("slowest return of the writes", round(max(took_s, default=0.0), 2), "s", len(took_s))
        measured = (recoveries, slowest) if by_itself else (recoveries,)
        if by_itself and len(took_s) < len(spells):
            return Verdict.FAIL, f"writes did not come back by themselves, {len(spells) - len(took_s)} of {len(spells)} times", measured
        if left := [spell.left for spell in spells if spell.left]:
            return Verdict.FAIL, f"{len(left)} of {len(spells)} times it is still amiss, first {', '.join(left[0])}", measured
        return _unless_doubted(doubts_of(spells), measured)

    return judge(criterion, claim, check)


def judge_lost(criterion: str, claim: str, spells: Sequence[Spell]) -> Finding:
    """Judge a negative control: that what was acknowledged is found to be lost."""

    def check() -> _Judged:
        accounts = accounts_of(spells)
        acknowledged, lost = sum(each.acknowledged for each in accounts), sum(len(each.lost) for each in accounts)
        measured = (Measurement("acknowledged writes lost", lost, "writes", acknowledged, "> 0"),)
        unseen = [] if accounts and all(each.lost for each in accounts) else ["nothing was found to be lost"]
        return _unless_doubted([*doubts_of(spells), *unseen], measured)

    return judge(criterion, claim, check)


def _unless_doubted(doubts: Sequence[str], measured: tuple[Measurement, ...]) -> _Judged:
    return (Verdict.INCONCLUSIVE if doubts else Verdict.PASS), "; ".join(doubts), measured


def _few(records: Sequence[Record], what: str) -> list[str]:
    return [f"only {len(records)} {what} fell into it, {FEWEST_CALLS} are needed"] if len(records) < FEWEST_CALLS else []
