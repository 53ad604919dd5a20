"""Quantiles of samples with a confidence interval from order statistics, which assumes nothing about their distribution."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

# Fewer samples beyond a quantile say nothing about it.
FEWEST_BEYOND = 10


@dataclass(frozen=True, slots=True)
class Quantile:
    """An estimate of a quantile.

    Attributes:
        p: which one, such as 0.99.
        value: the sample at that rank, in the unit of the samples.
        low: lower end of the confidence interval.
        high: upper end; infinite if the samples don't reach far enough.
        samples: how many there were.
    """

    p: float
    value: float
    low: float
    high: float
    samples: int


def estimate(ordered: Sequence[float], p: float, confidence: float = 0.99) -> Quantile | None:
    """Estimate a quantile; None with fewer than ten samples beyond it.

    Args:
        ordered: the samples, ascending.
        p: the quantile, between 0 and 1.
        confidence: of the interval, which lies between two of the samples.

    The number of samples below the true quantile is binomial(n, p); its normal approximation gives the two ranks (Conover, Practical
    Nonparametric Statistics, 3rd ed., section 3.2).
    """
    count = len(ordered)
    if round(count * (1 - p), 6) < FEWEST_BEYOND:  # 100 * (1 - 0.9) is 9.999…
        return None
    spread = NormalDist().inv_cdf((1 + confidence) / 2) * math.sqrt(count * p * (1 - p))
    low, high = math.floor(count * p - spread), math.ceil(count * p + spread)
    return Quantile(
        p,
        value=ordered[min(count - 1, math.ceil(count * p) - 1)],
        low=ordered[max(0, low - 1)],
        high=ordered[high] if high < count else math.inf,
        samples=count,
    )
