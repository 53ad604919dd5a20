"""Quantiles of samples with a confidence interval that assumes nothing about their distribution.

Order statistics take the samples for independent. Calls that one stall held up are not: `widen` takes whole slices of time for what is
independent instead (a block bootstrap; Künsch, "The jackknife and the bootstrap for general stationary observations", 1989).
"""

import dataclasses
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

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


def widen(quantile: Quantile, slices: Collection[Sequence[tuple[float, int]]], confidence: float = 0.99, resamples: int = 1000) -> Quantile:
    """Widen a quantile's interval to that of a block bootstrap over slices of time, if that is wider.

    Args:
        quantile: estimated from all of them together.
        slices: the samples of each slice, as pairs of a value and how often it occurred; fewer than two widen nothing.
        confidence: of the interval.
        resamples: how many times as many slices are drawn anew; the draws are the same each time.
    """
    if len(slices) < 2 or not any(slices):  # nothing that could be drawn anew
        return quantile
    values = np.unique([value for cells in slices for value, _ in cells])
    counts = np.zeros((len(slices), len(values)))
    for row, cells in enumerate(slices):
        for value, count in cells:
            counts[row, np.searchsorted(values, value)] += count
    drawn = np.random.default_rng(1).multinomial(len(slices), np.full(len(slices), 1 / len(slices)), size=resamples)
    totals = (drawn @ counts).cumsum(axis=1)
    ranks = np.maximum(1, np.ceil(totals[:, -1] * quantile.p))
    found = values[(totals < ranks[:, None]).sum(axis=1).clip(max=len(values) - 1)]
    low, high = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2], method="nearest")
    return dataclasses.replace(quantile, low=min(quantile.low, float(low)), high=max(quantile.high, float(high)))
