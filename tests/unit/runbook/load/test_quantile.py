"""Quantiles and their confidence intervals, against distributions whose quantiles are known."""

import math
import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook.load.quantile import Quantile, estimate, widen


def _uniform(choice: random.Random) -> float:
    return choice.random()


def _exponential(choice: random.Random) -> float:
    return choice.expovariate(1.0)


def _latency(choice: random.Random) -> float:
    """Mostly fast, with one call in fifty that is a hundred times as slow."""
    return choice.random() if choice.random() < 0.98 else 100 + choice.random()


KNOWN = {
    "uniform": (_uniform, lambda p: p),
    "exponential": (_exponential, lambda p: -math.log(1 - p)),
    "two humps": (_latency, lambda p: p / 0.98 if p < 0.98 else 100 + (p - 0.98) / 0.02),
}
EACH_KNOWN = pytest.mark.parametrize(("draw", "quantile"), KNOWN.values(), ids=KNOWN)


@pytest.mark.parametrize(
    ("p", "rank"),
    [(0.5, 5_000), (0.9, 9_000), (0.99, 9_900), (0.999, 9_990)],
)
def test_of_the_numbers_from_1_to_10000_it_is_the_one_at_its_rank(p: float, rank: int) -> None:
    found = estimate(range(1, 10_001), p)
    assert found is not None
    assert found.value == rank
    assert found.p == p
    assert found.samples == 10_000
    assert found.low < rank < found.high


@EACH_KNOWN
@pytest.mark.parametrize("p", [0.5, 0.9, 0.99])
def test_the_interval_holds_the_truth_about_99_times_of_100(draw, quantile, p: float) -> None:  # type: ignore[no-untyped-def]
    choice, trials, covered = random.Random(f"{draw.__name__}:{p}"), 400, 0
    for _ in range(trials):
        found = estimate(sorted(draw(choice) for _ in range(1_000)), p)
        assert found is not None
        covered += found.low <= quantile(p) <= found.high
    assert covered / trials >= 0.975


@EACH_KNOWN
def test_an_interval_of_little_confidence_often_misses_the_truth(draw, quantile) -> None:  # type: ignore[no-untyped-def]
    """The control of the test above: an interval that always holds the truth would be no use."""
    choice, trials, covered = random.Random(draw.__name__), 400, 0
    for _ in range(trials):
        found = estimate(sorted(draw(choice) for _ in range(1_000)), 0.9, confidence=0.5)
        assert found is not None
        covered += found.low <= quantile(0.9) <= found.high
    assert 0.4 < covered / trials < 0.65


def test_more_samples_make_the_interval_narrower() -> None:
    choice = random.Random(1)
    widths = []
    for count in (1_000, 10_000, 100_000):
        found = estimate(sorted(_exponential(choice) for _ in range(count)), 0.9)
        assert found is not None
        widths.append(found.high - found.low)
    assert widths == sorted(widths, reverse=True)
    assert widths[2] < widths[0] / 5


def test_more_confidence_makes_the_interval_wider() -> None:
    samples = sorted(_exponential(random.Random(number)) for number in range(1_000))
    narrow, wide = estimate(samples, 0.9, confidence=0.9), estimate(samples, 0.9, confidence=0.999)
    assert narrow is not None
    assert wide is not None
    assert wide.low < narrow.low <= narrow.value <= narrow.high < wide.high
    assert wide.value == narrow.value


@pytest.mark.parametrize("p", ["0.5", "0.9", "0.99", "0.999"])
def test_it_needs_ten_samples_beyond_and_no_more(p: str) -> None:
    """Ten beyond the median are 20 in all, beyond the 99.9th percentile 10,000."""
    fewest = int(10 / (1 - Fraction(p)))
    assert estimate(range(fewest - 1), float(p)) is None
    assert estimate(range(fewest), float(p)) is not None


@pytest.mark.parametrize("count", [0, 1, 2, 9, 19])
def test_too_few_samples_give_nothing_rather_than_a_guess(count: int) -> None:
    assert estimate(range(count), 0.5) is None


def test_where_the_samples_do_not_reach_far_enough_the_upper_end_is_open() -> None:
    found = estimate(range(1_000), 0.99, confidence=0.999999)
    assert found is not None
    assert found.high == math.inf
    assert found.low < found.value


