"""Which marks follow from what a server says of itself, look by look."""

from collections.abc import Mapping
from typing import Any

from runbook.load.events import Look, SlowCall, Spike, Timeline
from runbook.load.offered import Mark

MS = 1_000_000
SECOND = 1000 * MS
QUIET: dict[str, Any] = {
    "run_id": "a",
    "used_cpu_sys": 1.0,
    "used_cpu_user": 2.0,
    "total_connections_received": 5,
    "total_forks": 3,
    "latest_fork_usec": 700,
    "aof_rewrite_in_progress": 0,
    "aof_rewrites": 1,
    "rdb_bgsave_in_progress": 0,
    "aof_delayed_fsync": 4,
}


def _look(at_ms: int, *, took_ms: int = 1, slow: tuple[SlowCall, ...] = (), spikes: tuple[Spike, ...] = (), **changes: Any) -> Look:
    return Look((at_ms - took_ms) * MS, at_ms * MS, QUIET | changes, slow, spikes)


def _marks(*looks: Look, wall_ahead_ns: int | None = None) -> tuple[Mark, ...]:
    timeline = Timeline(looks[0], wall_ahead_ns)
    for look in looks[1:]:
        timeline.add(look)
    return timeline.marks()


def test_a_server_to_which_nothing_happens_gives_no_mark() -> None:
    assert _marks(_look(0), _look(100), _look(200)) == ()


def test_a_rewrite_lasts_from_the_last_look_without_it_to_the_first_one_without_it_again() -> None:
    forked = {"total_forks": 4, "latest_fork_usec": 2000, "aof_rewrites": 2}
    marks = _marks(_look(0), _look(100), _look(200, **forked, aof_rewrite_in_progress=1), _look(300, **forked))
    assert marks == (
        Mark(100 * MS, 200 * MS, "rewrite of the AOF"),
        Mark(148 * MS, 2 * MS, "fork for a rewrite of the AOF took 2.0 ms"),
    )


def test_a_rewrite_that_began_and_ended_between_two_looks_is_seen_by_its_count() -> None:
    marks = _marks(_look(0), _look(100, aof_rewrites=2))
    assert marks == (Mark(0, 100 * MS, "rewrite of the AOF, some time within 100 ms"),)


def test_a_snapshot_that_is_not_over_lasts_until_the_last_look() -> None:
    assert _marks(_look(0), _look(100, rdb_bgsave_in_progress=1), _look(200, rdb_bgsave_in_progress=1)) == (
        Mark(0, 200 * MS, "snapshot, not over yet"),
    )


def test_two_forks_between_two_looks_are_two() -> None:
    (mark,) = _marks(_look(0), _look(100, total_forks=5, latest_fork_usec=1500))
    assert mark.what == "2 forks, the last took 1.5 ms"


def test_a_server_that_does_not_count_its_forks_shows_them_by_their_duration() -> None:
    def old(at_ms: int, fork_us: int) -> Look:
        look = _look(at_ms, latest_fork_usec=fork_us)
        return Look(look.asked_ns, look.answered_ns, {name: value for name, value in look.info.items() if name != "total_forks"})

    assert [mark.what for mark in _marks(old(0, 700), old(100, 700), old(200, 900))] == ["fork took 0.9 ms"]


def test_each_rise_of_delayed_fsyncs_is_a_moment() -> None:
    marks = _marks(_look(0), _look(100, aof_delayed_fsync=5), _look(200, aof_delayed_fsync=5), _look(300, aof_delayed_fsync=8))
    assert [(mark.at_ns, mark.took_ns, mark.what[-9:]) for mark in marks] == [(50 * MS, 0, "ed_fsync)"), (250 * MS, 0, ", 3 times")]


def test_a_slow_call_that_held_up_a_look_ended_when_the_look_was_answered() -> None:
    marks = _marks(_look(0), _look(180, took_ms=60, slow=(SlowCall(1, 0, 70_000, "KEYS"),)))
    assert marks == (Mark(110 * MS, 70 * MS, "KEYS took 70.0 ms (slow log)"),)


def test_a_slow_call_that_held_up_no_look_lies_between_two() -> None:
    marks = _marks(_look(0), _look(100, slow=(SlowCall(1, 0, 10_000, "KEYS"),)))
    assert marks == (Mark(40 * MS, 10 * MS, "KEYS took 10.0 ms (slow log)"),)


def test_the_second_that_the_server_names_tells_more_where_it_was_not_looked_at_for_long() -> None:
    """Its clock is a minute ahead of ours."""
    marks = _marks(_look(0), _look(5000, spikes=(Spike("aof-write", 62, 40),)), wall_ahead_ns=60 * SECOND)
    assert marks == (Mark(2460 * MS, 40 * MS, "aof-write took 40 ms (latency monitor)"),)


def test_a_second_that_cannot_be_is_not_believed() -> None:
    marks = _marks(_look(0), _look(100, spikes=(Spike("aof-write", 9999, 40),)), wall_ahead_ns=0)
    assert marks == (Mark(10 * MS, 40 * MS, "aof-write took 40 ms (latency monitor)"),)


def _busy(*looks: Mapping[str, Any]) -> float | None:
    timeline = Timeline(_look(0, **looks[0]))
    for number, changes in enumerate(looks[1:], start=1):
        timeline.add(_look(1000 * number, **changes))
    return timeline.server_busy


def test_how_busy_the_server_was_is_its_cpu_time_by_the_clock() -> None:
    assert _busy({}, {"used_cpu_user": 2.5}, {"used_cpu_sys": 1.2, "used_cpu_user": 2.8}) == 0.5


def test_the_main_thread_is_told_from_the_others() -> None:
    thread = {"used_cpu_sys_main_thread": 0.0, "used_cpu_user_main_thread": 0.0}
    assert _busy(thread, {**thread, "used_cpu_user": 9.0, "used_cpu_user_main_thread": 0.25}) == 0.25


def test_a_restart_is_told_and_leaves_out_what_it_hid() -> None:
    """Even where the new process has used and counted more than the old one."""
    anew = {
        "run_id": "b",
        "used_cpu_sys": 5.0,
        "total_connections_received": 9,
        "total_forks": 9,
        "aof_rewrites": 9,
        "aof_delayed_fsync": 9,
    }
    timeline = Timeline(_look(0))
    assert timeline.add(_look(1000, used_cpu_user=2.5))
    assert not timeline.add(_look(2000, **anew))
    assert timeline.add(_look(3000, **anew, used_cpu_user=2.5))
    assert timeline.marks() == ()
    assert timeline.server_busy == 0.5


def test_counters_that_somebody_reset_are_told() -> None:
    timeline = Timeline(_look(0))
    assert not timeline.add(_look(100, total_connections_received=0, aof_delayed_fsync=0))
    assert timeline.marks() == ()


def test_without_any_number_nothing_is_told() -> None:
    timeline = Timeline(Look(0, 1, {}))
    assert timeline.add(Look(2, 3, {}))
    assert timeline.marks() == ()
    assert timeline.server_busy is None
