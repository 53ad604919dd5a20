"""What a napping process tells of the host."""

import time

from runbook.load import History, Outcome, Record
from runbook.load.canary import Canary, split_by_stalls

MS = 1_000_000
SECOND = 1000 * MS


def call(at_ns: int, took_ms: float = 0.2) -> Record:
    return Record(0, "GET", "", at_ns, at_ns, at_ns + round(took_ms * MS), Outcome.OK)


CALLS = History(call(second * SECOND + 500 * MS) for second in range(4))


def test_a_second_in_which_the_canary_overslept_is_left_out():
    quiet, left_out = split_by_stalls(CALLS, [(1 * SECOND + 100 * MS, 6 * MS), (1 * SECOND + 700 * MS, 5 * MS)])
    assert [record.intended_ns // SECOND for record in quiet] == [0, 2, 3]
    assert [record.intended_ns // SECOND for record in left_out] == [1]


def test_a_stall_across_a_border_spoils_both_seconds():
    _, left_out = split_by_stalls(CALLS, [(2 * SECOND - 10 * MS, 30 * MS)])
    assert [record.intended_ns // SECOND for record in left_out] == [1, 2]


def test_slow_calls_in_a_second_in_which_the_canary_slept_well_are_kept():
    """A stall of the server must count, however long it is."""
    history = History([*CALLS, call(2 * SECOND, took_ms=800)])
    quiet, left_out = split_by_stalls(history, [(2 * SECOND, 1 * MS)])
    assert len(quiet) == len(history)
    assert len(left_out) == 0


def test_a_paused_canary_tells_when_and_for_how_long():
    with Canary() as canary:
        time.sleep(0.3)
        before_ns = time.monotonic_ns()
        canary._process.send_signal(19)
        time.sleep(0.2)
        canary._process.send_signal(18)
        time.sleep(0.3)
        overslept = canary.overslept()
        process = canary._process
    longest = max(overslept, key=lambda nap: nap[1])
    assert longest[1] > 150 * MS
    assert abs(longest[0] - before_ns) < 100 * MS
    assert process.poll() is not None


def test_a_call_that_failed_is_never_left_out():
    failed = Record(0, "SET", "", SECOND, SECOND, SECOND + 1, Outcome.FAIL, "OutOfMemoryError: full")
    quiet, left_out = split_by_stalls(History([*CALLS, failed]), [(1 * SECOND, 50 * MS)])
    assert failed in set(quiet)
    assert len(left_out) == 1
