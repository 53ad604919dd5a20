"""How long after their deadlines calls ended, and how much of that the control, which has a deadline and no Redis, does not explain."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from runbook.evidence import Measurement
from runbook.load import Record
from runbook.load.wait_control import Lateness

# How late a caller may get its answer or its error after its deadline.
GRACE_S = 0.05


@dataclass(frozen=True, slots=True)
class Overshoot:
    """A call that ended, and its deadline.

    Attributes:
        call: which.
        seen_ms: how long after its deadline it ended, as its caller saw it; 0 for one in time.
        excess_ms: what of that is beyond the control.
    """

    call: Record
    seen_ms: float
    excess_ms: float


def overshoots(calls: Iterable[Record], deadline_s: float, control: Lateness) -> list[Overshoot]:
    """Return for each call how long after its deadline it ended.

    Args:
        calls: that have ended, whatever their outcome.
        deadline_s: by when each has to end, in seconds from its start.
        control: how late waits without a Redis ended meanwhile.
    """

    def overshoot(call: Record) -> Overshoot:
        due_ns = call.sent_ns + round(deadline_s * 1e9)
        return Overshoot(call, max(0, call.done_ns - due_ns) / 1e6, control.excess_ns(due_ns, call.done_ns) / 1e6)

    return [overshoot(call) for call in calls]


def judge_overshoots(found: Sequence[Overshoot], control: Lateness) -> tuple[str, tuple[Measurement, ...]]:
    """Tell which calls ended late by the client's fault, empty if none did, and what was measured.

    Args:
        found: of all calls that are judged together.
        control: how late waits without a Redis ended meanwhile.
    """
    worst = max(found, key=lambda each: each.excess_ms, default=None)
    measured = (
        Measurement(
            "latest end after the deadline, beyond the control",
            round(worst.excess_ms, 1) if worst else 0.0,
            "ms",
            len(found),
            f"≤ {GRACE_S * 1e3:g} ms",
        ),
        Measurement("the same as callers saw it", round(max((each.seen_ms for each in found), default=0.0), 1), "ms", len(found)),
        control_measurement(control),
    )
    late = [each for each in found if each.excess_ms > GRACE_S * 1e3]
    if not worst or not late:
        return "", measured
    return (
        f"{len(late)} calls ended late, first {late[0].call.operation} {late[0].seen_ms:.0f} ms after its deadline, worst "
        f"{worst.call.operation} {worst.seen_ms:.0f} ms, {worst.excess_ms:.0f} ms of them beyond the control"
    ), measured


def control_measurement(control: Lateness) -> Measurement:
    """Return the worst lateness of the control itself, which needs no Redis."""
    worst_ms = control.worst_ms
    return Measurement("latest wait of the control", None if worst_ms is None else round(worst_ms, 1), "ms", len(control.waits))
