"""What a limit concludes from the values of pairs."""

from collections.abc import Sequence

import pytest

from runbook.drills.paired_limit import Limit
from runbook.evidence import Verdict

PASS, INCONCLUSIVE, FAIL = Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL
AROUND_ONE = [0.98, 1.02] * 10


@pytest.mark.parametrize(
    ("values", "limit", "at_least", "at_most"),
    [
        (AROUND_ONE, 0.8, PASS, FAIL),
        (AROUND_ONE, 1.5, FAIL, PASS),
        (AROUND_ONE, 1.0, INCONCLUSIVE, INCONCLUSIVE),
        (AROUND_ONE[:4], 0.8, INCONCLUSIVE, INCONCLUSIVE),
        ([], 0.8, INCONCLUSIVE, INCONCLUSIVE),
    ],
    ids=["above", "below", "around", "too few", "none"],
)
def test_the_whole_interval_decides(values: Sequence[float], limit: float, at_least: Verdict, at_most: Verdict) -> None:
    for is_most, expected in ((False, at_least), (True, at_most)):
        verdict, reason, measured = Limit("ratio", limit, at_most=is_most).judge(values)
        assert verdict is expected
        assert bool(reason) is (verdict is not PASS)
        assert not values or measured[0].threshold == f"{'≤' if is_most else '≥'} {limit:g} ×"


def test_a_few_stalled_pairs_do_not_decide() -> None:
    assert Limit("ratio", 0.8).judge([*AROUND_ONE, 0.1, *AROUND_ONE, 0.1])[0] is PASS
