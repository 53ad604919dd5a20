"""Estimates what two alternating measurements differ by, on a host whose speed changes: the median over pairs of neighbouring slices.

Each pair yields one value, a ratio or a difference of two slices of which one directly follows the other. What slows down both slices of a
pair cancels out. What slows down one of them disturbs that pair alone, which a median tolerates.
"""

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

# Sampling stops at the first of these numbers of pairs at which the interval decides, or when time is up. Who looks several times is wrong
# more often, so the probability of an error is shared out among all looks (Bonferroni).
LOOKS = (12, 18, 27, 40, 60)
ERROR_PROBABILITY = 0.01
_PER_SIDE = ERROR_PROBABILITY / (len(LOOKS) + 1) / 2
# Fewer pairs have no interval: even if all lay on one side of the limit, that happens by chance more often than `_PER_SIDE`.
FEWEST_PAIRS = math.ceil(-math.log2(_PER_SIDE))
_RESAMPLES = 4000


@dataclass(frozen=True, slots=True)
class PairedMedian:
    """A median over pairs.

    Attributes:
        median: of the values of the pairs.
        low: lower end of its confidence interval; minus infinity for too few pairs.
        high: upper end of it.
        pairs: how many there are.
    """

    median: float
    low: float
    high: float
    pairs: int


def paired_median(values: Sequence[float]) -> PairedMedian:
    """Estimate the median of the values of pairs, with a confidence interval for one of several looks.

    The interval is the wider one of two. A circular block bootstrap (Politis and Romano, "A circular block-resampling procedure for
    stationary data", 1992) draws blocks of neighbouring pairs, since a host that stalls disturbs neighbours together; blocks are as long as
    the cube root of the number of pairs (Lahiri, "Resampling Methods for Dependent Data", 2003, chapter 5). With a dozen pairs a bootstrap
    is too narrow, so order statistics bound it (David and Nagaraja, "Order Statistics", 2003, section 7.1): they hold for any distribution
    of independent values. `tests/unit/runbook/load/test_paired_median.py` measures how often both together are wrong.

    Args:
        values: of each pair, in the order in which they were measured; at least one.
    """
    count, middle = len(values), statistics.median(values)
    if count < FEWEST_PAIRS:
        return PairedMedian(middle, -math.inf, math.inf, count)
    ordered, rank = sorted(values), _rank(count)
    medians = _bootstrap(values)
    beyond = int(_RESAMPLES * _PER_SIDE)
    return PairedMedian(middle, min(ordered[rank], medians[beyond]), max(ordered[-1 - rank], medians[-1 - beyond]), count)


def _rank(count: int) -> int:
    """Return the highest rank r for which the median lies below the r-th value (from 0) no more often than `_PER_SIDE`."""
    rank, below = -1, 0.0
    while (below := below + math.comb(count, rank + 1) / 2**count) <= _PER_SIDE:
        rank += 1
    return rank


def _bootstrap(values: Sequence[float]) -> list[float]:
    count, choice = len(values), random.Random(1)
    length = max(1, round(count ** (1 / 3)))
    ring = [*values, *values[: length - 1]]
    blocks = [ring[start : start + length] for start in range(count)]
    drawn = math.ceil(count / length)
    resampled = ([value for block in choice.choices(blocks, k=drawn) for value in block][:count] for _ in range(_RESAMPLES))
    return sorted(map(statistics.median, resampled))
