"""Pure functions from a recorded history to what became of each operation."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from runbook.load.history import History, Outcome, Record


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
        holes: lost, though one sent later and acknowledged before the outage survived: not the tail of the log.
        lost_window_s: seconds from the first loss's acknowledgement to the end of what was acknowledged before the outage.
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
    lost_window_s: float

    @property
    def corrupt(self) -> tuple[str, ...]:
        """Name what no promise of durability allows, each with its count and first example."""
        kinds = {"duplicated": self.duplicated, "phantom": self.phantom, "out of order": self.out_of_order, "holes": self.holes}
        return tuple(f"{len(values)} {kind}, first {values[0]}" for kind, values in kinds.items() if values)


def account(history: History, present: Sequence[str], cut_ns: int) -> Account:
    """Account for every append of a `Ledger` workload.

    Args:
        history: all appends, issued before, during and after one outage.
        present: the list as read back at the end, in its order.
        cut_ns: when the server had ended; what was sent later and acknowledged must be there without exception.
    """
    appends = [record for record in history if record.operation == "RPUSH"]
    acknowledged = [record for record in appends if record.outcome is Outcome.OK]
    unknown = [record for record in appends if record.outcome is Outcome.UNKNOWN]
    counts = Counter(present)
    possible = {record.value for record in acknowledged} | {record.value for record in unknown}

    lost = [record for record in acknowledged if record.value not in counts]
    # An append sent before the cut may have waited for the next server, so only what was *acknowledged* before it is the old one's.
    kept_before_cut = [record.sent_ns for record in acknowledged if record.value in counts and record.done_ns < cut_ns]
    last_kept_ns = max(kept_before_cut, default=0)
    # Whatever was sent after a reply was read stands behind it in the log, whoever sent it.
    holes = [record for record in lost if record.sent_ns >= cut_ns or record.done_ns <= last_kept_ns]
    return Account(
        attempted=len(appends),
        acknowledged=len(acknowledged),
        failed=len(appends) - len(acknowledged) - len(unknown),
        unknown=len(unknown),
        unknown_present=sum(record.value in counts for record in unknown),
        lost=_values(lost),
        duplicated=tuple(value for value, count in counts.items() if count > 1),
        phantom=tuple(value for value in counts if value not in possible),
        out_of_order=_out_of_order(present),
        holes=_values(holes),
        lost_window_s=_window_s(lost, acknowledged, cut_ns),
    )


def _values(records: Sequence[Record]) -> tuple[str, ...]:
    return tuple(record.value for record in records)


def _out_of_order(present: Sequence[str]) -> tuple[str, ...]:
    highest: dict[str, int] = {}
    behind = []
    for value in dict.fromkeys(present):  # a duplicate is counted as such, once
        worker, _, number = value.rpartition(":")
        if not number.isdecimal():
            continue  # not one of ours: a phantom
        if int(number) < highest.get(worker, -1):
            behind.append(value)
        highest[worker] = max(int(number), highest.get(worker, -1))
    return tuple(behind)


def _window_s(lost: Sequence[Record], acknowledged: Sequence[Record], cut_ns: int) -> float:
    if not lost:
        return 0.0
    last_ns = max((record.done_ns for record in acknowledged if record.done_ns < cut_ns), default=lost[0].done_ns)
    return max(0.0, (last_ns - lost[0].done_ns) / 1e9)
