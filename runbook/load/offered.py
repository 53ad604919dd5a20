"""A load that was offered and what it measured: what evidence keeps of it, and what pictures and comparisons are made from."""

import dataclasses
import json
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runbook.load.histogram import Histogram
from runbook.load.plan import Plan
from runbook.load.recording import LATENCY, Cell, Recording

# Format 1 had no control; seconds in which the host stalled were left out instead.
FORMAT, READABLE = 2, (1, 2)
COUNTS, MEASURES = ("sent", "unsent", "lost"), ("seconds", "under_way", "peak_mib")


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened to the server or the host during a load.

    Attributes:
        at_ns: when it began, on the clock of `time.monotonic_ns`.
        took_ns: for how long it lasted; 0 for a moment.
        what: it was, such as `fork for a rewrite of the AOF`.
    """

    at_ns: int
    took_ns: int
    what: str


@dataclass(frozen=True, slots=True)
class Offered:
    """A load that was offered.

    Attributes:
        description: what tells loads apart that can't be compared: commands, sizes, keys, rate, connections, placement.
        recording: what was measured.
        marks: what happened meanwhile.
    """

    description: Mapping[str, Any]
    recording: Recording
    marks: tuple[Mark, ...] = field(default=())

    def histogram(self, operation: str | None = None, series: str = LATENCY) -> Histogram:
        """Return the latencies of the calls that succeeded."""
        return self.recording.histogram(series, operation)

    def to_json(self) -> str:
        """Write it down without loss."""
        return json.dumps(self.to_data())

    def to_data(self) -> dict[str, Any]:
        """Return it as what JSON can hold, without loss."""
        return {
            "format": FORMAT,
            "description": dict(self.description),
            **_recording_data(self.recording),
            "control": _recording_data(self.recording.control) if self.recording.control else None,
            "marks": [[mark.at_ns, mark.took_ns, mark.what] for mark in self.marks],
        }

    @classmethod
    def from_json(cls, text: str) -> "Offered":
        """Read what `to_json` wrote.

        Raises:
            ValueError: it is damaged, or of another version.
        """
        try:
            found = json.loads(text)
            if found["format"] not in READABLE:
                raise ValueError(f"it is of format {found['format']}, and {' and '.join(map(str, READABLE))} can be read")
            control = _recording(found["control"]) if found.get("control") else None
            marks = tuple(Mark(_whole(at_ns), _whole(took_ns), _text(what)) for at_ns, took_ns, what in found["marks"])
            return cls(dict(found["description"]), dataclasses.replace(_recording(found), control=control), marks)
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ValueError(f"this is no recording of a load: {error}") from error


def _recording_data(made: Recording) -> dict[str, Any]:
    return {
        "slice_ns": made.slice_ns,
        "cells": [[cell.slice, cell.series, cell.operation, list(cell.values_us), list(cell.counts)] for cell in made.cells],
        "errors": [[operation, text, count] for (operation, text), count in sorted(made.errors.items())],
        **{name: getattr(made, name) for name in (*COUNTS, *MEASURES)},
    }


def _recording(found: Mapping[str, Any]) -> Recording:
    cells = tuple(_cell(*row) for row in found["cells"])
    errors = Counter({(_text(operation), _text(text)): _whole(count) for operation, text, count in found["errors"]})
    seconds, under_way, peak_mib = (float(found[name]) for name in MEASURES)
    sent, unsent, lost = (_whole(found[name]) for name in COUNTS)
    return Recording(_whole(found["slice_ns"]), cells, errors, seconds, sent, unsent, lost, under_way, peak_mib)


def _cell(number: Any, series: Any, operation: Any, values: Any, counts: Any) -> Cell:
    if len(values) != len(counts):
        raise ValueError(f"{len(values)} latencies of {operation} have {len(counts)} counts")
    return Cell(_whole(number), _text(series), _text(operation), array("I", values), array("Q", counts))


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} stands where a whole number should")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} stands where a text should")
    return value


def describe(plan: Plan, placement: str) -> dict[str, Any]:
    """Describe a plan by what decides whether its latencies can be held against those of another one.

    Args:
        plan: what is offered.
        placement: which cores are used, in words.
    """
    traffic = plan.traffic
    return {
        "operations": dict(traffic.operations),
        "sizes_bytes": {str(size): weight for size, weight in traffic.sizes_bytes.items()},
        "keys": traffic.keys,
        "distribution": traffic.distribution,
        "ttl_s": traffic.ttl_s,
        "loop": "closed" if plan.rate_per_s is None else "open",
        "rate_per_s": plan.rate_per_s,
        "arrivals": plan.arrivals,
        "connections": plan.connections,
        "depth": plan.depth,
        "waiting": "spinning" if plan.spin else "sleeping",
        "tls": plan.config.tls,
        "placement": placement,
    }
