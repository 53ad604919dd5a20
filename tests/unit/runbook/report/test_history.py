"""The history as text, CSV and JSON: nothing recorded is left out, and the number that decided is the one that is told."""

import io
import json
from typing import Any

import pandas as pd
import pytest

from runbook.report.history import as_csv, as_json, as_text, deciding
from tests.unit.runbook.report.entries import entry, measured

WINDOW = measured(0.3, "≤ 2 s", "window of the loss", "s", claim="Only the last seconds are lost", criterion="I-4")
SLOW = measured(3.4, verdict="FAIL", claim="The 99th percentile of SET is below 1 ms")


def test_the_table_says_when_what_where_the_verdict_how_long_and_what_decided_it() -> None:
    heading, line = as_text([entry(1, measured(0.31), day="2026-03-01")]).splitlines()
    assert heading.split("  ")[0] == "when, UTC"
    expected = "2026-03-01 10:00  latency-benchmark  embedded  PASS     60.0 s  GET p99: 0.31 ms (< 1 ms, of 1,200)"
    assert " ".join(line.split()) == " ".join(expected.split())


def test_a_broken_run_is_told_with_its_reason() -> None:
    text = as_text([entry(1, verdict=None, broken="the kernel died", target=None)])
    assert "BROKEN" in text
    assert "the kernel died" in text
    assert "None" not in text


class TestDeciding:
    def test_a_failure_is_decided_by_the_claim_that_failed(self) -> None:
        found = deciding(entry(1, WINDOW, SLOW, verdict="FAIL").content)
        assert found
        assert found.value == 3.4

    def test_a_failure_that_is_known_of_the_server_decides_nothing(self) -> None:
        assert deciding(entry(1, {**SLOW, "known": "it is documented"}, verdict="FAIL").content) is None

    @pytest.mark.parametrize("before", [measured(4, "= 4", claim="Control: the accounting finds a loss"), measured(9, threshold="")])
    def test_controls_and_numbers_without_a_limit_come_last(self, before: dict[str, Any]) -> None:
        found = deciding(entry(1, before, WINDOW).content)
        assert found
        assert found.name == "window of the loss"
        alone = deciding(entry(1, before).content)
        assert alone
        assert alone.value == before["value"]


class TestCsv:
    def test_pandas_reads_a_row_for_each_measurement_and_one_for_a_run_without_any(self) -> None:
        entries = [entry(1, measured(0.31), WINDOW), entry(2, kind="verification", name="verify", verdict="INCONCLUSIVE")]
        frame = pd.read_csv(io.StringIO(as_csv(entries)))
        assert list(frame["run"]) == ["run-1", "run-1", "run-2"]
        assert list(frame["measured"].fillna("")) == ["GET p99", "window of the loss", ""]
        assert list(frame["value"][:2]) == [0.31, 0.3]
        assert frame["value"].isna()[2]
        assert list(frame["verdict"]) == ["PASS", "PASS", "INCONCLUSIVE"]
        assert set(frame["host_cpus"]) == {2}
        assert set(frame["engine_version"]) == {"7.0.15"}
        assert list(frame["threshold"][:2]) == ["< 1 ms", "≤ 2 s"]

    def test_a_run_that_knew_neither_host_nor_engine_has_a_row_too(self) -> None:
        frame = pd.read_csv(io.StringIO(as_csv([entry(1, engine=None, host=None, target=None, verdict=None, broken='a "quote", a\nline')])))
        assert frame["broken"][0] == 'a "quote", a\nline'
        assert frame["host_cpus"].isna()[0]


def test_json_is_the_entries_as_they_are_kept() -> None:
    kept = entry(7, measured(0.31))
    (read,) = json.loads(as_json([kept]))
    assert read == {
        "number": 7,
        "recorded_utc": kept.recorded_utc,
        "kind": "run",
        "run": "run-7",
        "content": kept.content,
        "sha256": kept.sha256,
    }
