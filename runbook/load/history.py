"""Every operation of a run, recorded outside of Redis: when it should have started, when it did, when it ended, and how."""

import enum
import operator
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Protocol, Self


class Outcome(enum.StrEnum):
    """How an operation ended."""

    OK = "ok"  # acknowledged, with the reply expected
    FAIL = "fail"  # certainly did not happen
    UNKNOWN = "unknown"  # may have happened


@dataclass(frozen=True, slots=True)
class Record:
    """One operation; times are of `time.monotonic_ns`.

    Attributes:
        worker: number of the caller that issued it.
        operation: its name, such as `GET`.
        value: what identifies it: the unique value that a write carried, or empty.
        intended_ns: when the pacer wanted it to start.
        sent_ns: when it started.
        done_ns: when it ended.
        outcome: how.
        error: the error's type and text; empty for `ok`.
    """

    worker: int
    operation: str
    value: str
    intended_ns: int
    sent_ns: int
    done_ns: int
    outcome: Outcome
    error: str = ""

    @property
    def latency_ns(self) -> int:
        """How long a caller would have waited: from the intended start."""
        return self.done_ns - self.intended_ns

    @property
    def service_ns(self) -> int:
        """How long the call took once it was made."""
        return self.done_ns - self.sent_ns


# Of a history written as a table.
COLUMNS = tuple(field.name for field in fields(Record))
_DONE = operator.attrgetter("done_ns")


# A history on disk that is no longer than this is held once it has been read: a drill reads its own ten times over.
MOST_HELD = 500_000


class Stored(Protocol):
    """Records that are kept elsewhere, in the order in which the operations ended."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Record]: ...


class History:
    """The records of a run, in the order in which the operations ended.

    Args:
        records: in any order; they are held in memory.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self._records: Stored = tuple(sorted(records, key=_DONE))

    @classmethod
    def stored(cls, records: Stored) -> Self:
        """Stand on records that are kept elsewhere, and read again each time if there are more than half a million."""
        history = cls(())
        history._records = records
        return history

    def __iter__(self) -> Iterator[Record]:
        if not isinstance(self._records, tuple) and len(self._records) <= MOST_HELD:
            self._records = tuple(self._records)
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def __repr__(self) -> str:
        counts = Counter(record.outcome for record in self)
        return f"<History of {len(self)} operations: {', '.join(f'{counts[outcome]} {outcome}' for outcome in Outcome)}>"

    def count(self, outcome: Outcome) -> int:
        """Count the operations that ended so."""
        return sum(record.outcome is outcome for record in self)
