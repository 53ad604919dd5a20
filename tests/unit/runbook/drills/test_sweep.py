"""The search for the highest rate, on servers whose capacity is known."""

import pytest

from runbook.drills.sweep import CLOSE_ENOUGH, HIGHEST_RATE_PER_S, Result, Step, judge_headroom, knee, search
from runbook.evidence import Verdict

PASS, INCONCLUSIVE, FAIL = Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL


def _step(rate_per_s: float, p99_ms: float, *, late_ms: float = 0.01, kept: int | None = None, disturbed: int = 0, failed: int = 0) -> Step:
    if kept is None:
        kept = 3 if p99_ms < 1 else 0
    return Step(rate_per_s, rate_per_s, p99_ms / 2, p99_ms, late_ms, kept, 3, disturbed, failed)


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
    best = Result(search(step, 1000), "", ()).best
    assert best is not None
    assert 0.9 * capacity_per_s / CLOSE_ENOUGH <= best.rate_per_s < 0.9 * capacity_per_s


def test_steps_are_ascending_and_no_rate_is_tried_twice() -> None:
    step, taken = _queueing(10_000)
    rates = [one.rate_per_s for one in search(step, 1000)]
    assert rates == sorted(set(taken)) == sorted(taken)


def test_a_server_that_does_not_bear_the_first_rate_is_asked_once() -> None:
    step, taken = _queueing(500)
    result = Result(search(step, 1000), "", ())
    assert taken == [1000]
    assert result.best is None


def test_the_search_ends_on_a_server_without_limits() -> None:
    steps = search(lambda rate_per_s: _step(rate_per_s, 0.1), 1000)
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


def test_room_above_the_rate_passes() -> None:
    finding = judge_headroom(Result((_step(1000, 0.2), _step(2000, 0.3)), "", ()), 1000)
    assert (finding.verdict, finding.criterion, finding.measured[0].value) == (PASS, "P-2", 2000)


def test_no_room_fails_and_says_at_which_rate() -> None:
    finding = judge_headroom(Result((_step(1000, 0.2), _step(2000, 9.0)), "", ()), 1000)
    assert (finding.verdict, finding.reason) == (FAIL, "p99 left the limit at 2000 calls/s")


def test_calls_that_failed_fail_whatever_the_percentile() -> None:
    assert judge_headroom(Result((_step(1000, 0.2, failed=3),), "", ()), 1000).verdict is FAIL


@pytest.mark.parametrize(
    ("beyond", "doubt"),
    [
        (_step(2000, 5.0, late_ms=4.0), "our own sender could do no more"),
        (_step(2000, 5.0, disturbed=9), "the host stalled in 9 of its runs"),
        (_step(2000, 1.1, kept=1), "its runs disagree"),
    ],
    ids=["sender", "host", "runs"],
)
def test_what_may_not_be_the_servers_fault_is_inconclusive(beyond: Step, doubt: str) -> None:
    finding = judge_headroom(Result((_step(1000, 0.2), beyond), "", ()), 1000)
    assert finding.verdict is INCONCLUSIVE
    assert finding.reason == f"at 2000 calls/s the limit was left, but {doubt}"


def test_nothing_measured_does_not_pass() -> None:
    assert judge_headroom(Result((), "", ()), 1000).verdict is not PASS
