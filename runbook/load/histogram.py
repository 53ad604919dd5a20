"""Latencies in HdrHistogram's form: three significant digits from 1 µs to 60 s, merged without loss, and what lies beyond is counted."""

import bisect
import io
import itertools
from collections.abc import Iterable, Sequence
from typing import overload

from hdrh.histogram import HdrHistogram

LOWEST_US, HIGHEST_US, DIGITS = 1, 60_000_000, 3
# Below so many µs each value has a bucket of its own (2,048 = the power of two that resolves three digits).
EXACT_BELOW_US = 2048
_EXACT_BITS = EXACT_BELOW_US.bit_length() - 1


def bucket_us(latency_ns: int) -> int:
    """Round a latency to µs, and to the lowest value that HdrHistogram does not tell apart from it."""
    us = (latency_ns + 500) // 1000
    if us < EXACT_BELOW_US:
        return us or 1
    shift = us.bit_length() - _EXACT_BITS
    return us >> shift << shift


class Histogram(Sequence[float]):
    """Latencies, ascending: `histogram[rank]` is one of them in ms, rounded to three digits.

    Args:
        counted: pairs of a latency in µs and how often it occurred.
    """

    def __init__(self, counted: Iterable[tuple[int, int]] = ()) -> None:
        self._hdr = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
        self.out_of_range = 0  # latencies above 60 s; they are counted and have no value
        for us, count in counted:
            self.add(us, count)
        self._index: tuple[list[int], list[int]] | None = None

    def __repr__(self) -> str:
        beyond = f", {self.out_of_range} above 60 s" if self.out_of_range else ""
        return f"<Histogram of {len(self):,} latencies{beyond}>"

    def add(self, us: int, count: int = 1) -> None:
        """Count a latency, given in µs."""
        self._index = None
        if us > HIGHEST_US or not self._hdr.record_value(max(LOWEST_US, us), count):
            self.out_of_range += count

    def merge(self, other: "Histogram") -> None:
        """Take the latencies of another one in, without loss."""
        self._index = None
        self._hdr.add(other._hdr)
        self.out_of_range += other.out_of_range

    def pairs(self) -> list[tuple[int, int]]:
        """Return each latency in µs with how often it occurred, ascending."""
        totals, values = self._ranks()
        return [(value, total - before) for value, total, before in zip(values, totals, [0, *totals], strict=False)]

    def __len__(self) -> int:
        return int(self._hdr.get_total_count())

    @overload
    def __getitem__(self, rank: int) -> float: ...
    @overload
    def __getitem__(self, rank: slice) -> list[float]: ...
    def __getitem__(self, rank: int | slice) -> float | list[float]:
        if isinstance(rank, slice):
            return [self[number] for number in range(*rank.indices(len(self)))]
        if not -len(self) <= rank < len(self):
            raise IndexError(rank)
        totals, values = self._ranks()
        return values[bisect.bisect(totals, rank % len(self))] / 1e3

    def percentile_distribution(self) -> str:
        """Write the latencies in ms as `.hgrm`, which HdrHistogram's own plotter reads."""
        file = io.BytesIO()
        self._hdr.output_percentile_distribution(file, 1000.0)
        return file.getvalue().decode()

    def encoded(self) -> str:
        """Return HdrHistogram's compressed form (V2, base64), which its implementations in other languages read."""
        return bytes(self._hdr.encode()).decode()

    @classmethod
    def decoded(cls, text: str) -> "Histogram":
        """Read what `encoded` returned.

        Raises:
            ValueError: it is no such text.
        """
        histogram = cls()
        try:
            histogram._hdr = HdrHistogram.decode(text)
        except Exception as error:  # the package raises errors of several modules
            raise ValueError(f"this is no encoded histogram: {error}") from error
        return histogram

    def _ranks(self) -> tuple[list[int], list[int]]:
        if self._index is None:
            # The package's own iterator takes twenty times as long, in empty buckets.
            found = [(index, count) for index, count in enumerate(self._hdr.counts) if count]
            lowest = [int(self._hdr.get_value_from_index(index)) for index, _ in found]
            self._index = list(itertools.accumulate(count for _, count in found)), lowest
        return self._index
