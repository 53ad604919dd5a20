"""How restorations are timed, judged and their growth named."""

import math
from dataclasses import replace

import pytest

from runbook.drills.restore_time import SNAPSHOT, Timing, growth_of, judge_spoiled, judge_timings
from runbook.evidence import Verdict

SIZES = (10.0, 100.0, 400.0)


class TestGrowth:
    @pytest.mark.parametrize(
        ("power", "name"),
        [(0, "hardly grows"), (0.5, "less than linear: what every start takes still counts"), (1, "linear"), (2, "more than linear")],
    )
    def test_it_is_named_by_its_power(self, power: float, name: str) -> None:
        growth = growth_of({size: 0.01 * size**power for size in SIZES})
        assert growth
        assert growth.exponent == pytest.approx(power)
        assert growth.name == name

    def test_a_fixed_part_does_not_change_what_100_mib_more_take(self) -> None:
        growth = growth_of({size: 3 + 0.02 * size for size in SIZES})
        assert growth
        assert growth.per_100_mib_s == pytest.approx(2)
        assert growth.name != "linear"

    @pytest.mark.parametrize("points", [{}, {10.0: 1.0, 100.0: 2.0}, {10.0: 1.0, 100.0: 2.0, 400.0: math.inf}])
    def test_of_too_few_sizes_or_of_one_that_never_served_there_is_none(self, points: dict[float, float]) -> None:
        assert growth_of(points) is None


class TestTimings:
    def _timings(self, *seconds: float, problem: str = "") -> list[Timing]:
        return [Timing(size, size, 0.1, took_s, problem) for size, took_s in zip(SIZES, seconds, strict=True)]

    def test_those_in_time_pass_and_are_told_by_size(self) -> None:
        finding = judge_timings(SNAPSHOT, self._timings(0.0, 0.9, 3.9))
        assert finding.verdict is Verdict.PASS
        told = {measurement.name: measurement.value for measurement in finding.measured}
        assert (told["10 MiB"], told["100 MiB"], told["400 MiB"]) == (0.1, 1.0, 4.0)
        assert told["growth"] == "linear (size to the power of 1.00)"

    def test_a_late_one_fails_and_the_worst_is_named(self) -> None:
        finding = judge_timings(SNAPSHOT, self._timings(11.0, 60.0, 51.0))
        assert finding.verdict is Verdict.FAIL
        assert finding.reason == "3 of 3 came late, worst 60.1 s for 100 MiB"

    def test_one_that_does_not_hold_everything_fails_however_fast(self) -> None:
        finding = judge_timings(SNAPSHOT, self._timings(0.1, 0.2, 0.3, problem="it holds 1 of 2 keys"))
        assert finding.verdict is Verdict.FAIL
        assert finding.reason == "3 of 3, first 10 MiB: it holds 1 of 2 keys"

    def test_one_that_never_served_fails_and_its_time_is_not_told(self) -> None:
        finding = judge_timings(SNAPSHOT, self._timings(0.1, 0.2, math.inf))
        assert finding.verdict is Verdict.FAIL
        assert {measurement.name: measurement.value for measurement in finding.measured}["400 MiB"] is None

    def test_none_at_all_proves_nothing(self) -> None:
        assert judge_timings(SNAPSHOT, []).verdict is Verdict.INCONCLUSIVE


class TestSpoiled:
    OTHER = Timing(4.0, 4.0, 0.1, 0.2, "the digest of what it holds is another one")

    def test_one_that_is_found_out_passes(self) -> None:
        assert judge_spoiled(self.OTHER).verdict is Verdict.PASS

    def test_one_that_passes_for_a_good_one_makes_the_results_worthless(self) -> None:
        finding = judge_spoiled(replace(self.OTHER, problem=""))
        assert (finding.verdict, finding.reason) == (Verdict.INCONCLUSIVE, "it passes for a good one")

    def test_one_that_the_server_itself_refused_shows_nothing_of_the_digest(self) -> None:
        finding = judge_spoiled(replace(self.OTHER, serve_s=math.inf, problem="the server refused to start: Bad file"))
        assert (finding.verdict, finding.reason) == (Verdict.INCONCLUSIVE, "the server did not load it")
