"""Turns what a server says of itself, look by look, into marks on the clock of `time.monotonic_ns`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runbook.load.offered import Mark

# Asked for in each look: sections of INFO whose numbers lie in one mapping afterwards.
SECTIONS = ("server", "persistence", "stats", "cpu")
_SECOND_NS = 1_000_000_000
# A look that took so long was held up, most likely by what it shows.
_HELD_UP_NS = 3_000_000
_SPANS = {"aof_rewrite_in_progress": "rewrite of the AOF", "rdb_bgsave_in_progress": "snapshot"}
# Counts the beginnings (AOF) or the successful ends (snapshots), so that one which fits between two looks is seen, too.
_SPANS_COUNTED = {"aof_rewrite_in_progress": "aof_rewrites", "rdb_bgsave_in_progress": "rdb_saves"}


@dataclass(frozen=True, slots=True)
class SlowCall:
    """An entry of the slow log, of which nothing but the command's name is kept: its arguments may hold secrets.

    Attributes:
        number: counts up with each entry since the server's start.
        second: when it ended, on the server's wall clock.
        took_us: its execution.
        name: of the command.
    """

    number: int
    second: int
    took_us: int
    name: str


@dataclass(frozen=True, slots=True)
class Spike:
    """An entry of the latency monitor.

    Attributes:
        event: what was slow, such as `fork` or `aof-write`.
        second: when, on the server's wall clock; of one second the monitor keeps the longest only.
        took_ms: for how long.
    """

    event: str
    second: int
    took_ms: int


@dataclass(frozen=True, slots=True)
class Look:
    """What the server answered to one look.

    Attributes:
        asked_ns: when it was asked.
        answered_ns: when all was answered.
        info: the sections `SECTIONS` of INFO.
        slow: entries of the slow log that were not there before.
        spikes: entries of the latency monitor that were not there before.
    """

    asked_ns: int
    answered_ns: int
    info: Mapping[str, Any]
    slow: Sequence[SlowCall] = ()
    spikes: Sequence[Spike] = ()


class Timeline:
    """Collects the marks; each lies where it happened, give or take the time between two looks.

    Args:
        first: what there was at the start, which makes no mark.
        wall_ahead_ns: by how much the server's wall clock is ahead of `time.monotonic_ns`; None where it is not known.
    """

    def __init__(self, first: Look, wall_ahead_ns: int | None = None) -> None:
        self._last = first
        self._wall_ahead_ns = wall_ahead_ns
        self._marks: list[Mark] = []
        self._running: dict[str, int] = {field: first.answered_ns for field in _SPANS if first.info.get(field)}
        self._busy_s = self._seen_s = 0.0

    @property
    def server_busy(self) -> float | None:
        """Share of one core that the server's main thread used, the whole process where it does not tell them apart."""
        return self._busy_s / self._seen_s if self._seen_s else None

    def marks(self) -> tuple[Mark, ...]:
        """Return all marks by time; what still goes on lasts until the last look."""
        running = [
            Mark(begun_ns, self._last.answered_ns - begun_ns, f"{_SPANS[field]}, not over yet") for field, begun_ns in self._running.items()
        ]
        return tuple(sorted([*self._marks, *running], key=lambda mark: mark.at_ns))

    def add(self, look: Look) -> bool:
        """Take the next look in; False where the server's counters began anew, so that what came between is not known."""
        before, self._last = self._last, look
        for call in look.slow:
            self._place(before, look, call.took_us * 1000, f"{call.name} took {call.took_us / 1000:.1f} ms (slow log)", call.second)
        for spike in look.spikes:
            what = f"{spike.event} took {spike.took_ms} ms (latency monitor)"
            self._place(before, look, spike.took_ms * 1_000_000, what, spike.second)
        restarted = look.info.get("run_id") != before.info.get("run_id")
        anew = restarted or _grew(look, before, "total_connections_received")
        if not anew:
            self._count_cpu(before, look)
            self._add_forks(before, look)
            self._add_waits(before, look)
        self._add_spans(before, look, anew)
        return not anew

    def _count_cpu(self, before: Look, look: Look) -> None:
        if {"used_cpu_sys", "used_cpu_user"} <= look.info.keys() & before.info.keys():
            self._busy_s += _cpu_s(look.info) - _cpu_s(before.info)
            self._seen_s += (look.answered_ns - before.answered_ns) / 1e9

    def _add_spans(self, before: Look, look: Look, anew: bool) -> None:
        for field, what in _SPANS.items():
            if look.info.get(field):
                self._running.setdefault(field, before.answered_ns)
            elif field in self._running:
                begun_ns = self._running.pop(field)
                self._marks.append(Mark(begun_ns, look.answered_ns - begun_ns, what))
            elif not anew and _grew(before, look, _SPANS_COUNTED[field]):
                width_ns = look.answered_ns - before.answered_ns
                self._marks.append(Mark(before.answered_ns, width_ns, f"{what}, some time within {width_ns / 1e6:.0f} ms"))

    def _add_waits(self, before: Look, look: Look) -> None:
        waited = _number(look.info, "aof_delayed_fsync") - _number(before.info, "aof_delayed_fsync")
        if waited > 0:
            times = f", {waited} times" if waited > 1 else ""
            self._place(before, look, 0, f"a write to the AOF waited for its fsync (aof_delayed_fsync){times}")

    def _add_forks(self, before: Look, look: Look) -> None:
        field = "total_forks" if "total_forks" in look.info else "latest_fork_usec"  # which a server before 6.2 does not count
        if look.info.get(field, 0) == before.info.get(field, 0):
            return
        forks = _number(look.info, "total_forks") - _number(before.info, "total_forks")
        took_us = _number(look.info, "latest_fork_usec")
        what = f"{forks} forks, the last" if forks > 1 else "fork"
        for field, purpose in _SPANS.items():
            if (look.info.get(field) and not before.info.get(field)) or _grew(before, look, _SPANS_COUNTED[field]):
                what += f" for a {purpose}"
                break
        self._place(before, look, took_us * 1000, f"{what} took {took_us / 1000:.1f} ms")

    def _place(self, before: Look, look: Look, took_ns: int, what: str, ended_s: int | None = None) -> None:
        """Mark what ended between two looks; where its second is known, in that one."""
        earliest_ns, latest_ns = before.answered_ns, look.answered_ns
        if ended_s is not None and self._wall_ahead_ns is not None:
            second_ns = ended_s * _SECOND_NS - self._wall_ahead_ns
            narrowed = max(earliest_ns, second_ns), min(latest_ns, second_ns + _SECOND_NS)
            if narrowed[0] <= narrowed[1]:  # else somebody set the server's clock
                earliest_ns, latest_ns = narrowed
        held_up = look.answered_ns - look.asked_ns > _HELD_UP_NS and earliest_ns < look.asked_ns and latest_ns == look.answered_ns
        if held_up and took_ns > _HELD_UP_NS:
            ended_ns = latest_ns
        else:
            ended_ns = max((earliest_ns + latest_ns) // 2, min(earliest_ns + took_ns, latest_ns))
        self._marks.append(Mark(ended_ns - took_ns, took_ns, what))


def _grew(before: Look, look: Look, field: str) -> bool:
    return _number(look.info, field) > _number(before.info, field)


def _number(info: Mapping[str, Any], field: str) -> int:
    return int(info.get(field, 0))


def _cpu_s(info: Mapping[str, Any]) -> float:
    thread = "_main_thread" if "used_cpu_sys_main_thread" in info else ""  # told apart since Redis 7.0
    return float(info.get(f"used_cpu_sys{thread}", 0)) + float(info.get(f"used_cpu_user{thread}", 0))
