"""The search for the highest rate, on servers whose capacity is known."""

import dataclasses

import pytest

from runbook.drills.sweep import CLOSE_ENOUGH, HIGHEST_RATE_PER_S, Result, Step, judge_twice, knee, limiter, search
from runbook.evidence import Verdict
from tests.unit.runbook.drills.loads import excess, offered

PASS, INCONCLUSIVE, FAIL = Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL


def _step(rate_per_s: float, p99_ms: float, *, late_ms: float = 0.01, failed: int = 0, busy: float | None = None) -> Step:
    return Step(rate_per_s, rate_per_s, p99_ms / 2, p99_ms, late_ms, excess(0.0 if p99_ms < 1 else 0.5), failed, busy)


def _queueing(capacity_per_s: float):  # type: ignore[no-untyped-def]
    """A server whose latency grows as that of an M/M/1 queue: service / (1 - utilisation)."""
    taken: list[float] = []

    def step(rate_per_s: float) -> Step:
        taken.append(rate_per_s)
        busy = rate_per_s / capacity_per_s
        return _step(rate_per_s, 0.1 / (1 - busy) if busy < 1 else 500.0)

    return step, taken


@pytest.mark.parametrize("capacity_per_s", [3000, 10_000, 77_777, 400_000])
def test_the_highest_rate_that_keeps_the_limit_is_found_within_a_tenth(capacity_per_s: float) -> None:
    """0.1 ms / (1 - utilisation) reaches 1 ms at a utilisation of 0.9."""
    step, _ = _queueing(capacity_per_s)
    best = Result(search(step, step(1000)), "", ()).best
    assert best is not None
    assert 0.9 * capacity_per_s / CLOSE_ENOUGH <= best.rate_per_s < 0.9 * capacity_per_s


def test_steps_are_ascending_and_no_rate_is_tried_twice() -> None:
    step, taken = _queueing(10_000)
    rates = [one.rate_per_s for one in search(step, step(1000))]
    assert rates == sorted(set(taken)) == sorted(taken)


def test_a_server_that_does_not_bear_the_first_rate_is_asked_once() -> None:
    step, taken = _queueing(500)
    result = Result(search(step, step(1000)), "", ())
    assert taken == [1000]
    assert result.best is None


def test_the_search_ends_on_a_server_without_limits() -> None:
    steps = search(lambda rate_per_s: _step(rate_per_s, 0.1), _step(1000, 0.1))
    assert steps[-1].rate_per_s <= HIGHEST_RATE_PER_S
    assert Result(steps, "", ()).best == steps[-1]


def test_a_rate_that_keeps_the_limit_above_one_that_does_not_is_not_the_best() -> None:
    """Luck at a higher rate does not undo the failure at a lower one."""
    result = Result((_step(1000, 0.2), _step(2000, 1.4), _step(4000, 0.3)), "", ())
    assert result.best is not None
    assert result.best.rate_per_s == 1000


def test_the_knee_is_the_last_rate_before_p99_doubles() -> None:
    steps = (_step(1000, 0.22), _step(2000, 0.2), _step(4000, 0.35), _step(8000, 0.41), _step(16_000, 0.39))
    found = knee(steps)
    assert found is not None
    assert found.rate_per_s == 4000


@pytest.mark.parametrize("steps", [(), (_step(1000, 0.2),), (_step(1000, 0.2), _step(2000, 0.3))])
def test_without_a_doubling_there_is_no_knee(steps: tuple[Step, ...]) -> None:
    assert knee(steps) is None


@pytest.mark.parametrize(
    ("step", "kept"),
    [
        (_step(1000, 0.2), True),
        (_step(1000, 9.0), False),
        (_step(1000, 0.2, failed=1), False),
        (_step(1000, 0.2, late_ms=1.5), False),
        (dataclasses.replace(_step(1000, 0.2), excess=None), False),
        (dataclasses.replace(_step(1000, 40.0), excess=excess(0.004)), True),
    ],
    ids=["fast", "slow", "failed", "sender late", "unknown", "slow as the control"],
)
def test_a_rate_is_kept_if_the_host_explains_what_was_slow_and_our_sender_kept_up(step: Step, kept: bool) -> None:
    assert step.keeps_limit is kept


@pytest.mark.parametrize(
    ("beyond", "told"),
    [
        (None, "nothing: no rate was too high"),
        (_step(9000, 0.2, late_ms=3.0), "our own sender"),
        (_step(9000, 9.0, busy=0.3), "unclear: the server used 30% of its core"),
        (_step(9000, 9.0, busy=0.97), "the server"),
    ],
    ids=["nothing", "sender", "unclear", "server"],
)
def test_what_could_do_no_more_is_told(beyond: Step | None, told: str) -> None:
    assert limiter(beyond) == told


def test_a_rate_that_keeps_the_limit_passes_and_shows_what_the_sweep_found() -> None:
    finding = judge_twice(offered(*[0.2] * 2000), Result((_step(1000, 0.2), _step(2000, 0.3)), "", ()))
    assert (finding.verdict, finding.criterion) == (PASS, "P-2")
    assert {each.name: each.value for each in finding.measured}["highest rate that keeps the limit"] == 2000


def test_a_rate_that_leaves_the_limit_fails() -> None:
    assert judge_twice(offered(*[*[0.2] * 9, 3.0] * 200)).verdict is FAIL


def test_calls_that_failed_fail_however_fast_the_others_were() -> None:
    finding = judge_twice(offered(*[0.2] * 2000, errors={("GET", "error OOM"): 3}))
    assert (finding.verdict, finding.reason) == (FAIL, "3 calls failed, first: error OOM")


def test_a_sender_that_can_not_keep_the_rate_is_inconclusive() -> None:
    finding = judge_twice(offered(*[0.2] * 2000, late_ms=4.0))
    assert (finding.verdict, finding.reason) == (INCONCLUSIVE, "our own sender could do no more: it was 4.0 ms late in the median")


def test_too_few_calls_do_not_pass() -> None:
    assert judge_twice(offered(*[0.2] * 20)).verdict is INCONCLUSIVE
