"""What the comparison of clients concludes, from hand-written slices."""

import dataclasses
from collections.abc import Sequence

import pytest

from runbook.client_worker import summarise
from runbook.drills.imports import ImportTimes, judge_imports
from runbook.drills.slices import Slice
from runbook.drills.speed import COMPARISONS, P99, RATE, Comparison, Pair, Result, judge_pairs
from runbook.evidence import Verdict
from runbook.report.plots import ratios
from runbook.report.tables import speed_table

PASS, INCONCLUSIVE, FAIL = Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL
THREADS = COMPARISONS[1]


def piece(rate: float, *, p99_us: float = 500.0, own_s: float = 0.1, errors: int = 0) -> Slice:
    return Slice(round(rate * own_s), errors, 0.1, own_s, 100.0, p99_us, 2 * p99_us)


def pairs_of(comparison: Comparison, times_the_limit: float, count: int = 12) -> list[Pair]:
    """Pairs whose every ratio is so many times its limit."""
    limits = {limit.what: limit.value * times_the_limit for limit in comparison.limits}
    ours, theirs = piece(10_000 * limits[RATE]), piece(10_000, p99_us=500.0 * limits.get(P99, 1.0))
    return [(ours, theirs)] * count


def verdicts(comparison: Comparison, pairs: Sequence[Pair]) -> set[Verdict]:
    return {finding.verdict for finding in judge_pairs(comparison, pairs)}


@pytest.mark.parametrize("comparison", COMPARISONS, ids=lambda each: each.name)
def test_each_limit_decides(comparison: Comparison) -> None:
    assert verdicts(comparison, pairs_of(comparison, 1.1)) == {PASS}
    assert verdicts(comparison, pairs_of(comparison, 0.9)) == {FAIL}
    assert verdicts(comparison, pairs_of(comparison, 1.1, count=5)) == {INCONCLUSIVE}
    assert verdicts(comparison, pairs_of(comparison, 1.1) + pairs_of(comparison, 0.9)) == {INCONCLUSIVE}
    assert verdicts(comparison, []) == {INCONCLUSIVE}


def test_a_stalled_slice_does_not_decide() -> None:
    assert verdicts(THREADS, pairs_of(THREADS, 1.1, count=18) + pairs_of(THREADS, 0.1, count=1)) == {PASS}


def test_time_in_which_another_process_had_the_core_does_not_count() -> None:
    pairs = [(piece(30_000, own_s=0.05), theirs) for _, theirs in pairs_of(COMPARISONS[0], 1.1)]
    assert verdicts(COMPARISONS[0], pairs) == {PASS}


@pytest.mark.parametrize("which", [0, 1])
def test_a_failed_call_fails_however_fast_the_others_were(which: int) -> None:
    pairs = pairs_of(THREADS, 1.1)
    broken = list(pairs[0])
    broken[which] = dataclasses.replace(broken[which], errors=1)
    found = judge_pairs(THREADS, [*pairs, (broken[0], broken[1])])
    assert {(finding.verdict, finding.reason) for finding in found} == {(FAIL, "1 calls failed")}


def test_a_client_whose_every_call_fails_is_no_fast_one() -> None:
    nothing = Slice(0, 100, 0.1, 0.1, None, None, None)
    assert verdicts(THREADS, [(nothing, theirs) for _, theirs in pairs_of(THREADS, 1.1)]) == {FAIL}


def test_a_heavy_import_fails() -> None:
    assert judge_imports([ImportTimes(0.1, 0.13)] * 12).verdict is PASS
    assert judge_imports([ImportTimes(0.1, 0.3)] * 12).verdict is FAIL


def test_a_slice_is_summed_up_in_microseconds() -> None:
    assert Slice(**summarise([0.003, 0.001, 0.002], 1, 1.0, 0.5)) == Slice(3, 1, 1.0, 0.5, 2000.0, 3000.0, 3000.0)
    assert Slice(**summarise([], 0, 1.0, 1.0)) == Slice(0, 0, 1.0, 1.0, None, None, None)


def test_the_picture_and_the_table_hold_every_comparison() -> None:
    result = Result("anywhere", {each: pairs_of(each, 1.1) for each in COMPARISONS}, {}, (), 1.0)
    assert ratios(result).series == tuple(each.name for each in COMPARISONS)
    assert "one caller against redis-py 1.3 × (1.3 to 1.3)" in ratios(result).alt
    assert all(each.ours.split("/")[1] in speed_table(result).text() for each in COMPARISONS)
    assert ratios(Result("not placed", {}, {}, (), 0.0)).alt.startswith("How many times the rate? Medians with their intervals: none")
