"""When operations should start, and how the wait for that moment ends."""

import itertools
import math
import threading
import time
from collections.abc import Iterator

import pytest

from cachelib import Config, connect
from runbook.load import Ping, run
from runbook.load.pacer import constant, poisson, sharpen_timers, wait_until

SPIN = pytest.mark.parametrize("spin", [False, True], ids=["sleeping", "spinning"])


@pytest.fixture
def stop_soon() -> Iterator[threading.Event]:
    """An event that is set 20 ms after the test began."""
    stop = threading.Event()
    timer = threading.Timer(0.02, stop.set)
    timer.start()
    yield stop
    timer.cancel()
    timer.join()


def test_a_constant_rate_begins_at_the_start_and_keeps_its_distance() -> None:
    assert list(itertools.islice(constant(1000, 5_000), 4)) == [5_000, 1_005_000, 2_005_000, 3_005_000]


def test_a_rate_below_one_a_second_is_a_rate() -> None:
    assert list(itertools.islice(constant(0.5, 0), 3)) == [0, 2_000_000_000, 4_000_000_000]


def test_a_rate_that_does_not_divide_a_second_does_not_drift() -> None:
    moments = constant(3, 0)
    assert next(itertools.islice(moments, 300_000, None)) == 100_000_000_000_000


def test_moments_have_no_end() -> None:
    assert len(list(itertools.islice(constant(1e6, 0), 100_000))) == 100_000


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf"), float("-inf")])
def test_an_impossible_rate_is_refused_before_anything_starts(rate: float) -> None:
    with pytest.raises(ValueError, match="a rate takes operations a second above 0"):
        constant(rate, 0)


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
def test_a_load_of_an_impossible_rate_is_refused_in_the_same_words(rate: float) -> None:
    """Such a rate comes from `-p rate_per_s=0`, so the message is read by a person."""
    nowhere = Config(host="127.0.0.1", port=1)
    with pytest.raises(ValueError, match="a rate takes operations a second above 0"), connect(nowhere) as client:
        run(client, Ping(), rate_per_s=rate, workers=2, duration_s=0.01)


def test_a_poisson_rate_holds_on_average() -> None:
    last_ns = next(itertools.islice(poisson(2_000, 5_000_000_000, "seed"), 99_999, None))
    assert last_ns - 5_000_000_000 == pytest.approx(50_000_000_000, rel=0.01)


def test_the_gaps_of_a_poisson_rate_are_exponential() -> None:
    moments = [0, *itertools.islice(poisson(1_000, 0, "seed"), 50_000)]
    gaps_ms = sorted((after - before) / 1e6 for before, after in itertools.pairwise(moments))
    assert gaps_ms[0] >= 0
    for p in (0.1, 0.5, 0.9, 0.99):
        assert gaps_ms[round(p * len(gaps_ms))] == pytest.approx(-math.log(1 - p), rel=0.05)


def test_arrivals_of_a_poisson_rate_come_independently_of_each_other() -> None:
    """Independent are those whose number in a time varies by as much as it is."""
    counts = [0] * 1_000
    for moment in itertools.takewhile(lambda moment: moment < 1_000_000_000_000, poisson(20, 0, "seed")):
        counts[moment // 1_000_000_000] += 1
    mean = sum(counts) / len(counts)
    assert mean == pytest.approx(20, rel=0.02)
    assert sum((count - mean) ** 2 for count in counts) / len(counts) == pytest.approx(mean, rel=0.15)


def test_the_same_seed_makes_the_same_arrivals() -> None:
    first, again, other = (list(itertools.islice(poisson(5, 0, seed), 10)) for seed in ("a", "a", "b"))
    assert first == again != other


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf"), float("-inf")])
def test_an_impossible_poisson_rate_is_refused_before_anything_starts(rate: float) -> None:
    with pytest.raises(ValueError, match="a rate takes operations a second above 0"):
        poisson(rate, 0, "seed")


@SPIN
def test_the_wait_ends_at_its_moment_and_not_before(spin: bool) -> None:
    moment_ns = time.monotonic_ns() + 20_000_000
    assert wait_until(moment_ns, threading.Event(), spin=spin) is True
    assert time.monotonic_ns() >= moment_ns


@SPIN
def test_a_moment_that_has_passed_is_not_waited_for(spin: bool) -> None:
    """An operation that is late starts at once, rather than being left out."""
    assert wait_until(time.monotonic_ns() - 1_000_000_000, threading.Event(), spin=spin) is True


@SPIN
def test_a_wait_that_was_stopped_before_says_so(spin: bool) -> None:
    stop = threading.Event()
    stop.set()
    assert wait_until(time.monotonic_ns() - 1, stop, spin=spin) is False


def test_a_wait_that_is_stopped_meanwhile_ends_early_and_says_so(stop_soon: threading.Event) -> None:
    began_s = time.monotonic()
    assert wait_until(time.monotonic_ns() + 60_000_000_000, stop_soon, spin=False) is False
    assert time.monotonic() - began_s < 10


def test_a_spinning_wait_that_is_stopped_meanwhile_ends_early_and_says_so(stop_soon: threading.Event) -> None:
    """Otherwise a worker with a slow rate burns the CPU until its next moment, after its load has ended."""
    began_s = time.monotonic()
    assert wait_until(time.monotonic_ns() + 1_500_000_000, stop_soon, spin=True) is False
    assert time.monotonic() - began_s < 1


def test_timers_can_be_sharpened_again_and_again() -> None:
    sharpen_timers()
    sharpen_timers()
