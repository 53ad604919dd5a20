"""The chart of the page shows the percentiles where they lie, and nothing else that was measured."""

from typing import Any

import pytest

from runbook.report.latency_chart import LEFT, RIGHT, latency_chart

GET = "At most 1% of GET take over 1 ms, what the host does taken off"
CLIENT = "At most 1% of the calls through the client library take over 1 ms, what the host does taken off"


def _result(*claims: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    findings = [
        {"claim": claim, "measured": [{"name": name, "value": value, "unit": "ms"} for name, value in measured.items()]}
        for claim, measured in claims
    ]
    return {"criteria": [{"id": "P-2", "findings": findings}]}


def test_each_operation_is_a_row_from_its_smallest_percentile_to_its_largest() -> None:
    chart = latency_chart(
        _result((GET, {"GET p99": 0.4, "GET p50": 0.1}), (CLIENT, {"all operations p99": 2.0, "all operations p50": 0.2}))
    )
    assert chart
    assert [row.name for row in chart.rows] == ["GET", "client"]
    assert [point.name for point in chart.rows[0].points] == ["p50", "p99"]
    assert chart.rows[0].y < chart.rows[1].y


def test_what_is_slower_lies_further_right_and_the_limit_between() -> None:
    chart = latency_chart(_result((GET, {"GET p50": 0.1, "GET p99": 3.0})))
    assert chart
    fast, slow = chart.rows[0].points
    assert LEFT <= fast.x < chart.limit.x < slow.x <= RIGHT
    assert chart.limit.value_ms == 1.0


@pytest.mark.parametrize("other", ["own sender late, p99", "99 % confidence of p99", "GET maximum"])
def test_other_measurements_are_not_taken_for_percentiles(other: str) -> None:
    chart = latency_chart(_result((GET, {"GET p50": 0.1, "GET p99": 0.4, other: 9.0})))
    assert chart
    assert [point.value_ms for point in chart.rows[0].points] == [0.1, 0.4]


@pytest.mark.parametrize("missing", [None, "2.7 to 5.5", 0])
def test_a_percentile_of_too_few_samples_is_left_out(missing: Any) -> None:
    chart = latency_chart(_result((GET, {"GET p50": 0.1, "GET p99": 0.4, "GET p99.9": missing})))
    assert chart
    assert [point.name for point in chart.rows[0].points] == ["p50", "p99"]


def test_who_cannot_see_it_is_told_the_numbers() -> None:
    chart = latency_chart(_result((GET, {"GET p50": 0.1, "GET p99": 0.4})))
    assert chart
    assert "limit of 1 ms" in chart.alt
    assert "GET p50 0.1 ms, p99 0.4 ms" in chart.alt


def test_without_latencies_there_is_no_chart() -> None:
    assert latency_chart(_result(("Nothing is lost", {"acknowledged writes lost": 0}))) is None
    assert latency_chart(_result((GET, {"GET p99": None}))) is None


def test_the_control_is_a_row_of_its_own_behind_the_others() -> None:
    chart = latency_chart(_result((GET, {"GET p99": 0.4, "control p99": 0.3}), (CLIENT, {"all operations p99": 2.0, "control p99": 1.9})))
    assert chart
    assert [(row.name, [point.value_ms for point in row.points]) for row in chart.rows] == [
        ("GET", [0.4]),
        ("client", [2.0]),
        ("control", [0.3]),
    ]
