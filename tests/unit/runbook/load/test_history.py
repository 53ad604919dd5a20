"""What a history tells of the operations that it holds."""

from runbook.load import History, Outcome, Record


def _record(done_ns: int, outcome: Outcome = Outcome.OK, *, worker: int = 0, error: str = "") -> Record:
    return Record(worker, "RPUSH", f"{worker}:{done_ns}", done_ns - 30, done_ns - 10, done_ns, outcome, error)


def test_records_are_in_the_order_in_which_the_operations_ended() -> None:
    history = History([_record(300), _record(100, worker=1), _record(200)])
    assert [record.done_ns for record in history] == [100, 200, 300]
    assert len(history) == 3


def test_operations_that_ended_in_the_same_nanosecond_keep_their_order() -> None:
    history = History([_record(100, worker=2), _record(100, worker=1)])
    assert [record.worker for record in history] == [2, 1]


def test_a_history_can_be_made_from_a_generator_and_read_twice() -> None:
    history = History(_record(done_ns) for done_ns in (1, 2))
    assert [*history] == [*history]


def test_latency_runs_from_the_intended_start_and_service_time_from_the_real_one() -> None:
    record = Record(0, "GET", "", intended_ns=1_000, sent_ns=5_000, done_ns=7_000, outcome=Outcome.OK)
    assert record.latency_ns == 6_000
    assert record.service_ns == 2_000


def test_operations_are_counted_by_outcome() -> None:
    history = History([_record(1), _record(2), _record(3, Outcome.FAIL), _record(4, Outcome.UNKNOWN)])
    assert [history.count(outcome) for outcome in (Outcome.OK, Outcome.FAIL, Outcome.UNKNOWN)] == [2, 1, 1]


def test_the_repr_counts_every_outcome() -> None:
    history = History([_record(1), _record(2, Outcome.UNKNOWN)])
    assert repr(history) == "<History of 2 operations: 1 ok, 0 fail, 1 unknown>"
