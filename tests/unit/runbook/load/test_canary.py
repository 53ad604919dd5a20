"""What a napping process tells of the host."""

import time

from runbook.load.canary import Canary, stalled_seconds

MS = 1_000_000
SECOND = 1000 * MS


def test_a_second_in_which_the_canary_overslept_is_a_stalled_one() -> None:
    assert stalled_seconds([(1 * SECOND + 100 * MS, 6 * MS), (1 * SECOND + 700 * MS, 5 * MS)]) == {1}


def test_a_stall_across_a_border_spoils_both_seconds() -> None:
    assert stalled_seconds([(2 * SECOND - 10 * MS, 30 * MS)]) == {1, 2}


def test_a_second_in_which_the_canary_slept_well_is_none() -> None:
    """A stall of the server must count, however long it is."""
    assert stalled_seconds([(2 * SECOND, 1 * MS)]) == frozenset()


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
