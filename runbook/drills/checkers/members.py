"""The set: each member acknowledged is there, and nobody else is."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from runbook.drills.checkers.examples import MOST_KEPT, Example, counted, kept, kept_records, listed
from runbook.drills.checkers.losses import Losses
from runbook.drills.checkers.marks import Marks
from runbook.load.history import History, Outcome, Record

_PRESENT, _POSSIBLE = 1, 2


@dataclass(frozen=True, slots=True)
class Membership:
    """What became of every addition to a set.

    Attributes:
        attempted: how many additions were issued.
        acknowledged: how many were answered.
        failed: how many certainly did not happen, as far as the client knows.
        unknown: how many may have happened.
        unknown_present: how many of those are there.
        lost: acknowledged and absent, in the order of their acknowledgement.
        phantom: present, though never added or certainly not added.
        holes: lost, though what the same server wrote later survived, or though no outage followed.
        windows_s: for each outage, seconds from the first loss's acknowledgement to the last acknowledgement before it.
        lost_per_cut: how many were lost to each outage.
        examples: the first of each kind.
        start_ns: when the first operation was sent.
    """

    attempted: int
    acknowledged: int
    failed: int
    unknown: int
    unknown_present: int
    lost: tuple[str, ...] = field(repr=False)
    phantom: tuple[str, ...]
    holes: tuple[str, ...]
    windows_s: tuple[float, ...]
    lost_per_cut: tuple[int, ...]
    examples: tuple[Example, ...] = field(repr=False)
    start_ns: int = field(repr=False)

    @property
    def lost_window_s(self) -> float:
        """The largest of the windows."""
        return max(self.windows_s, default=0.0)

    @property
    def corrupt(self) -> tuple[str, ...]:
        """Name what no promise of durability allows, each with its count and first example."""
        return counted({"phantom": self.phantom, "holes": self.holes})

    def counter_examples(self, limit: int = 5) -> str:
        """Write the first operations of each kind that are not as they should be, a line each."""
        return listed(self.examples, self.start_ns, limit)


def membership(history: History, present: Iterable[str], cuts_ns: Sequence[int] = ()) -> Membership:
    """Account for every addition of a `Members` workload.

    Args:
        history: all additions, issued before, during and after the outages.
        present: the members as read back at the end, in any order.
        cuts_ns: when the server had ended, each time; what was sent after the last and acknowledged must be there without exception.
    """
    marks, losses = Marks(), Losses(cuts_ns)
    for value in present:
        marks.add(value, _PRESENT)
    records: dict[str, Record] = {}
    acknowledged = failed = unknown = unknown_present = 0
    start_ns = None
    for record in history:
        if record.operation != "SADD":
            continue
        value, outcome = record.value, record.outcome
        start_ns = record.sent_ns if start_ns is None or record.sent_ns < start_ns else start_ns
        there = marks[value] & _PRESENT
        if outcome is Outcome.FAIL:
            failed += 1
            if there and len(records) < MOST_KEPT:
                records[value] = record
            continue
        if there:
            marks.add(value, _POSSIBLE)
        if outcome is Outcome.OK:
            acknowledged += 1
            losses.note(record, kept=bool(there))
        else:
            unknown += 1
            unknown_present += there
    phantom = list(marks.having(_PRESENT))
    holes, tail = losses.parted()
    return Membership(
        attempted=acknowledged + failed + unknown,
        acknowledged=acknowledged,
        failed=failed,
        unknown=unknown,
        unknown_present=unknown_present,
        lost=tuple(record.value for record in losses.lost),
        phantom=tuple(phantom),
        holes=tuple(record.value for record in holes),
        windows_s=losses.windows_s,
        lost_per_cut=losses.per_cut,
        examples=(*kept("phantom", phantom, records), *kept_records("lost as a hole", holes), *kept_records("lost", tail)),
        start_ns=start_ns or 0,
    )
