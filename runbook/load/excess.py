"""By how much more often a server leaves a limit than its control does: what is left of its slow calls without the host's share.

A shared host stalls everything on it for milliseconds at a time. The control, an echo on the server's core, gets the same load, interleaved
call by call by the same sender, so what hits both is the host. Response times are compared: latencies without what our own sender was late,
and without what a process waited for a CPU that others had; the control excuses nothing while the server itself had the core.
"""

import math
from dataclasses import dataclass

import numpy as np

from runbook.load.recording import RESPONSE, SECOND_NS, Recording

# What is taken for independent of each other: a stall lasts milliseconds, and a busy neighbour for some tens of them.
BLOCK_NS = SECOND_NS // 4
# Fewer blocks say nothing about how the host varies.
FEWEST_BLOCKS = 8
CONFIDENCE, RESAMPLES = 0.99, 4000


@dataclass(frozen=True, slots=True)
class Excess:
    """The share of calls over a limit: that of the server less that of the control.

    Attributes:
        limit_ms: the limit, in ms from the intended start.
        server: share of the server's calls over the limit, 0 to 1.
        control: share of the control's calls over the limit.
        value: the difference of the two.
        low: lower end of its confidence interval.
        high: upper end.
        calls: of the server.
        control_calls: of the control.
        blocks: from which the interval is made.
    """

    limit_ms: float
    server: float
    control: float
    value: float
    low: float
    high: float
    calls: int
    control_calls: int
    blocks: int


def excess_over(
    made: Recording, limit_ms: float, operation: str | None = None, *, looks: int = 1, block_ns: int = BLOCK_NS
) -> Excess | None:
    """Estimate P(server > limit) − P(control > limit), with a confidence interval.

    The interval is that of a block bootstrap over 250 ms (Künsch, "The jackknife and the bootstrap for general stationary observations",
    Annals of Statistics 17, 1989): calls that one stall held up are not independent, blocks nearly are. Where sampling is looked at several
    times and stopped once the interval decides, each look gets its part of the error (Bonferroni), so that all of them together err as
    rarely as a single one. Calls that were all within the limit may still hide a share of −ln(error)/n (Hanley and Lippman-Hand, "If
    nothing goes wrong, is everything all right?", JAMA 249, 1983); the upper end is never below that.

    Args:
        made: a load with a control.
        limit_ms: in ms from the intended start.
        operation: only these calls; all for None.
        looks: how often the sampling is looked at in all.
        block_ns: length of a block; a load too short for blocks of 250 ms takes shorter ones.

    Returns:
        None without a control, or with fewer than `FEWEST_BLOCKS` blocks in which both answered.
    """
    if made.control is None:
        return None
    counts = _counts(made, made.control, limit_ms, operation, block_ns)
    if len(counts) < FEWEST_BLOCKS:
        return None
    error = (1 - CONFIDENCE) / looks
    drawn = np.random.default_rng(1).multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=RESAMPLES) @ counts
    values = drawn[:, 1] / drawn[:, 0] - drawn[:, 3] / drawn[:, 2]
    calls, slow, control_calls, control_slow = (int(total) for total in counts.sum(axis=0))
    server, control = slow / calls, control_slow / control_calls
    low, high = (float(bound) for bound in np.quantile(values, [error / 2, 1 - error / 2]))
    unseen = -math.log(error / 2) / calls
    return Excess(limit_ms, server, control, server - control, low, max(high, server - control + unseen), calls, control_calls, len(counts))


def _counts(made: Recording, control: Recording, limit_ms: float, operation: str | None, block_ns: int) -> np.ndarray:
    """Count by block: calls of the server, those over the limit, calls of the control, those over the limit."""
    blocks: dict[int, list[int]] = {}
    for column, recording in ((0, made), (2, control)):
        for number, pairs in recording.slices(operation, RESPONSE).items():
            row = blocks.setdefault(number * recording.slice_ns // block_ns, [0, 0, 0, 0])
            row[column] += sum(count for _, count in pairs)
            row[column + 1] += sum(count for us, count in pairs if us > limit_ms * 1e3)
    return np.array([row for _, row in sorted(blocks.items()) if row[0] and row[2]], dtype=float).reshape(-1, 4)
