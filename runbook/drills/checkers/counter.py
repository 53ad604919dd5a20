"""The counter: it holds at least what was acknowledged, and at most that and what may have happened."""

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from runbook.drills.checkers.examples import MOST_KEPT, Example, kept_records, listed
from runbook.load.history import History, Outcome, Record


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of every increment of a counter.

    Attributes:
        attempted: how many increments were issued.
        acknowledged: how many were answered.
        failed: how many certainly did not happen, as far as the client knows.
        unknown: how many may have happened.
        counted: what the counter held in the end.
        excusable: how many of those acknowledged the outages may have cost.
        examples: the newest increments that were acknowledged, if some are lost; those of unknown outcome, if some were counted too often.
        start_ns: when the first operation was sent.
    """

    attempted: int
    acknowledged: int
    failed: int
    unknown: int
    counted: int
    excusable: int
    examples: tuple[Example, ...] = field(repr=False)
    start_ns: int = field(repr=False)

    @property
    def lost(self) -> int:
        """How many of those acknowledged are not counted, at least: one of unknown outcome may stand in for another."""
        return max(0, self.acknowledged - self.counted)

    @property
    def excess(self) -> int:
        """How many were counted beyond all that can have happened."""
        return max(0, self.counted - self.acknowledged - self.unknown)

    @property
    def corrupt(self) -> tuple[str, ...]:
        """Name what no promise of durability allows, each with its count."""
        found = []
        if self.excess:
            found.append(f"{self.excess} counted too often: the counter holds {self.counted} of {self.acknowledged} + {self.unknown}")
        if self.lost > self.excusable:
            found.append(f"{self.lost} lost, where {self.excusable} may be: the counter holds {self.counted} of {self.acknowledged}")
        return tuple(found)

    def counter_examples(self, limit: int = 5) -> str:
        """Write the operations among which the lost, or the doubled ones, most likely are, a line each."""
        return listed(self.examples, self.start_ns, limit)


def tally(history: History, counted: int, cuts_ns: Sequence[int] = (), allowed_window_s: float = 0.0) -> Tally:
    """Account for every increment of a `Counter` workload.

    Args:
        history: all increments.
        counted: what the counter held in the end.
        cuts_ns: when the server had ended, each time.
        allowed_window_s: the newest increments before each cut that may be lost, in seconds.
    """
    cuts, window_ns = sorted(cuts_ns), round(allowed_window_s * 1e9)
    acknowledged = failed = unknown = excusable = 0
    recent: deque[int] = deque()  # acknowledged before the next cut, within the window
    epoch = 0
    newest: deque[Record] = deque(maxlen=MOST_KEPT)
    open_ended: list[Record] = []
    start_ns = None
    for record in history:
        if record.operation != "INCR":
            continue
        start_ns = record.sent_ns if start_ns is None or record.sent_ns < start_ns else start_ns
        if record.outcome is Outcome.FAIL:
            failed += 1
            continue
        if record.outcome is Outcome.UNKNOWN:
            unknown += 1
            if len(open_ended) < MOST_KEPT:
                open_ended.append(record)
            continue
        acknowledged += 1
        newest.append(record)
        if epoch < len(cuts) and record.done_ns >= cuts[epoch]:
            excusable += len(recent)
            recent.clear()
            epoch = bisect_right(cuts, record.done_ns)
        if not window_ns or not cuts:
            continue
        if epoch and record.sent_ns < cuts[epoch - 1]:
            excusable += 1  # its reply may have been under way at the cut
        elif epoch < len(cuts):
            recent.append(record.done_ns)
            while recent[0] < record.done_ns - window_ns:
                recent.popleft()
    excusable += len(recent)
    lost, excess = acknowledged > counted, counted > acknowledged + unknown
    return Tally(
        attempted=acknowledged + failed + unknown,
        acknowledged=acknowledged,
        failed=failed,
        unknown=unknown,
        counted=counted,
        excusable=excusable,
        examples=(
            *(kept_records("among the lost", [*reversed(newest)]) if lost else ()),
            *(kept_records("perhaps counted twice", open_ended) if excess else ()),
        ),
        start_ns=start_ns or 0,
    )
