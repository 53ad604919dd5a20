"""What two readings of a server's counters tell, and when they tell nothing."""

import math

import pytest

from runbook.load.server_time import Counters, Spent, read_histograms


def _stats(calls: int, usec: int, failed: int = 0, rejected: int = 0) -> dict[str, float]:
    return {"calls": calls, "usec": usec, "failed_calls": failed, "rejected_calls": rejected}


BEFORE = Counters("a", {"get": _stats(10, 1000)}, {"get": {66: 8, 132: 2}}, {"ERR": 1})


def test_only_what_came_between_two_readings_counts() -> None:
    after = Counters(
        "a", {"get": _stats(12, 1010), "set": _stats(4, 10, 1, 2)}, {"get": {4: 1, 8: 1, 66: 8, 132: 2}, "set": {4: 4}}, {"ERR": 4}
    )
    spent = after.since(BEFORE)
    assert spent is not None
    assert spent.commands == {"get": Spent(2, 0, 5.0, {4: 1, 8: 1}), "set": Spent(4, 3, 2.5, {4: 4})}
    assert spent.errors == {"ERR": 3}
    assert spent.busy_us == 20


def test_a_command_that_was_not_called_meanwhile_is_left_out() -> None:
    spent = BEFORE.since(BEFORE)
    assert spent is not None
    assert spent.commands == {}


@pytest.mark.parametrize(
    "after",
    [
        pytest.param(Counters("b", {"get": _stats(20, 2000)}), id="another process"),
        pytest.param(Counters("a", {"get": _stats(9, 2000)}), id="fewer calls"),
        pytest.param(Counters("a", {"get": _stats(20, 900)}), id="less time"),
        pytest.param(Counters("a", {"set": _stats(20, 2000)}), id="a command is gone"),
        pytest.param(Counters("a", {"get": _stats(20, 2000), "config|resetstat": _stats(1, 20)}), id="reset, and more calls since"),
    ],
)
def test_counters_that_began_anew_tell_nothing(after: Counters) -> None:
    assert after.since(BEFORE) is None


def test_without_histograms_the_mean_remains() -> None:
    after = Counters("a", {"get": _stats(20, 2000)})
    spent = after.since(BEFORE)
    assert spent is not None
    assert spent.commands["get"].mean_us == 100
    assert spent.commands["get"].percentile_us(0.99) is None
    assert spent.errors is None


def test_a_histogram_that_shrank_gives_no_percentile() -> None:
    spent = Counters("a", {"get": _stats(20, 2000)}, {"get": {66: 1}}).since(BEFORE)
    assert spent is not None
    assert spent.commands["get"].percentile_us(0.5) is None


@pytest.mark.parametrize(("percentile", "bound"), [(0.0, 1), (0.5, 1), (0.51, 8), (0.99, 8), (0.991, 264), (1.0, 264)])
def test_a_percentile_is_the_bound_of_the_bucket_in_which_it_lies(percentile: float, bound: float) -> None:
    assert Spent(1000, 0, 1.0, {264: 10, 1: 500, 8: 490}).percentile_us(percentile) == bound


def test_above_a_second_there_is_no_bound() -> None:
    assert Spent(1, 0, 1.5e6, {1073741: 1}).percentile_us(0.5) == math.inf


@pytest.mark.parametrize(
    "reply",
    [
        [b"get", [b"calls", 5, b"histogram_usec", [1, 2, 8, 5]], b"config|set", [b"calls", 1, b"histogram_usec", [4, 1]]],
        {b"get": {b"calls": 5, b"histogram_usec": {1: 2, 8: 5}}, b"config|set": {b"calls": 1, b"histogram_usec": {4: 1}}},
        {"get": {"calls": 5, "histogram_usec": {1: 2, 8: 5}}, "config|set": {"calls": 1, "histogram_usec": {4: 1}}},
    ],
    ids=["RESP2", "RESP3", "RESP3, decoded"],
)
def test_cumulative_counts_become_counts_of_buckets_in_either_protocol(reply: object) -> None:
    assert read_histograms(reply) == {"get": {1: 2, 8: 3}, "config|set": {4: 1}}
