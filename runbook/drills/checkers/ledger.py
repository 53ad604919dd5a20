"""The append log: each append acknowledged is there once, in order, and nothing else is."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from runbook.drills.checkers.examples import MOST_KEPT, Example, counted, kept, kept_records, listed
from runbook.drills.checkers.losses import Losses
from runbook.drills.checkers.marks import Marks, split
from runbook.load.history import History, Outcome, Record

_PRESENT, _POSSIBLE, _TWICE = 1, 2, 4


@dataclass(frozen=True, slots=True)
class Account:
    """What became of every append to a ledger.

    Attributes:
        attempted: how many appends were issued.
        acknowledged: how many were answered.
        failed: how many certainly did not happen, as far as the client knows.
        unknown: how many may have happened.
        unknown_present: how many of those are there.
        lost: acknowledged and absent, in the order of their acknowledgement.
        duplicated: present more than once.
        phantom: present, though never attempted or certainly not happened.
        out_of_order: present behind a later one of the same worker.
        holes: lost, though what the same server wrote later survived, or though no outage followed: not the tail of the log.
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
    duplicated: tuple[str, ...]
    phantom: tuple[str, ...]
    out_of_order: tuple[str, ...]
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
        kinds = {"duplicated": self.duplicated, "phantom": self.phantom, "out of order": self.out_of_order, "holes": self.holes}
        return counted(kinds)

    def counter_examples(self, limit: int = 5) -> str:
        """Write the first operations of each kind that are not as they should be, a line each; losses that are holes are told as such."""
        return listed(self.examples, self.start_ns, limit)


def account(history: History, present: Iterable[str], cuts_ns: Sequence[int], *, operation: str = "RPUSH", ordered: bool = True) -> Account:
    """Account for every append of a `Ledger` workload, or for whatever else adds a value of its own.

    Args:
        history: all appends, issued before, during and after the outages.
        present: the list as read back at the end, in its order.
        cuts_ns: when the server had ended, each time; what was sent after the last and acknowledged must be there without exception.
        operation: that adds a value.
        ordered: whether what is present keeps the order in which it was added.
    """
    marks = Marks()
    duplicated, out_of_order = _read(present, marks)
    if not ordered:
        out_of_order = []
    wanted = {*duplicated[:MOST_KEPT], *out_of_order[:MOST_KEPT]}
    records: dict[str, Record] = {}
    losses = Losses(cuts_ns)
    acknowledged = failed = unknown = unknown_present = 0
    start_ns = None
    for record in history:
        if record.operation != operation:
            continue
        value, outcome = record.value, record.outcome
        start_ns = record.sent_ns if start_ns is None or record.sent_ns < start_ns else start_ns
        there = marks[value] & _PRESENT
        if outcome is Outcome.FAIL:
            failed += 1
            if there and len(records) < 3 * MOST_KEPT:
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
        if wanted and value in wanted:
            records[value] = record
    phantom = [*marks.having(_PRESENT), *marks.having(_PRESENT | _TWICE)]
    holes, tail = losses.parted()
    return Account(
        attempted=acknowledged + failed + unknown,
        acknowledged=acknowledged,
        failed=failed,
        unknown=unknown,
        unknown_present=unknown_present,
        lost=tuple(record.value for record in losses.lost),
        duplicated=tuple(duplicated),
        phantom=tuple(phantom),
        out_of_order=tuple(out_of_order),
        holes=tuple(record.value for record in holes),
        windows_s=losses.windows_s,
        lost_per_cut=losses.per_cut,
        examples=(
            *kept("duplicated", duplicated, records),
            *kept("phantom", phantom, records),
            *kept("out of order", out_of_order, records),
            *kept_records("lost as a hole", holes),
            *kept_records("lost", tail),
        ),
        start_ns=start_ns or 0,
    )


def _read(present: Iterable[str], marks: Marks) -> tuple[list[str], list[str]]:
    """Mark what is present, and return what is there more than once, and what stands behind a later one of its worker."""
    duplicated, behind = [], []
    highest: dict[str, int] = {}
    for value in present:
        if before := marks.add(value, _PRESENT):
            if not before & _TWICE:
                duplicated.append(value)
                marks.add(value, _TWICE)
            continue  # a duplicate is counted as such, once
        worker, number = split(value)
        if number < 0:
            continue  # not one of ours: a phantom
        if number < highest.get(worker, -1):
            behind.append(value)
        else:
            highest[worker] = number
    return duplicated, behind
