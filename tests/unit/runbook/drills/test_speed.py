"""What the comparison of clients concludes, from hand-written rounds."""

from collections.abc import Mapping, Sequence

import pytest

from runbook.contestant import summarise
from runbook.drills.speed import COMPARISONS, Result, Round, judge_percentiles, judge_pool, judge_speed
from runbook.evidence import Finding, Verdict
from runbook.report.plots import ratios
from runbook.report.tables import speed_table

FAST = {"one caller/cachelib": 20, "one caller/redis-py": 10, "100 threads/cachelib": 30, "100 threads/redis-py": 10}
FAST |= {"100 tasks/cachelib": 100, "100 tasks/redis.asyncio": 10, "10,000 tasks/cachelib": 90}


def rounds_of(rates: Mapping[str, Sequence[float]], *, p99_us: float = 500.0, errors: int = 0) -> Result:
    rounds = {
        name: tuple(Round(int(rate * 1000), 1.0, 100.0, p99_us, 2 * p99_us, errors) for rate in values) for name, values in rates.items()
    }
    return Result("anywhere", rounds, {"cachelib": (0.11, 0.12), "redis": (0.1, 0.1)})


def fast(**changes: Sequence[float]) -> dict[str, Sequence[float]]:
    return {name: (rate,) * 5 for name, rate in FAST.items()} | changes


def verdicts(findings: Sequence[Finding]) -> list[Verdict]:
    return [finding.verdict for finding in findings]


def test_ratios_that_are_reached_pass() -> None:
    assert set(verdicts(judge_speed(rounds_of(fast())))) == {Verdict.PASS}


@pytest.mark.parametrize("slow", range(len(COMPARISONS)))
def test_a_ratio_that_no_round_reaches_fails(slow: int) -> None:
    comparison = COMPARISONS[slow]
    theirs = FAST[comparison.theirs]
    found = judge_speed(rounds_of(fast(**{comparison.ours: (0.9 * comparison.at_least * theirs,) * 5})))
    assert found[slow].verdict is Verdict.FAIL
    assert "no round reached it" in found[slow].reason


def test_rounds_that_disagree_are_inconclusive() -> None:
    found = judge_speed(rounds_of(fast(**{"one caller/cachelib": (12, 12, 12, 12, 20)})))
    assert found[0].verdict is Verdict.INCONCLUSIVE
    assert "take more rounds" in found[0].reason


def test_few_rounds_may_pass_and_never_fail() -> None:
    two = {name: (rate,) * 2 for name, rate in FAST.items()}
    assert set(verdicts(judge_speed(rounds_of(two)))) == {Verdict.PASS}
    slow = judge_speed(rounds_of({**two, "one caller/cachelib": (5, 5)}))[0]
    assert slow.verdict is Verdict.INCONCLUSIVE
    assert "5 are needed" in slow.reason


@pytest.mark.parametrize("silent", ["one caller/cachelib", "one caller/redis-py"])
def test_a_round_without_a_call_is_inconclusive(silent: str) -> None:
    found = judge_speed(rounds_of(fast(**{silent: (20, 20, 20, 20, 0)})))[0]
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "give longer rounds" in found.reason


def test_a_stalled_round_does_not_decide() -> None:
    assert judge_speed(rounds_of(fast(**{"one caller/cachelib": (20, 3, 20, 20, 3)})))[0].verdict is Verdict.PASS


def test_a_failed_call_fails_however_fast_the_others_were() -> None:
    found = judge_speed(rounds_of(fast(), errors=1))
    assert found[0].verdict is Verdict.FAIL
    assert "calls failed" in found[0].reason


def test_a_contestant_that_did_not_run_is_inconclusive() -> None:
    rates = fast()
    del rates["one caller/redis-py"]
    assert judge_speed(rounds_of(rates))[0].verdict is Verdict.INCONCLUSIVE


def test_a_heavy_import_fails() -> None:
    heavy = Result("anywhere", rounds_of(fast()).rounds, {"cachelib": (0.3,), "redis": (0.1,)})
    assert judge_speed(heavy)[-1].verdict is Verdict.FAIL


def test_percentiles_are_judged_by_the_median_round() -> None:
    assert verdicts(judge_percentiles(rounds_of(fast()))) == [Verdict.PASS, Verdict.PASS]
    assert verdicts(judge_percentiles(rounds_of(fast(), p99_us=1500.0))) == [Verdict.PASS, Verdict.FAIL]


def test_a_pool_that_did_not_fill_fails() -> None:
    assert judge_pool(99, 100).verdict is Verdict.FAIL
    assert judge_pool(100, 100).verdict is Verdict.PASS


def test_a_round_is_summed_up_in_microseconds() -> None:
    assert Round(**summarise([0.003, 0.001, 0.002], 1.0, 1)) == Round(3, 1.0, 2000.0, 3000.0, 3000.0, 1)
    assert Round(**summarise([], 1.0, 0)) == Round(0, 1.0, None, None, None, 0)


def test_the_picture_and_the_table_hold_every_comparison() -> None:
    result = rounds_of(fast())
    assert len(ratios(result).series) == len(COMPARISONS)
    assert "one caller against redis-py 2.0 ×" in ratios(result).alt
    assert all(name.split("/")[1] in speed_table(result).text() for name in FAST)
