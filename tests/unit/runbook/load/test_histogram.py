"""Latencies in HdrHistogram's form, held against the package itself and against sorted lists."""

import random
import re

import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook.load.histogram import DIGITS, HIGHEST_US, LOWEST_US, Histogram, bucket_us

LATENCIES_US = st.integers(LOWEST_US, HIGHEST_US) | st.integers(LOWEST_US, 10_000)
MANY = st.lists(LATENCIES_US, min_size=1, max_size=200)
FEW = settings(max_examples=20)  # each walks over all buckets, which takes 20 ms
_HDR = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)


def _of(latencies_us: list[int]) -> Histogram:
    return Histogram((us, 1) for us in latencies_us)


@given(LATENCIES_US)
def test_a_bucket_is_the_one_of_hdrhistogram(us: int) -> None:
    assert bucket_us(us * 1000) == _HDR.get_lowest_equivalent_value(us)


@pytest.mark.parametrize("us", [1, 2, 1999, 2000, 2047, 2048, 2049, 4095, 4096, 4097, 1 << 20, (1 << 20) - 1, HIGHEST_US])
def test_a_bucket_is_the_one_of_hdrhistogram_where_its_width_changes(us: int) -> None:
    assert bucket_us(us * 1000) == _HDR.get_lowest_equivalent_value(us)


@given(LATENCIES_US)
def test_a_bucket_is_three_digits_exact(us: int) -> None:
    assert us * 0.999 <= bucket_us(us * 1000) <= us


@pytest.mark.parametrize(("latency_ns", "us"), [(0, 1), (1, 1), (499, 1), (1_499, 1), (1_500, 2), (2_047_499, 2047)])
def test_a_latency_is_rounded_to_microseconds_and_is_never_nothing(latency_ns: int, us: int) -> None:
    assert bucket_us(latency_ns) == us


@FEW
@given(MANY)
def test_each_rank_is_the_one_of_the_sorted_list_in_three_digits(latencies_us: list[int]) -> None:
    found = _of(latencies_us)
    assert len(found) == len(latencies_us)
    assert list(found) == pytest.approx([us / 1e3 for us in sorted(latencies_us)], rel=1e-3)


def test_ranks_are_those_of_a_sequence() -> None:
    found = _of([3_000, 1_000, 2_000])
    assert (found[0], found[-1], found[1:], found[::-1]) == (1.0, 3.0, [2.0, 3.0], [3.0, 2.0, 1.0])
    for rank in (3, -4):
        with pytest.raises(IndexError):
            found[rank]
    assert list(Histogram()) == []


@FEW
@given(MANY, MANY)
@pytest.mark.no_cover
def test_a_merge_loses_nothing(first: list[int], second: list[int]) -> None:
    merged = _of(first)
    assert len(merged) == len(first)
    merged.merge(_of(second))
    assert merged.pairs() == _of(first + second).pairs()
    assert list(merged) == list(_of(first + second))


@FEW
@given(MANY)
def test_pairs_make_the_same_histogram_again(latencies_us: list[int]) -> None:
    found = _of(latencies_us)
    assert sum(count for _, count in found.pairs()) == len(latencies_us)
    assert Histogram(found.pairs()).pairs() == found.pairs()


def test_what_is_out_of_range_is_counted_apart_and_survives_a_merge() -> None:
    found = Histogram([(5, 2), (HIGHEST_US + 1, 3), (1 << 40, 1)])
    assert (len(found), found.out_of_range) == (2, 4)
    assert repr(found) == "<Histogram of 2 latencies, 4 above 60 s>"
    other = _of([7])
    other.merge(found)
    assert (len(other), other.out_of_range) == (3, 4)


def test_the_highest_latency_is_in_range() -> None:
    found = _of([HIGHEST_US])
    assert found.out_of_range == 0
    assert found[0] == pytest.approx(60_000, rel=1e-3)


@FEW
@given(MANY)
def test_encoded_and_decoded_it_is_the_same(latencies_us: list[int]) -> None:
    found = _of(latencies_us)
    assert Histogram.decoded(found.encoded()).pairs() == found.pairs()


@pytest.mark.parametrize("text", ["", "nonsense", "HISTFAAAA", "ü"])
def test_damaged_text_is_no_histogram(text: str) -> None:
    with pytest.raises(ValueError, match="this is no encoded histogram"):
        Histogram.decoded(text)


def test_a_cut_text_is_no_histogram() -> None:
    text = _of(list(range(1, 5_000))).encoded()
    with pytest.raises(ValueError, match="this is no encoded histogram"):
        Histogram.decoded(text[: len(text) // 2])


def test_the_percentile_distribution_can_be_read_and_its_total_is_right() -> None:
    choice = random.Random(1)
    latencies_us = [round(choice.expovariate(1 / 800)) + 1 for _ in range(5_000)]
    text = _of(latencies_us).percentile_distribution()
    rows = [tuple(map(float, line.split())) for line in text.splitlines() if line.strip()[:1].isdigit()]
    values, percentiles, totals = zip(*((row[0], row[1], row[2]) for row in rows), strict=True)
    assert len(rows) > 20
    assert list(values) == sorted(values)
    assert totals[-1] == len(latencies_us)
    assert percentiles[-1] == 1.0
    assert values[-1] == pytest.approx(max(latencies_us) / 1e3, rel=2e-3)
    ordered = sorted(latencies_us)
    for value, total in zip(values, totals, strict=True):
        assert value == pytest.approx(ordered[int(total) - 1] / 1e3, rel=1e-3, abs=1e-3)
    assert re.search(r"TotalCount += +5000\.000\]", text)
