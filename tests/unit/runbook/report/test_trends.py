"""Numbers over time: each apart from what is not like it, told in a sentence, and drawn against its limit."""

import pytest

from runbook.report.chart import BOTTOM, LEFT, RIGHT, TOP, chart_of
from runbook.report.trends import MOST_POINTS, Series, limit_of, series_of, split, told
from tests.unit.runbook.report.entries import entry, measured


def series(*values: float, threshold: str = "< 1 ms", **finding: str) -> Series:
    """A number in runs on successive days."""
    entries = [entry(number, measured(value, threshold, **finding), day=f"2026-03-{number:02d}") for number, value in enumerate(values, 1)]
    (found,) = series_of(entries)
    return found


class TestSeries:
    def test_it_holds_the_number_of_each_run_in_the_order_in_which_they_began(self) -> None:
        late, early = entry(1, measured(0.4), day="2026-03-02"), entry(2, measured(0.3), day="2026-03-01")
        (found,) = series_of([late, early])
        assert [(point.run, point.value) for point in found.points] == [("run-2", 0.3), ("run-1", 0.4)]

    def test_targets_claims_and_units_are_kept_apart(self) -> None:
        numbers = (measured(0.3), measured(0.3, claim="Another"), measured(0.3, unit="s"))
        assert len(series_of([entry(1, *numbers), entry(2, *numbers, target="compose")])) == 6

    def test_runs_with_other_parameters_are_kept_apart_but_not_those_with_another_seed(self) -> None:
        given = [{"seed": 1, "rate_per_s": 200}, {"rate_per_s": 200, "seed": 2}, {"rate_per_s": 20000, "seed": 1}]
        entries = [entry(number, measured(0.3), parameters=each) for number, each in enumerate(given)]
        found = series_of([*entries, entry(3, measured(0.3))])  # the last one is of before they were kept
        assert [(each.parameters, len(each.points)) for each in found] == [("rate_per_s=200", 2), ("rate_per_s=20000", 1), ("", 1)]

    @pytest.mark.parametrize("left_out", [measured(0.3, threshold=""), measured("0.1 to 0.3"), measured(None)])
    def test_what_is_no_number_or_was_held_against_nothing_has_no_trend(self, left_out: dict[str, object]) -> None:
        assert series_of([entry(1, left_out)]) == []

    def test_of_very_many_runs_the_newest_are_kept(self) -> None:
        found = series_of([entry(number, measured(number)) for number in range(MOST_POINTS + 5)])[0]
        assert (len(found.points), found.points[-1].value) == (MOST_POINTS, MOST_POINTS + 4)

    def test_another_host_is_noticed(self) -> None:
        (found,) = series_of([entry(1, measured(0.3)), entry(2, measured(0.3), host={"cpus": 64})])
        assert found.places == 2
        host = entry(1).content["host"]
        (busy,) = series_of([entry(1, measured(0.3)), entry(2, measured(0.3), host={**host, "steal_share": 0.2})])
        assert busy.places == 1

    def test_what_stayed_the_same_is_parted_from_what_changed(self) -> None:
        steady, changed = series(0.3, 0.3), series(0.3, 0.4)
        assert split([steady, changed]) == ([changed], [steady])

    def test_another_verdict_on_the_same_number_is_a_change(self) -> None:
        found = series_of([entry(1, measured(0.3)), entry(2, measured(0.3, verdict="FAIL"))])
        assert found[0].changed


@pytest.mark.parametrize(
    ("threshold", "unit", "limit"),
    [
        ("< 1 ms", "ms", 1.0),
        ("≤ 25/s", "/s", 25.0),
        ("≥ 4000", "calls/s", 4000.0),
        ("= 0", "writes", 0.0),
        ("≥ 1,000", "", 1000.0),
        ("≤ 0.5 s", "s", 0.5),
        ("≤ 1 s", "ms", None),  # another unit: a line at 1 would be a lie
        ("≤ 1429 + 2", "", None),
        ("only within 2 s", "s", None),
        ("all", "", None),
    ],
)
def test_a_limit_is_drawn_only_where_it_is_a_number_of_the_same_unit(threshold: str, unit: str, limit: float | None) -> None:
    assert limit_of(threshold, unit) == limit


def test_the_sentence_has_the_numbers_of_the_picture() -> None:
    entries = [entry(1, measured(0.3)), entry(2, measured(2.5, verdict="FAIL"), day="2026-03-09")]
    assert told(series_of(entries)[0]) == (
        "GET p99 of latency-benchmark in 2 runs from 2026-03-01 to 2026-03-09: between 0.3 ms and 2.5 ms, in the last run 2.5 ms, "
        "held against < 1 ms; 1 × PASS, 1 × FAIL."
    )


class TestChart:
    def test_the_values_lie_between_the_ticks_and_more_is_higher(self) -> None:
        chart = chart_of(series(0.3, 0.9, 0.6))
        assert [label for _, label in chart.ticks] == ["0", "0.5", "1"]
        assert (chart.ticks[0][0], chart.ticks[-1][0]) == (BOTTOM, TOP)
        low, high, middle = chart.marks
        assert high.y < middle.y < low.y
        assert LEFT < low.x < high.x < middle.x < RIGHT

    @pytest.mark.parametrize("values", [(0.0, 0.0), (5.0,), (-3.0, 4.0), (1e-4, 2e-4), (1e9, 3e9), (16000, 17000)])
    def test_any_values_have_few_ticks_that_enclose_them(self, values: tuple[float, ...]) -> None:
        chart = chart_of(series(*values, threshold="all"))
        assert 2 <= len(chart.ticks) <= 7
        assert len({label for _, label in chart.ticks}) == len(chart.ticks)
        assert all(TOP <= mark.y <= BOTTOM for mark in chart.marks)

    def test_the_limit_is_drawn_at_its_height_from_end_to_end(self) -> None:
        chart = chart_of(series(0.3, 0.9))
        places = [tuple(map(float, place.split(","))) for place in chart.limit.split()]
        assert {y for _, y in places} == {y for y, label in chart.ticks if label == "1"}
        assert (places[0][0], places[-1][0]) == (LEFT, RIGHT)
        assert not chart.far

    def test_a_limit_that_changed_is_drawn_as_a_step(self) -> None:
        (found,) = series_of([entry(1, measured(0.6, "< 1 ms")), entry(2, measured(0.6, "< 2 ms"), day="2026-03-02")])
        assert len({place.split(",")[1] for place in chart_of(found).limit.split()}) == 2

    def test_a_limit_that_is_far_away_is_named_with_an_arrow(self) -> None:
        chart = chart_of(series(0.03, 0.09, threshold="≤ 20 ms"))
        assert (chart.limit, chart.far) == ("", "↑ ≤ 20 ms")

    def test_each_verdict_has_a_look_of_its_own_and_each_mark_says_its_run(self) -> None:
        verdicts = ("PASS", "FAIL", "INCONCLUSIVE")
        entries = [entry(number, measured(0.3, verdict=verdict)) for number, verdict in enumerate(verdicts)]
        (found,) = series_of([*entries, entry(3, measured(0.3, verdict="FAIL", known="documented"))])
        marks = chart_of(found).marks
        assert [mark.look for mark in marks] == [*verdicts, "known"]
        assert marks[0].text == "run-0: 0.3 ms, PASS"
