"""Counter-examples in words: which operation, of whom, when, and how it ended."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from runbook.load.history import Record

# How many are kept of each kind; the count tells how many there are.
MOST_KEPT = 20


@dataclass(frozen=True, slots=True)
class Example:
    """One value that is not as it should be.

    Attributes:
        kind: what is wrong, such as `lost`.
        value: the value.
        record: the operation that carried it; None if there is none.
    """

    kind: str
    value: str
    record: Record | None


def kept(kind: str, values: Iterable[str], records: Mapping[str, Record]) -> list[Example]:
    """Make examples of the first values of a kind.

    Args:
        kind: what is wrong with them.
        values: in the order in which they were found.
        records: the operation that carried each, as far as there is one.
    """
    return [Example(kind, value, records.get(value)) for value, _ in zip(values, range(MOST_KEPT), strict=False)]


def kept_records(kind: str, records: Sequence[Record]) -> list[Example]:
    """Make examples of the first operations of a kind."""
    return [Example(kind, record.value, record) for record in records[:MOST_KEPT]]


def counted(kinds: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Name each kind of which there is one, with its count and its first example."""
    return tuple(f"{len(values)} {kind}, first {values[0]}" for kind, values in kinds.items() if values)


def listed(examples: Iterable[Example], start_ns: int, limit: int) -> str:
    """Write counter-examples, a line each.

    Args:
        examples: of any kinds.
        start_ns: from which on seconds are told.
        limit: how many of each kind.
    """
    shown: dict[str, int] = {}
    lines = []
    for example in examples:
        shown[example.kind] = shown.get(example.kind, 0) + 1
        if shown[example.kind] <= limit:
            lines.append(_line(example, start_ns))
    return "\n".join(lines)


def _line(example: Example, start_ns: int) -> str:
    record = example.record
    if record is None:
        return f"{example.kind}: {example.value!r}, which nobody sent"
    sent_s, done_s = ((moment_ns - start_ns) / 1e9 for moment_ns in (record.sent_ns, record.done_ns))
    ending = f"{record.outcome} {record.error}".rstrip()
    who = f"worker {record.worker} {record.operation} {record.value!r}"
    return f"{example.kind}: {who}, sent at {sent_s:.6f} s, ended at {done_s:.6f} s: {ending}"
