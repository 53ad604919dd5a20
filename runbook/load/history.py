"""Every operation of a run, recorded outside of Redis: when it should have started, when it did, when it ended, and how."""

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields


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


class History:
    """The records of a run, in the order in which the operations ended."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.records = tuple(sorted(records, key=lambda record: record.done_ns))

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)

    def __repr__(self) -> str:
        counts = ", ".join(f"{self.count(outcome)} {outcome}" for outcome in Outcome)
        return f"<History of {len(self)} operations: {counts}>"

    def count(self, outcome: Outcome) -> int:
        """Count the operations that ended so."""
        return sum(record.outcome is outcome for record in self.records)
