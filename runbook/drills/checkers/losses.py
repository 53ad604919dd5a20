"""What was acknowledged and is gone, held against the outages: did each of them take nothing but the tail of the log, and how much?"""

from bisect import bisect_right
from collections.abc import Sequence

from runbook.load.history import Record


class Losses:
    """Acknowledged writes, noted in the order of their acknowledgement; only those that are lost are held.

    What was acknowledged between two cuts was one server's, so that its losses form the tail of its part of the log. A write sent before a
    cut may have waited for the next server, or its reply may have been under way at the cut: such a loss is put down to that cut.

    Args:
        cuts_ns: when the server had ended, each time.
    """

    def __init__(self, cuts_ns: Sequence[int]) -> None:
        self.cuts_ns = sorted(cuts_ns)
        self.lost: list[Record] = []
        epochs = len(self.cuts_ns) + 1
        self._last_ns: list[int | None] = [None] * epochs
        self._last_kept_ns = [0] * epochs

    def note(self, record: Record, *, kept: bool) -> None:
        """Note a write that was acknowledged.

        Args:
            record: the write; none that was noted before was acknowledged later.
            kept: whether it is there.
        """
        epoch = bisect_right(self.cuts_ns, record.done_ns) if self.cuts_ns else 0
        self._last_ns[epoch] = record.done_ns
        if not kept:
            self.lost.append(record)
        elif record.sent_ns > self._last_kept_ns[epoch]:
            self._last_kept_ns[epoch] = record.sent_ns

    def parted(self) -> tuple[list[Record], list[Record]]:
        """Return the holes, lost though no outage followed or though what one server had to write later is there; and all other losses."""
        holes: list[Record] = []
        tail: list[Record] = []
        for record in self.lost:
            (holes if self._is_hole(record) else tail).append(record)
        return holes, tail

    @property
    def per_cut(self) -> tuple[int, ...]:
        """How many were lost to each cut."""
        counts = [0] * len(self._last_ns)
        for record in self.lost:
            counts[bisect_right(self.cuts_ns, record.sent_ns)] += 1
        return tuple(counts[:-1])

    @property
    def windows_s(self) -> tuple[float, ...]:
        """Seconds from the first loss's acknowledgement to the last acknowledgement before the cut, for each cut."""
        first_ns: dict[int, int] = {}
        for record in self.lost:
            first_ns.setdefault(bisect_right(self.cuts_ns, record.sent_ns), record.done_ns)
        lasts_ns = self._last_ns[:-1]
        return tuple(
            max(0.0, (last_ns - first_ns[cut]) / 1e9) if cut in first_ns and last_ns is not None else 0.0
            for cut, last_ns in enumerate(lasts_ns)
        )

    def _is_hole(self, record: Record) -> bool:
        epoch = bisect_right(self.cuts_ns, record.done_ns)
        if record.sent_ns >= (self.cuts_ns[-1] if self.cuts_ns else 0):
            return True
        # Whatever was sent after a reply was read stands behind it in the log, whoever sent it.
        return bisect_right(self.cuts_ns, record.sent_ns) == epoch and record.done_ns <= self._last_kept_ns[epoch]