def test_equal_samples_have_an_interval_without_width() -> None:
    assert estimate([0.25] * 2_000, 0.99) == Quantile(0.99, 0.25, 0.25, 0.25, 2_000)


@given(
    st.lists(st.floats(min_value=0, max_value=1e6), min_size=20, max_size=2_000).map(sorted),
    st.sampled_from([0.5, 0.9, 0.99]),
)
def test_the_value_is_one_of_the_samples_and_lies_in_its_interval(samples: list[float], p: float) -> None:
    found = estimate(samples, p)
    if found is not None:
        assert found.value in samples
        assert found.low in samples
        assert found.low <= found.value <= found.high


Slices = list[list[tuple[float, int]]]


def _estimated(slices: Slices, p: float) -> Quantile:
    found = estimate(sorted(value for cells in slices for value, count in cells for _ in range(count)), p)
    assert found is not None
    return found


@given(
    st.lists(st.lists(st.tuples(st.integers(1, 50).map(float), st.integers(1, 40)), max_size=5), max_size=8), st.sampled_from([0.5, 0.9])
)
def test_a_widened_interval_is_never_narrower(slices: Slices, p: float) -> None:
    found = estimate(sorted(value for cells in slices for value, count in cells for _ in range(count)), p)
    if found is not None:
        wide = widen(found, slices, resamples=50)
        assert wide.low <= found.low <= found.value <= found.high <= wide.high
        assert (wide.p, wide.value, wide.samples) == (found.p, found.value, found.samples)


def test_a_stall_in_a_few_slices_widens_it() -> None:
    """All 300 slow calls had one cause, which could as well not have come, or have come once more."""
    choice = random.Random(1)
    slices: Slices = [[(choice.uniform(1, 2), 1) for _ in range(100)] for _ in range(100)]
    slices[40:43] = [[(choice.uniform(200, 300), 1) for _ in range(100)] for _ in range(3)]
    found = _estimated(slices, 0.99)
    wide = widen(found, slices)
    assert found.low > 200  # it takes itself for certain
    assert wide.low < 2
    assert wide.high >= found.high


def test_the_same_slow_calls_spread_over_all_slices_do_not_widen_it() -> None:
    """The control of the test above."""
    choice = random.Random(1)
    slices: Slices = [
        [(choice.uniform(1, 2), 1) for _ in range(97)] + [(choice.uniform(200, 300), 1) for _ in range(3)] for _ in range(100)
    ]
    assert widen(_estimated(slices, 0.99), slices).low > 200


@pytest.mark.parametrize("p", [0.5, 0.9, 0.99])
def test_independent_slices_leave_about_the_interval_of_order_statistics(p: float) -> None:
    choice, ratios = random.Random(p), []
    for _ in range(8):
        slices: Slices = [[(choice.expovariate(1), 1) for _ in range(50)] for _ in range(100)]
        found = _estimated(slices, p)
        wide = widen(found, slices)
        ratios.append((wide.high - wide.low) / (found.high - found.low))
    assert sum(ratios) / len(ratios) < 1.15
    assert max(ratios) < 1.5


def test_counts_weigh_as_much_as_so_many_samples() -> None:
    choice = random.Random(1)
    slices: Slices = [[(float(choice.randrange(20)), choice.randrange(1, 9)) for _ in range(20)] for _ in range(30)]
    single: Slices = [[(value, 1) for value, count in cells for _ in range(count)] for cells in slices]
    assert widen(_estimated(slices, 0.9), slices) == widen(_estimated(slices, 0.9), single)


def test_the_same_samples_are_widened_the_same_way_again() -> None:
    choice = random.Random(1)
    slices: Slices = [[(choice.random(), 1) for _ in range(20)] for _ in range(30)]
    found = _estimated(slices, 0.9)
    assert widen(found, slices) == widen(found, slices)


@pytest.mark.parametrize("slices", [[], [[]], [[], []], [[(1.0, 5)]]], ids=["none", "an empty one", "empty ones", "one"])
def test_fewer_than_two_slices_widen_nothing(slices: Slices) -> None:
    found = Quantile(0.5, 3.0, 2.0, 4.0, 100)
    assert widen(found, slices) == found
