"""Histories as text: what pandas and a person read back is what was recorded."""

import io

import pandas as pd

from runbook.evidence.samples import as_csv
from runbook.load import History, Outcome, Record
from runbook.load.history import COLUMNS
from runbook.report.frame import frame

HOSTILE = 'ResponseError: "a, b"\nand more'


def test_a_record_is_a_line_that_a_person_can_read() -> None:
    lines = as_csv(History([Record(0, "RPUSH", "0:7", 70, 90, 100, Outcome.OK)])).splitlines()
    assert lines == [",".join(COLUMNS), "0,RPUSH,0:7,70,90,100,ok,"]


def test_what_is_read_back_is_what_was_recorded_whatever_an_error_says() -> None:
    history = History([Record(1, "RPUSH", "1:0", 70, 90, 100, Outcome.UNKNOWN, HOSTILE), Record(0, "GET", "", 1, 2, 3, Outcome.OK)])
    read = pd.read_csv(io.StringIO(as_csv(history)), keep_default_na=False)
    assert read.values.tolist() == frame(history).values.tolist()


def test_an_empty_history_keeps_its_heading() -> None:
    assert as_csv(History([])) == ",".join(COLUMNS) + "\n"
