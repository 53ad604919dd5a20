"""What a run measured, kept in slices of time."""

from collections import Counter

import pytest

from runbook.load.recording import (
    LATE,
    LATENCY,
    MOST_ERRORS,
    MOST_SLICES,
    OTHERS,
    QUEUE,
    SECOND_NS,
    SERVICE,
    Recorder,
    Recording,
    slice_width_ns,
    together,
)

WIDTH_NS = SECOND_NS // 10
MS = 1_000_000


def _recorded(recorder: Recorder, seconds: float = 1.0) -> Recording:
    return Recording(recorder.slice_ns, recorder.finish(), recorder.errors, seconds)


def _calls(*starts_s: float, took_ms: float = 1.0, operation: str = "GET", width_ns: int = WIDTH_NS) -> Recording:
    recorder = Recorder(width_ns, 0)
    for start_s in starts_s:
        start_ns = round(start_s * SECOND_NS)
        recorder.call(operation, start_ns, start_ns, start_ns + round(took_ms * MS))
    return _recorded(recorder)


def test_a_call_stands_in_the_slice_of_its_intended_start() -> None:
    assert _calls(0.0, 0.05, 0.1999, 7.35, took_ms=1.5).slices() == {0: [(1500, 2)], 1: [(1500, 1)], 73: [(1500, 1)]}


def test_slices_ascend_whatever_came_first() -> None:
    assert list(_calls(5.0, 1.0, 3.0).slices()) == [10, 30, 50]


def test_latency_runs_from_the_intended_start_and_service_from_the_sending() -> None:
    recorder = Recorder(WIDTH_NS, 0)
    recorder.call("GET", 0, 2 * MS, 5 * MS)
    recorder.sent("GET", 0, 3 * MS // 2, 2 * MS)
    made = _recorded(recorder)
    assert [list(made.histogram(series)) for series in (LATENCY, SERVICE, QUEUE, LATE)] == [[5.0], [3.0], [1.5], [0.5]]
    assert made.count() == 1


def test_late_replies_to_slices_that_are_packed_are_not_lost() -> None:
    """A server that stalls for seconds answers long after the slice of the call has been put away."""
    recorder = Recorder(WIDTH_NS, 0)
    for number in range(100):
        recorder.call("GET", number * WIDTH_NS, number * WIDTH_NS, number * WIDTH_NS + MS)
    for number in (3, 50, 3, 99, 0):
        recorder.call("GET", number * WIDTH_NS, number * WIDTH_NS, number * WIDTH_NS + 9000 * MS)
    made = _recorded(recorder)
    assert made.count() == 105
    assert {number: sum(count for _, count in pairs) for number, pairs in made.slices().items()} == {
        **dict.fromkeys(range(100), 1),
        3: 3,
        50: 2,
        99: 2,
        0: 2,
    }
    assert made.histogram().pairs()[0] == (1000, 100)


def test_the_warm_up_is_not_recorded_but_its_errors_are() -> None:
    recorder = Recorder(WIDTH_NS, SECOND_NS)
    for start_ns in (0, SECOND_NS - 1, SECOND_NS, SECOND_NS + 1):
        recorder.call("GET", start_ns, start_ns, SECOND_NS + MS)
        recorder.sent("GET", start_ns, 0, start_ns + 5)
        recorder.batch([("SET", 3)], start_ns, SECOND_NS + MS)
        recorder.error("PING", "connection lost")
    made = _recorded(recorder)
    assert (made.count("GET"), made.count("SET"), len(made.histogram(LATE))) == (2, 6, 2)
    assert made.failed("PING") == {"connection lost": 4}


def test_calls_of_the_warm_up_that_end_behind_it_do_not_count() -> None:
    recorder = Recorder(WIDTH_NS, SECOND_NS)
    recorder.call("GET", SECOND_NS - MS, SECOND_NS - MS, 3 * SECOND_NS)
    assert _recorded(recorder).count() == 0


def test_each_operation_can_be_looked_at_alone() -> None:
    recorder = Recorder(WIDTH_NS, 0)
    recorder.call("GET", 0, 0, MS)
    recorder.batch([("SET", 3), ("PING", 2)], 0, 4 * MS)
    recorder.error("INCR", "error OOM", 5)
    recorder.error("SET", "error OOM")
    recorder.error("", "a reply that nobody had asked for")
    made = _recorded(recorder, seconds=3.0)
    assert made.operations == ["GET", "INCR", "PING", "SET"]
    assert [made.count(name) for name in (None, "GET", "SET", "PING", "INCR")] == [6, 1, 3, 2, 0]
    assert made.failed() == {"error OOM": 6, "a reply that nobody had asked for": 1}
    assert made.failed("SET") == {"error OOM": 1}
    assert made.failed("GET") == Counter()
    assert list(made.histogram(operation="SET")) == [4.0] * 3
    assert made.slices("GET") == {0: [(1000, 1)]}
    assert made.rate_per_s == 2.0


def test_nothing_recorded_is_no_rate() -> None:
    made = Recording(WIDTH_NS)
    assert (made.count(), made.rate_per_s, made.operations, made.slices(), len(made.histogram())) == (0, 0.0, [], {}, 0)


def test_a_server_that_numbers_its_errors_does_not_fill_the_memory() -> None:
    recorder = Recorder(WIDTH_NS, 0)
    for number in range(10 * MOST_ERRORS):
        recorder.error("GET", f"error {number}")
    recorder.error("GET", "error 7")
    assert len(recorder.errors) == MOST_ERRORS + 1
    assert recorder.errors.total() == 10 * MOST_ERRORS + 1
    assert recorder.errors["GET", "error 7"] == 2
    assert recorder.errors["GET", OTHERS] == 9 * MOST_ERRORS


@pytest.mark.parametrize(("at_once", "seconds"), [(True, 2.0), (False, 3.0)], ids=["at once", "in turn"])
def test_together_nothing_is_lost(at_once: bool, seconds: float) -> None:
    first, second = _calls(0.0, 1.0), _calls(1.0, took_ms=2.0, operation="SET")
    first = Recording(first.slice_ns, first.cells, Counter({("GET", "bad"): 2}), 1.0, 5, 6, 7)
    second = Recording(second.slice_ns, second.cells, Counter({("GET", "bad"): 1, ("SET", "bad"): 1}), 2.0, 10, 20, 30)
    made = together([first, second], at_once=at_once)
    assert made.slices() == {0: [(1000, 1)], 10: [(1000, 1), (2000, 1)]}
    assert made.errors == {("GET", "bad"): 3, ("SET", "bad"): 1}
    assert (made.seconds, made.sent, made.unsent, made.lost) == (seconds, 15, 26, 37)


@pytest.mark.parametrize("recordings", [[], [Recording(1), Recording(2)]], ids=["none", "different"])
def test_only_recordings_of_the_same_slices_go_together(recordings: list[Recording]) -> None:
    with pytest.raises(ValueError, match="only recordings of the same slices can be merged"):
        together(recordings)


@pytest.mark.parametrize(
    ("duration_s", "width_s"), [(0.01, 0.05), (10, 0.05), (60, 0.05), (61, 0.25), (600, 0.5), (3600, 5), (86_400, 120), (7 * 86_400, 600)]
)
def test_a_run_has_1200_slices_at_the_most(duration_s: float, width_s: float) -> None:
    assert slice_width_ns(duration_s) == round(width_s * SECOND_NS)
    assert duration_s * SECOND_NS / slice_width_ns(duration_s) <= MOST_SLICES == 1200
