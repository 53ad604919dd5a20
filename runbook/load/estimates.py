"""Percentiles of a load with an interval that can be believed, and a check of its bookkeeping."""

import math

from runbook.load.offered import Offered
from runbook.load.quantile import Quantile, estimate, widen
from runbook.load.recording import SECOND_NS, SERVICE

# The percentile that is judged, and those that are shown.
JUDGED = 0.99
SHOWN = (0.5, 0.9, 0.99, 0.999)
# What is taken for independent of each other: a stall may spoil a second, and the next one knows nothing of it.
BLOCK_NS = SECOND_NS
# Calls under way, counted and by Little's law, may differ by so much: those at the end of the run fall out of one of the two. Independent
# arrivals are as many as they should be give or take their square root, of which five leave no doubt.
MOST_LITTLE_OFF, MOST_DEVIATIONS = 0.05, 5.0


def estimated(offered: Offered, operation: str | None, p: float) -> Quantile | None:
    """Estimate a percentile in ms; its interval is the wider one of order statistics and of a block bootstrap over the seconds.

    Args:
        offered: the load.
        operation: only this one; all for None.
        p: the percentile, such as 0.99.

    Returns:
        None with fewer than ten samples beyond it.
    """
    found = estimate(offered.histogram(operation), p)
    if found is None:
        return None
    width_ns = offered.recording.slice_ns
    blocks: dict[int, list[tuple[float, int]]] = {}
    for number, pairs in offered.recording.slices(operation).items():
        blocks.setdefault(number * width_ns // BLOCK_NS, []).extend((us / 1e3, count) for us, count in pairs)
    return widen(found, list(blocks.values()))


def contradicts_little(offered: Offered) -> str:
    """Check Little's law, L = λ × W: say how far off a run is, or nothing.

    L is the number of calls under way, integrated as they are sent and answered; λ is the rate that was to be offered, and W their mean
    time in the histograms. A run in which calls were left out, not recorded or counted twice contradicts the law (J. D. C. Little, "A Proof
    for the Queuing Formula L = λW", Operations Research, 1961).
    """
    made, rate_per_s = offered.recording, offered.description.get("rate_per_s")
    times = made.histogram(SERVICE if rate_per_s else "latency")
    if made.errors or not len(times):
        return ""
    mean_s = sum(us * count for us, count in times.pairs()) / len(times) / 1e6
    by_law = (rate_per_s or len(times) / made.seconds) * mean_s
    leeway = max(MOST_LITTLE_OFF, MOST_DEVIATIONS / math.sqrt(len(times)))
    if abs(by_law - made.under_way) <= max(leeway * made.under_way, 0.005):
        return ""
    return f"{made.under_way:.3f} calls were under way on average, and by Little's law it should be {by_law:.3f}: calls are missing"
