"""Measurements as text."""

import pytest

from runbook.evidence import Measurement
from runbook.report.measured import MISSING, measured_text


@pytest.mark.parametrize(
    ("measurement", "parts"),
    [
        (Measurement("GET p99", 0.25, "ms", 2000, "< 1 ms"), ["GET p99", "0.25 ms", "< 1 ms", "of 2,000"]),
        (Measurement("lost", 12345, "writes", 67890, "= 0"), ["lost", "12,345 writes", "= 0", "of 67,890"]),
        (Measurement("appendonly", "yes", threshold="= yes"), ["appendonly", "yes", "= yes"]),
        (Measurement("outage", 0.5, "s"), ["outage", "0.5 s"]),
    ],
    ids=["with a fraction", "of thousands", "a text", "alone"],
)
def test_a_measurement_shows_its_value_unit_limit_and_samples(measurement: Measurement, parts: list[str]) -> None:
    text = measured_text([measurement])
    positions = [text.find(part) for part in parts]
    assert -1 not in positions
    assert positions == sorted(positions)


def test_what_could_not_be_measured_shows_a_dash_instead_of_a_number() -> None:
    text = measured_text([Measurement("GET p99.9", None, "ms", 0)])
    assert MISSING in text
    assert "None" not in text
    assert "of 0" in text


def test_zero_is_a_number_and_no_missing_one() -> None:
    text = measured_text([Measurement("lost", 0, "writes", 100)])
    assert "0 writes" in text
    assert MISSING not in text


def test_a_single_observation_claims_no_samples_and_no_limit() -> None:
    assert "(" not in measured_text([Measurement("outage", 0.5, "s")])


def test_a_bare_number_has_no_blank_at_its_end() -> None:
    text = measured_text([Measurement("variables honoured", 5)])
    assert text == text.strip()
    assert text.endswith("5")


def test_several_are_written_in_their_order() -> None:
    text = measured_text([Measurement("first", 1), Measurement("second", 2)])
    assert text.index("first") < text.index("; ") < text.index("second")


def test_none_at_all_are_an_empty_text() -> None:
    assert measured_text([]) == ""
