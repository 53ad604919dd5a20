"""What a run of the engine measured: latencies in slices of time, and what failed; its size does not grow with the number of calls."""

from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from runbook.load.histogram import Histogram, bucket_us

SECOND_NS = 1_000_000_000
# A run is cut into slices, so that a stall can be seen, and so that its share can be compared with that of the control; so many at most.
MOST_SLICES = 1200
_WIDTHS_NS = tuple(round(width_s * SECOND_NS) for width_s in (0.05, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600))
# Slices that are still being filled: replies that come later open theirs again.
_OPEN_SLICES = 4

# Distinct failures that are kept apart; a server that counts in its errors could fill our memory.
MOST_ERRORS = 500
OTHERS = "another failure"

# What is recorded of a call: from its intended start to its end; from its sending to its end; how long every connection was busy at its
# moment; and how late it was sent for no fault but ours. The first is the sum of the other three.
LATENCY, SERVICE, QUEUE, LATE = "latency", "service", "queue", "late"
# What the server can answer for: the latency without what our sender was late, and without what the server's process waited for a CPU.
RESPONSE = "response"


class Cell(NamedTuple):
    """Latencies of one series, of one operation, in one slice of time.

    Attributes:
        slice: its start, as the number of slices since the zero of `time.monotonic_ns`.
        series: `latency`, `service`, `queue`, `late` or `response`.
        operation: which.
        values_us: each latency that occurred, in µs.
        counts: how often.
    """

    slice: int
    series: str
    operation: str
    values_us: "array[int]"
    counts: "array[int]"


@dataclass(frozen=True, slots=True)
class Recording:
    """What a run, or several together, measured.

    Attributes:
        slice_ns: width of the slices.
        cells: latencies of the calls that succeeded.
        errors: how many calls failed, by operation and what was answered; the operation is empty for replies that nobody had asked for.
        seconds: how long the load took, up to the last reply.
        sent: calls that were sent.
        unsent: calls whose time came while every connection was busy or lost, and which were never sent.
        lost: connections that the server closed.
        under_way: calls under way on average, counted apart from their latencies, for Little's law.
        peak_mib: the most memory that a process of the engine held, in MiB.
        control: the same load on a server without a database, interleaved call by call; None if there was none.
    """

    slice_ns: int
    cells: tuple[Cell, ...] = ()
    errors: Counter[tuple[str, str]] = field(default_factory=Counter)
    seconds: float = 0.0
    sent: int = 0
    unsent: int = 0
    lost: int = 0
    under_way: float = 0.0
    peak_mib: float = 0.0
    control: "Recording | None" = None

    def histogram(self, series: str = LATENCY, operation: str | None = None) -> Histogram:
        """Merge one series over all slices.

        Args:
            series: `latency`, `service`, `queue`, `late` or `response`.
            operation: only this one; all by default.
        """
        return Histogram(
            pair
            for cell in self.cells
            if cell.series == series and operation in (None, cell.operation)
            for pair in zip(cell.values_us, cell.counts, strict=True)
        )

    def slices(self, operation: str | None = None, series: str = LATENCY) -> dict[int, list[tuple[int, int]]]:
        """Return the pairs of latency in µs and count of each slice, by the slice's number, ascending."""
        found: dict[int, list[tuple[int, int]]] = {}
        for cell in sorted(self.cells, key=lambda cell: cell.slice):
            if cell.series == series and operation in (None, cell.operation):
                found.setdefault(cell.slice, []).extend(zip(cell.values_us, cell.counts, strict=True))
        return found

    def count(self, operation: str | None = None) -> int:
        """Count the calls that succeeded."""
        return sum(sum(cell.counts) for cell in self.cells if cell.series == LATENCY and operation in (None, cell.operation))

    def failed(self, operation: str | None = None) -> Counter[str]:
        """Count the calls that failed, by what was answered."""
        found: Counter[str] = Counter()
        for (name, text), count in self.errors.items():
            if operation in (None, name):
                found[text] += count
        return found

    @property
    def operations(self) -> list[str]:
        """Every operation that was offered, in alphabetical order."""
        return sorted({cell.operation for cell in self.cells} | {operation for operation, _ in self.errors if operation})

    @property
    def rate_per_s(self) -> float:
        """Calls that succeeded a second."""
        return self.count() / self.seconds if self.seconds else 0.0


