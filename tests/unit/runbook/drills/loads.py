"""Loads written by hand: recordings as the engine would have made them."""

import dataclasses
from collections import Counter
from collections.abc import Iterable

from runbook.load.excess import Excess
from runbook.load.offered import Mark, Offered
from runbook.load.recording import SECOND_NS, Recorder, Recording

MS = 1_000_000
GAP_NS = 10 * MS


def recording(
    calls: Iterable[tuple[str, float]], *, late_ms: float = 0.0, queue_ms: float = 0.0, errors: dict[tuple[str, str], int] | None = None
) -> Recording:
    """Record calls that should have been sent every 10 ms: the operation of each, and how long it took once it was sent."""
    recorder, number, took_ns = Recorder(SECOND_NS // 20, 0), -1, 0
    for number, (operation, took_ms) in enumerate(calls):
        intended_ns = number * GAP_NS
        free_ns = intended_ns + round(queue_ms * MS)
        sent_ns = free_ns + round(late_ms * MS)
        recorder.sent(operation, intended_ns, free_ns, sent_ns)
        recorder.call(operation, intended_ns, sent_ns, sent_ns + round(took_ms * MS))
        recorder.response(operation, intended_ns, round((took_ms + queue_ms) * MS))
        took_ns += round(took_ms * MS)
    seconds = max(1, number + 1) * GAP_NS / SECOND_NS
    failed = Counter(errors or {})
    return Recording(
        recorder.slice_ns, recorder.finish(), failed, seconds, number + 1 + failed.total(), under_way=took_ns / SECOND_NS / seconds
    )


def offered(
    *took_ms: float,
    operation: str = "GET",
    late_ms: float = 0.0,
    errors: dict[tuple[str, str], int] | None = None,
    control_ms: Iterable[float] | None = None,
    marks: tuple[Mark, ...] = (),
) -> Offered:
    """Offer calls of one operation, which took so long; the control took 0.1 ms unless other times are given."""
    description = {"loop": "open", "rate_per_s": 100.0, "arrivals": "constant", "connections": 10, "waiting": "spinning", "placement": ""}
    made = recording(((operation, took) for took in took_ms), late_ms=late_ms, errors=errors)
    control = recording((operation, took) for took in (control_ms if control_ms is not None else [0.1] * len(took_ms)))
    return Offered(description, dataclasses.replace(made, control=control), marks)


def excess(share: float) -> Excess:
    """Tell exactly by which share a server leaves the limit more often than its control."""
    return Excess(1.0, share, 0.0, share, share, share, 10_000, 10_000, 40)
