"""Metrics: what Prometheus' own parser reads of them, one state of each verdict, and no sample twice."""

import math
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from runbook.report.metrics import PREFIX, metrics
from tests.unit.runbook.report.results import HOSTILE, RESULTS, drills, finding, hostile, notebook, verification

EACH_RESULT = pytest.mark.parametrize("result", RESULTS.values(), ids=RESULTS)

Samples = dict[tuple[tuple[str, str], ...], float]


def _read(result: dict[str, Any]) -> dict[str, Samples]:
    found: dict[str, Samples] = {}
    for family in text_string_to_metric_families(metrics(result)):
        assert family.documentation
        for sample in family.samples:
            labels = tuple(sorted(sample.labels.items()))
            samples = found.setdefault(sample.name.removeprefix(PREFIX), {})
            assert labels not in samples, "Prometheus refuses a file in which a sample stands twice"
            samples[labels] = sample.value
    return found


def _values(result: dict[str, Any], name: str, /, **labels: str) -> list[float]:
    samples = _read(result).get(name, {})
    return [value for found, value in samples.items() if set(labels.items()) <= set(found)]


def _state(result: dict[str, Any], name: str, /, **labels: str) -> list[str]:
    samples = _read(result)[name]
    return [dict(found)["verdict"] for found, value in samples.items() if value and set(labels.items()) <= set(found)]


@EACH_RESULT
def test_prometheus_reads_it_and_each_metric_has_help_and_the_prefix(result: dict[str, Any]) -> None:
    assert _read(result)
    for line in metrics(result).splitlines():
        assert line.startswith((f"# HELP {PREFIX}", f"# TYPE {PREFIX}", PREFIX))


@EACH_RESULT
def test_each_verdict_is_in_exactly_one_state(result: dict[str, Any]) -> None:
    for name, samples in _read(result).items():
        if name.endswith("_verdict"):
            subjects = {tuple(label for label in labels if label[0] != "verdict") for labels in samples}
            for subject in subjects:
                states = [value for labels, value in samples.items() if set(subject) <= set(labels)]
                assert (sorted(states), len(states)) == ([0, 0, 0, 1], 4)


@EACH_RESULT
def test_the_same_result_gives_the_same_bytes(result: dict[str, Any]) -> None:
    assert metrics(result) == metrics(result)


@EACH_RESULT
def test_hostile_text_stays_within_its_label(result: dict[str, Any]) -> None:
    read = _read(hostile(result))
    labels = {value for samples in read.values() for found in samples for _, value in found}
    assert HOSTILE.encode(errors="replace").decode() in labels
    assert set(read) == set(_read(result))


def test_a_verification_tells_of_each_criterion_and_of_each_notebook() -> None:
    result = RESULTS["verification"]
    states = {name: _state(result, "criterion_verdict", criterion=name) for name in ("I-4", "I-5", "P-2", "D-3")}
    assert states == {"I-4": ["PASS"], "I-5": ["FAIL"], "P-2": ["INCONCLUSIVE"], "D-3": ["NOT_EXAMINED"]}
    assert _state(result, "run_verdict", kind="verification", name="verify") == ["FAIL"]
    assert _state(result, "run_verdict", kind="notebook", name="setup") == ["BROKEN"]
    assert _values(result, "finished_timestamp_seconds", name="verify", target="embedded") == [1767225660.0]
    assert _values(result, "duration_seconds", kind="notebook", name="setup") == [0.5]


def test_a_notebook_tells_when_it_ended_from_when_it_began() -> None:
    assert _values(RESULTS["PASS"], "finished_timestamp_seconds", kind="notebook") == [1767225612.5]


def test_drills_tell_of_each_and_of_all() -> None:
    states = {name: _state(drills(), "run_verdict", name=name) for name in ("drill", "stop", "kill", "aof-damage", "pause")}
    assert states == {"drill": ["FAIL"], "stop": ["PASS"], "kill": ["FAIL"], "aof-damage": ["INCONCLUSIVE"], "pause": ["BROKEN"]}
    assert _values(drills(), "duration_seconds", kind="drill", name="kill") == [4.5]


def test_numbers_carry_unit_and_source_and_how_many_samples_there_were() -> None:
    labels = {"criterion": "I-4", "claim": "No write is lost", "source": "persistence-drill", "name": "acknowledged writes lost"}
    result = verification("PASS", finding())
    assert _values(result, "measured", **labels, unit="writes", target="embedded") == [7.0]
    assert _values(result, "measured_samples", **labels) == [56789.0]


def test_what_is_no_number_is_no_sample() -> None:
    names = {dict(labels)["name"] for labels in _read(RESULTS["PASS"])["measured"]}
    assert names == {"acknowledged writes lost", "window of the loss"}


def test_a_claim_that_was_judged_twice_is_one_sample() -> None:
    assert _values(notebook("PASS", finding(), finding()), "measured", name="acknowledged writes lost") == [7.0]


def test_a_time_that_can_t_be_read_is_left_out() -> None:
    assert _values({**RESULTS["PASS"], "started_utc": "yesterday"}, "finished_timestamp_seconds") == []


def test_the_server_is_named() -> None:
    assert _values(RESULTS["PASS"], "engine_info", product="redis", version="7.0.15") == [1.0]
    assert "engine_info" not in _read(RESULTS["dead"])
    assert not any(math.isnan(value) for samples in _read(RESULTS["verification"]).values() for value in samples.values())