def together(recordings: Iterable[Recording], *, at_once: bool = False) -> Recording:
    """Merge recordings without loss.

    Args:
        recordings: at least one; all of the same width of slices.
        at_once: whether they ran at the same time, as processes of one run do.

    Raises:
        ValueError: the widths differ.
    """
    found = list(recordings)
    widths = {recording.slice_ns for recording in found}
    if len(widths) != 1:
        raise ValueError(f"only recordings of the same slices can be merged, got widths of {sorted(widths)} ns")
    seconds = [recording.seconds for recording in found]
    controls = [recording.control for recording in found if recording.control]
    return Recording(
        widths.pop(),
        tuple(cell for recording in found for cell in recording.cells),
        sum((recording.errors for recording in found), Counter()),
        max(seconds) if at_once else sum(seconds),
        sum(recording.sent for recording in found),
        sum(recording.unsent for recording in found),
        sum(recording.lost for recording in found),
        sum(recording.under_way * (1 if at_once else recording.seconds / max(sum(seconds), 1e-9)) for recording in found),
        max(recording.peak_mib for recording in found),
        together(controls, at_once=at_once) if len(controls) == len(found) else None,
    )


def slice_width_ns(duration_s: float) -> int:
    """Choose the width of slices for a run: 50 ms, and more for a run of over a minute."""
    return next((width for width in _WIDTHS_NS if duration_s * SECOND_NS / width <= MOST_SLICES), _WIDTHS_NS[-1])


class Recorder:
    """Collects what the engine sees, at a few hundred nanoseconds a call.

    Args:
        slice_ns: width of the slices.
        begin_ns: calls that should have started before are warm-up, and not recorded unless they fail.
    """

    def __init__(self, slice_ns: int, begin_ns: int) -> None:
        self.slice_ns, self.begin_ns = slice_ns, begin_ns
        self._open: dict[int, dict[tuple[str, str], dict[int, int]]] = {}
        self._packed: list[Cell] = []
        self.errors: Counter[tuple[str, str]] = Counter()

    def call(self, operation: str, intended_ns: int, sent_ns: int, done_ns: int) -> None:
        """Record a call that succeeded."""
        if intended_ns < self.begin_ns:
            return
        counts = self._counts(intended_ns // self.slice_ns)
        row = counts[LATENCY, operation]
        us = bucket_us(done_ns - intended_ns)
        row[us] = row.get(us, 0) + 1
        row = counts[SERVICE, operation]
        us = bucket_us(done_ns - sent_ns)
        row[us] = row.get(us, 0) + 1

    def sent(self, operation: str, intended_ns: int, free_ns: int, sent_ns: int) -> None:
        """Record what kept a call from being sent at its moment: the first connection was free at `free_ns`, and the rest was our fault."""
        if intended_ns < self.begin_ns:
            return
        counts = self._counts(intended_ns // self.slice_ns)
        could_ns = max(intended_ns, free_ns)
        row = counts[QUEUE, operation]
        us = bucket_us(could_ns - intended_ns)
        row[us] = row.get(us, 0) + 1
        row = counts[LATE, operation]
        us = bucket_us(sent_ns - could_ns)
        row[us] = row.get(us, 0) + 1

    def response(self, operation: str, intended_ns: int, response_ns: int) -> None:
        """Record the response time of a call that succeeded."""
        if intended_ns < self.begin_ns:
            return
        row = self._counts(intended_ns // self.slice_ns)[RESPONSE, operation]
        us = bucket_us(max(1, response_ns))
        row[us] = row.get(us, 0) + 1

    def batch(self, tally: Iterable[tuple[str, int]], sent_ns: int, done_ns: int) -> None:
        """Record calls that were sent together and ended together: how many of each operation."""
        if sent_ns < self.begin_ns:
            return
        counts = self._counts(sent_ns // self.slice_ns)
        us = bucket_us(done_ns - sent_ns)
        for operation, count in tally:
            row = counts[LATENCY, operation]
            row[us] = row.get(us, 0) + count

    def error(self, operation: str, text: str, count: int = 1) -> None:
        """Count calls that failed, those of the warm-up included."""
        if len(self.errors) >= MOST_ERRORS and (operation, text) not in self.errors:
            text = OTHERS
        self.errors[operation, text] += count

    def finish(self) -> tuple[Cell, ...]:
        """Return all that was recorded."""
        for number in list(self._open):
            self._pack(number)
        return tuple(self._packed)

    def _counts(self, number: int) -> "dict[tuple[str, str], dict[int, int]]":
        counts = self._open.get(number)
        if counts is None:
            if len(self._open) >= _OPEN_SLICES:
                self._pack(min(self._open))
            counts = self._open[number] = _Rows()
        return counts

    def _pack(self, number: int) -> None:
        for (series, operation), counts in self._open.pop(number).items():
            self._packed.append(Cell(number, series, operation, array("I", counts), array("Q", counts.values())))


class _Rows(dict[tuple[str, str], dict[int, int]]):
    def __missing__(self, key: tuple[str, str]) -> dict[int, int]:
        row: dict[int, int] = {}
        self[key] = row
        return row
