"""What a napping process tells of the host."""

import time

import pytest

from runbook.load.canary import Canary, stalled_seconds, worth_timing
from runbook.load.history import Outcome, Record

MS = 1_000_000
SECOND = 1000 * MS


def test_a_second_in_which_the_canary_overslept_is_a_stalled_one() -> None:
    assert stalled_seconds([(1 * SECOND + 100 * MS, 6 * MS), (1 * SECOND + 700 * MS, 5 * MS)]) == {1}


def test_a_stall_across_a_border_spoils_both_seconds() -> None:
    assert stalled_seconds([(2 * SECOND - 10 * MS, 30 * MS)]) == {1, 2}


def test_a_second_in_which_the_canary_slept_well_is_none() -> None:
    """A stall of the server must count, however long it is."""
    assert stalled_seconds([(2 * SECOND, 1 * MS)]) == frozenset()


@pytest.mark.parametrize(
    ("took_ms", "naps_ms", "is_timed"),
    [
        (310, [(100, 9)], True),
        (310, [(100, 10)], False),
        (310, [(100, 6), (200, 4)], False),
        (3300, [(100, 9)], True),
        (3300, [(100, 3000)], False),
        (310, [(-20, 25)], True),
        (310, [(305, 500)], True),
        (300, [(100, 500)], True),
    ],
    ids=["later", "as late", "two stalls", "much later", "a long stall", "mostly before it", "mostly behind it", "in time"],
)
def test_a_call_is_excused_only_if_it_is_no_later_than_the_canary_meanwhile(
    took_ms: int, naps_ms: list[tuple[int, int]], is_timed: bool
) -> None:
    call = Record(0, "PING", "", SECOND, SECOND, SECOND + took_ms * MS, Outcome.OK)
    stalled_s = stalled_seconds((SECOND + begun * MS, late * MS) for begun, late in naps_ms)
    assert worth_timing([call], 0.3, stalled_s) == [call] * is_timed


def test_a_stalled_second_of_which_no_more_is_known_excuses_no_more_than_itself() -> None:
    calls = [Record(0, "PING", "", SECOND, SECOND, SECOND + took * SECOND, Outcome.OK) for took in (1, 3)]
    assert worth_timing(calls, 0.3, frozenset({1})) == calls[1:]


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
