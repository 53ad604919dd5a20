"""How much more often a server leaves a limit than its control, on loads written by hand."""

import random

import pytest

from runbook.load.excess import BLOCK_NS, FEWEST_BLOCKS, excess_over
from tests.unit.runbook.drills.loads import GAP_NS, offered

A_BLOCK = BLOCK_NS // GAP_NS


def _noisy(count: int, seed: int, share: float) -> tuple[list[float], list[float]]:
    """A host that stalls for several calls at a time, of server and control alike; and a server that is slow by itself at times."""
    choice, host = random.Random(seed), []
    while len(host) < count:
        host += [choice.uniform(1.0, 5.0)] * choice.randrange(1, 8) + [0.2] * choice.randrange(1, 80)
    host = host[:count]
    return [5.0 if choice.random() < share else time_ms for time_ms in host], host


def test_it_is_the_difference_of_the_two_shares() -> None:
    found = excess_over(offered(*[*[0.2] * 8, 2.0, 2.0] * 100, control_ms=[*[0.1] * 9, 2.0] * 100).recording, 1.0)
    assert found is not None
    assert (found.server, found.control, found.value) == (0.2, 0.1, pytest.approx(0.1))
    assert (found.calls, found.control_calls, found.blocks) == (1000, 1000, 1000 // A_BLOCK)
    assert found.low <= found.value <= found.high


def test_a_call_at_the_limit_is_within_it() -> None:
    found = excess_over(offered(*[1.0] * 1000).recording, 1.0)
    assert found is not None
    assert found.server == 0.0


def test_only_the_calls_of_one_operation_are_compared() -> None:
    made = offered(*[2.0] * 1000, operation="SET").recording
    assert excess_over(made, 1.0, "GET") is None
    assert excess_over(made, 1.0, "SET") is not None


@pytest.mark.parametrize(("blocks", "told"), [(0, False), (FEWEST_BLOCKS - 1, False), (FEWEST_BLOCKS, True)])
def test_too_few_blocks_tell_nothing(blocks: int, told: bool) -> None:
    assert (excess_over(offered(*[0.2] * blocks * A_BLOCK).recording, 1.0) is not None) is told


@pytest.mark.parametrize(("hosts", "fewest"), [(10, 9), pytest.param(40, 38, marks=pytest.mark.nightly)])
def test_the_interval_covers_what_is_true_as_often_as_it_says(hosts: int, fewest: int) -> None:
    """On noisy hosts with a server that is slow in 3 % of its calls by itself, where the host is not slow anyway."""
    covered = 0
    for seed in range(hosts):
        server, host = _noisy(4000, seed, 0.03)
        truth = sum(ours > 1.0 >= theirs for ours, theirs in zip(server, host, strict=True)) / len(host)
        found = excess_over(offered(*server, control_ms=host).recording, 1.0)
        assert found is not None
        covered += found.low <= truth <= found.high
    assert covered >= fewest


def test_several_looks_widen_the_interval() -> None:
    made = offered(*[*[0.2] * 30, 2.0, *[0.2] * 60] * 20).recording
    one, three = excess_over(made, 1.0), excess_over(made, 1.0, looks=3)
    assert one is not None
    assert three is not None
    assert three.low <= one.low < one.high <= three.high


def test_no_slow_call_in_a_few_hundred_leaves_one_in_a_hundred_open() -> None:
    few, many = (excess_over(offered(*[0.2] * count).recording, 1.0) for count in (300, 1000))
    assert few is not None
    assert many is not None
    assert few.high > 0.01 > many.high
