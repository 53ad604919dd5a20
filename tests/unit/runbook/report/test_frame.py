"""A history as a table."""

from runbook.load import History, Outcome, Record
from runbook.report.frame import frame

COLUMNS = ["worker", "operation", "value", "intended_ns", "sent_ns", "done_ns", "outcome", "error"]


def _record(done_ns: int, outcome: Outcome = Outcome.OK, *, worker: int = 0, error: str = "") -> Record:
    return Record(worker, "RPUSH", f"{worker}:{done_ns}", done_ns - 30, done_ns - 10, done_ns, outcome, error)


def test_the_frame_has_a_row_for_each_record_and_a_column_for_each_field() -> None:
    table = frame(History([_record(200, Outcome.FAIL, error="Unavailable: gone"), _record(100)]))
    assert list(table.columns) == COLUMNS
    assert table["done_ns"].tolist() == [100, 200]
    assert table["outcome"].tolist() == ["ok", "fail"]
    assert table["error"].tolist() == ["", "Unavailable: gone"]


def test_the_frame_of_an_empty_history_keeps_the_columns() -> None:
    table = frame(History([]))
    assert list(table.columns) == COLUMNS
    assert table.empty
