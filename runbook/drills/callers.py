"""What callers saw of a fault: did each call end in time, with an answer or an error that is promised, and did every caller go on?"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from runbook.drills.overshoot import judge_overshoots, overshoots
from runbook.evidence import Measurement
from runbook.load import History, Load, Outcome, Record
from runbook.load.wait_control import Lateness

# What cachelib tells a caller who only reads, and one whose command must not be sent twice.
OF_READS = ("Unavailable", "PoolExhausted")
OF_WRITES = (*OF_READS, "OutcomeUnknown")
# Far longer than any recovery takes: who has not gone on by then does not.
PATIENCE_S = 10.0
# Fewer calls of a kind say nothing.
FEWEST_CALLS = 5
_LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class Callers:
    """Callers of one kind, what they called, and what they are promised.

    Attributes:
        name: one of them, such as `reader`.
        count: how many they are.
        history: every call.
        deadline_s: by when each has to end, in seconds.
        errors: names of those that they may get.
    """

    name: str
    count: int
    history: History
    deadline_s: float
    errors: tuple[str, ...]


def judge_endings(kinds: Sequence[Callers], control: Lateness) -> tuple[str, tuple[str, ...], tuple[Measurement, ...]]:
    """Tell what was wrong with how calls ended, empty if nothing was; why it can't be told; and what was measured.

    Args:
        kinds: of callers.
        control: how late waits without a Redis ended meanwhile.
    """
    strange = [call for kind in kinds for call in kind.history if not _is_promised(call, kind)]
    late, measured = judge_overshoots([each for kind in kinds for each in overshoots(kind.history, kind.deadline_s, control)], control)
    problems = []
    if strange:
        problems.append(f"{len(strange)} calls ended otherwise, first {strange[0].operation} with {strange[0].error or 'no error'}")
    if late:
        problems.append(late)
    scarce = [
        f"only {len(kind.history)} calls of the {kind.name} were made, {FEWEST_CALLS} are needed"
        for kind in kinds
        if len(kind.history) < FEWEST_CALLS
    ]
    return "; ".join(problems), tuple(scarce), measured


def judge_recovery(kinds: Sequence[Callers], spans_ns: Sequence[tuple[int, float]]) -> tuple[str, tuple[Measurement, ...]]:
    """Tell who did not go on by itself, empty if all did, and how long it took them.

    Args:
        kinds: of callers.
        spans_ns: for each fault, when it was healed, and when the next one began.
    """
    took_s: list[float] = []
    stuck = []
    for number, (healed_ns, until_ns) in enumerate(spans_ns, 1):
        for kind in kinds:
            recovered = recoveries_s(kind.history, healed_ns, until_ns)
            took_s += recovered.values()
            stuck += [f"{kind.name} {worker} after fault {number}" for worker in range(kind.count) if worker not in recovered]
    slowest_ms = round(max(took_s) * 1e3, 1) if took_s else None
    measured = (Measurement("slowest caller's first new call that succeeded, after the healing", slowest_ms, "ms", len(took_s)),)
    return (f"{len(stuck)} callers did not succeed again, first {stuck[0]}" if stuck else ""), measured


def recoveries_s(history: History, healed_ns: int, until_ns: float = float("inf")) -> dict[int, float]:
    """Tell for each caller how many seconds after the healing the first call that it made since then had succeeded.

    Args:
        history: every call.
        healed_ns: when that was.
        until_ns: when the next fault began; a success behind it is no recovery from this one.
    """
    first: dict[int, float] = {}
    for call in history:
        if call.sent_ns >= healed_ns and call.done_ns < until_ns and call.outcome is Outcome.OK:
            first.setdefault(call.worker, (call.done_ns - healed_ns) / 1e9)
    return first


def await_recovery(loads: Sequence[Load], healed_ns: int, callers: int) -> None:
    """Wait until so many callers, of all loads together, have succeeded again; for ten seconds at the most."""
    until_s = time.monotonic() + PATIENCE_S
    while sum(len(recoveries_s(load.history, healed_ns)) for load in loads) < callers and time.monotonic() < until_s:
        time.sleep(_LOOK_S)


def _is_promised(call: Record, kind: Callers) -> bool:
    return call.outcome is Outcome.OK or call.error.partition(":")[0] in kind.errors
