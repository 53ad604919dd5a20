"""The time that a server takes beyond its control: a percentile of its response times less the same percentile of the control's."""

from dataclasses import dataclass

import numpy as np

from runbook.load.excess import BLOCK_NS, CONFIDENCE, FEWEST_BLOCKS, RESAMPLES
from runbook.load.quantile import FEWEST_BEYOND
from runbook.load.recording import RESPONSE, Recording


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and between which values it lies, at 99 %.

    Attributes:
        value: the figure.
        low: lower end.
        high: upper end.
        samples: from how many it was taken.
    """

    value: float
    low: float
    high: float
    samples: int


def own_percentiles(made: Recording, operation: str | None, ps: tuple[float, ...]) -> list[Interval | None]:
    """Estimate percentiles of a server's response times less those of its control, in ms.

    The intervals are those of a block bootstrap over 250 ms, which draws the same blocks for both sides (as `excess_over` does): what the
    host did to both in a block is in both, and goes with the difference.

    Args:
        made: a load with a control.
        operation: only these calls; all for None.
        ps: the percentiles, such as 0.99.

    Returns:
        None for a percentile with fewer than ten samples beyond it; for all of them without a control, or with too few blocks.
    """
    sides = [made, made.control] if made.control else []
    blocks = [_blocks(side, operation) for side in sides]
    common = sorted(blocks[0].keys() & blocks[1].keys()) if sides else []
    if len(common) < FEWEST_BLOCKS:
        return [None] * len(ps)
    weights = np.random.default_rng(1).multinomial(len(common), np.full(len(common), 1 / len(common)), size=RESAMPLES)
    weights = np.vstack([np.ones(len(common), dtype=int), weights])  # the first row is what was measured
    totals = []
    for side in blocks:
        values = np.unique([us for number in common for us, _ in side[number]])
        counts = np.zeros((len(common), len(values)))
        for row, number in enumerate(common):
            for us, count in side[number]:
                counts[row, np.searchsorted(values, us)] += count
        totals.append((values / 1e3, (weights @ counts).cumsum(axis=1)))
    samples = int(min(found[0, -1] for _, found in totals))
    return [_interval(totals, p, samples) if samples * (1 - p) >= FEWEST_BEYOND else None for p in ps]


def _interval(totals: list[tuple[np.ndarray, np.ndarray]], p: float, samples: int) -> Interval:
    quantiles = []
    for values_ms, cumulated in totals:
        ranks = np.maximum(1, np.ceil(cumulated[:, -1] * p))
        quantiles.append(values_ms[(cumulated < ranks[:, None]).sum(axis=1).clip(max=len(values_ms) - 1)])
    own = quantiles[0] - quantiles[1]
    low, high = np.quantile(own[1:], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(own[0]), float(low), float(high), samples)


def _blocks(side: Recording, operation: str | None) -> dict[int, list[tuple[int, int]]]:
    found: dict[int, list[tuple[int, int]]] = {}
    for number, pairs in side.slices(operation, RESPONSE).items():
        found.setdefault(number * side.slice_ns // BLOCK_NS, []).extend(pairs)
    return found
