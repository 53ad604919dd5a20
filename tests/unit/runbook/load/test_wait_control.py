"""What the control for deadlines excuses, from waits written by hand."""

import pytest

from runbook.load.wait_control import FLOOR_NS, Lateness, Wait

MS = 1_000_000


def _wait(due_ms: float, late_ms: float, *, cpu_ms: tuple[float, float] = (0, 0), thread: int = 0) -> Wait:
    due_ns = round(due_ms * MS)
    begin_ns, end_ns = (round(cpu * MS) for cpu in cpu_ms)
    return Wait(thread, due_ns - 5 * MS, due_ns, due_ns + round(late_ms * MS), begin_ns, end_ns)


@pytest.mark.parametrize(
    ("waits", "excess_ms"),
    [
        ([], 100),
        ([_wait(1000, 60)], 40),
        ([_wait(980, 40)], 80),
        ([_wait(1080, 200)], 80),
        ([_wait(900, 90), _wait(1101, 90)], 100),
        ([_wait(1000, 60), _wait(1010, 60, thread=1)], 30),
        ([_wait(1000, 20), _wait(1050, 30, thread=1)], 50),
        ([_wait(990, 500)], 0),
        ([_wait(1000 + 10 * n, 9) for n in range(10)], 100),
    ],
    ids=["no wait", "within", "from before", "until after", "beside", "overlapping", "one after the other", "all along", "below the floor"],
)
def test_a_span_is_excused_for_as_long_as_a_wait_was_late_within_it(waits: list[Wait], excess_ms: float) -> None:
    """What was due at 1,000 ms ended at 1,100 ms."""
    assert Lateness(tuple(waits)).excess_ns(1000 * MS, 1100 * MS) == excess_ms * MS


@pytest.mark.parametrize(("used_ms", "excess_ms"), [(0, 40), (25, 65), (60, 100), (120, 100)])
def test_the_time_in_which_the_process_ran_is_not_excused(used_ms: float, excess_ms: float) -> None:
    assert Lateness((_wait(1000, 60, cpu_ms=(500, 500 + used_ms)),)).excess_ns(1000 * MS, 1100 * MS) == excess_ms * MS


def test_what_ended_in_time_has_no_excess() -> None:
    assert Lateness((_wait(1000, 60),)).excess_ns(1000 * MS, 990 * MS) == 0


def test_the_excuse_is_never_longer_than_the_span() -> None:
    late = Lateness(tuple(_wait(1000 + 20 * n, 90, thread=n) for n in range(4)))
    assert late.within_ns(1010 * MS, 1030 * MS) == 20 * MS


def test_the_worst_wait_is_told_even_below_the_floor() -> None:
    assert Lateness().worst_ms is None
    assert Lateness((_wait(10, 1), _wait(20, 3))).worst_ms == 3
    assert FLOOR_NS > 3 * MS


def test_the_waits_are_evidence() -> None:
    (record,) = Lateness((_wait(1000, 60, cpu_ms=(1, 4), thread=2),)).history
    assert (record.worker, record.operation, record.value) == (2, "WAIT", str(3 * MS))
    assert (record.intended_ns, record.done_ns) == (1000 * MS, 1060 * MS)
