"""Watches a server during a load: what it says of itself ten times a second becomes marks on the load's timeline."""

import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator
from typing import Any, Self

import redis

from cachelib import Client, Config, connect, deadline
from runbook.load.events import SECTIONS, Look, SlowCall, Spike, Timeline
from runbook.load.offered import Mark

POLL_S = 0.1
# How long one look may take before it counts as not answered.
PATIENCE_S = 1.0
_RESTORE_S = 2.0
# What a server of ours is told to note while it is watched: commands and events that take so long.
SLOW_US = 5000
_NOTING = {"slowlog-log-slower-than": SLOW_US, "latency-monitor-threshold": SLOW_US // 1000}
_MOST_ENTRIES, _SPARE_ENTRIES = 1024, 16

SLOW_LOG, MONITOR = "the slow log", "the latency monitor"
# What each look asks for, by its name in `unwatched`: the first command that the server takes. Valkey has its slow log under both names.
_ASKED: dict[str, tuple[tuple[str, ...], ...]] = {
    **{f"INFO {section}": (("INFO", section),) for section in SECTIONS},
    SLOW_LOG: (("SLOWLOG", "GET", "1"), ("COMMANDLOG", "GET", "1", "slow")),
    MONITOR: (("LATENCY", "LATEST"),),
}


class Watch:
    """Looks at a server during the `with` block, from a thread and over a connection of its own; afterwards it tells what it saw.

    A server that stalls, ends or refuses is no error here: what could not be watched is in `unwatched`.

    A look costs the server some 70 µs, 0.7 ms a second in all, by the commandstats of an idle Redis 7.0 or Valkey 9.1; with reading
    and writing, 1.5 ms of its CPU time.

    Args:
        config: which server.
        own: whether the server is ours, so that it may be told to note what takes from 5 ms; what it noted before is set back. Of another's
            we see what it notes anyway.
    """

    def __init__(self, config: Config, own: bool) -> None:
        self._config, self._own = config, own
        self._stop = threading.Event()
        self._unwatched: list[str] = []
        self._missed: list[str] = []
        self._missed_s = 0.0
        self._timeline: Timeline | None = None
        self._asked: dict[str, tuple[str, ...]] = {}
        self._run_id: str | None = None
        self._last_slow = -1
        self._last_spikes: dict[bytes, tuple[int, int]] = {}

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as opened:
            client = opened.enter_context(connect(dataclasses.replace(self._config, pool_size=1), observers=[]))
            try:
                with deadline(PATIENCE_S):
                    if self._own:
                        opened.enter_context(self._noting(client))
                    self._begin(client)
            except redis.RedisError as error:
                self._unwatched.append(f"the server as a whole: {error}")
            else:
                thread = threading.Thread(target=self._run, args=(client,), name="watch", daemon=True)
                thread.start()
                opened.callback(thread.join)
                opened.callback(self._stop.set)
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()

    @property
    def marks(self) -> tuple[Mark, ...]:
        """What happened, by time; complete after the block. A mark lies where it should, give or take the 0.1 s between two looks."""
        return self._timeline.marks() if self._timeline else ()

    @property
    def server_busy(self) -> float | None:
        """Share of one core that the server's main thread used (the whole process before Redis 7); None where it can't be told."""
        return self._timeline.server_busy if self._timeline else None

    @property
    def unwatched(self) -> tuple[str, ...]:
        """Say what could not be watched, and why; complete after the block."""
        if not self._missed:
            return tuple(self._unwatched)
        times = f", {len(self._missed)} times, first" if len(self._missed) > 1 else ""
        return (*self._unwatched, f"{self._missed_s:.1f} s in which the server did not answer{times}: {self._missed[0]}")

    @contextlib.contextmanager
    def _noting(self, client: Client) -> Iterator[None]:
        """Let the server note what takes long, and set back in the end what it noted before."""
        before: dict[str, str] = {}
        try:
            for name, value in _NOTING.items():
                try:
                    found = {str(key): str(value) for key, value in client.config_get(name).items()}
                    if name not in found:
                        self._unwatched.append(f"{name} could not be lowered: the server has no such setting")
                        continue
                    client.config_set(name, value)
                    before[name] = found[name]
                except redis.ResponseError as error:
                    self._unwatched.append(f"{name} could not be lowered: {error}")
            yield
        finally:
            with deadline(_RESTORE_S):
                for name, old in before.items():
                    try:
                        client.config_set(name, old)
                    except redis.RedisError as error:
                        self._unwatched.append(f"{name} could not be set back to {old}: {error}")

    def _begin(self, client: Client) -> None:
        for what, commands in _ASKED.items():
            refusals = [self._refusal(client, command) for command in commands]
            if what == MONITOR:
                refusals = [refusals[0] or self._refusal(client, ("LATENCY", "HISTORY", "command"))]
            if all(refusals):
                self._unwatched.append(f"{what}: {refusals[0]}")
            else:
                self._asked[what] = commands[refusals.index(None)]
        wall_ahead_ns = None
        try:
            before_ns = time.monotonic_ns()
            seconds, us = client.time()
            wall_ahead_ns = (seconds * 1_000_000 + us) * 1000 - (before_ns + time.monotonic_ns()) // 2
        except redis.ResponseError as error:
            self._unwatched.append(f"the server's clock: {error}")
        first = self._look(client)
        # What was noted before is none of ours.
        self._timeline = Timeline(Look(first.asked_ns, first.answered_ns, first.info), wall_ahead_ns)

    def _refusal(self, client: Client, command: tuple[str, ...]) -> redis.RedisError | None:
        try:
            client.execute_command(*command)
        except redis.ResponseError as error:
            return error
        return None

    def _run(self, client: Client) -> None:
        assert self._timeline
        seen_s, missing = time.monotonic(), False
        stopped = False
        while not stopped:
            stopped = self._stop.wait(POLL_S)  # and then once more, for what came since the last look
            try:
                with deadline(PATIENCE_S):
                    look = self._look(client)
            except redis.RedisError as error:
                if not missing:
                    self._missed.append(str(error))
                missing = True
                continue
            if missing:
                self._missed_s += time.monotonic() - seen_s
            seen_s, missing = time.monotonic(), False
            if not self._timeline.add(look):
                self._note("what a restart of the server, or a reset of its counters, hid")
        if missing:
            self._missed_s += time.monotonic() - seen_s

    def _look(self, client: Client) -> Look:
        """Ask for everything in one write, and then for the entries that are new.

        Raises:
            redis.RedisError: the server did not answer, or refuses what it allowed before.
        """
        asked_ns = time.monotonic_ns()
        pipeline = client.pipeline(transaction=False)
        for command in self._asked.values():
            pipeline.execute_command(*command)
        replies = dict(zip(self._asked, pipeline.execute() if self._asked else (), strict=True))
        try:
            return self._understood(client, asked_ns, replies, time.monotonic_ns())
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise redis.InvalidResponse(f"what it tells of itself has a form that no Redis gives it ({error})") from error

    def _understood(self, client: Client, asked_ns: int, replies: dict[str, Any], answered_ns: int) -> Look:
        info = {field: value for what in replies if what.startswith("INFO") for field, value in replies[what].items()}
        if info.get("run_id") != self._run_id:  # another process, whose slow log begins at 0
            self._run_id, self._last_slow = info.get("run_id"), -1
        slow = self._new_slow(client, replies.get(SLOW_LOG))
        return Look(asked_ns, answered_ns, info, slow, self._new_spikes(client, replies.get(MONITOR)))

    def _new_slow(self, client: Client, newest: Any) -> list[SlowCall]:
        if not newest:
            return []
        last, number = self._last_slow, int(newest[0][0])
        self._last_slow = number
        if number <= last or self._timeline is None:
            return []
        # Some more than are new, since what came meanwhile is for the next look.
        words = self._asked[SLOW_LOG]
        entries = client.execute_command(*words[:2], min(number - last + _SPARE_ENTRIES, _MOST_ENTRIES), *words[3:])
        new = [_slow_call(entry) for entry in entries if last < int(entry[0]) <= number]
        if len(new) < number - last:
            self._note("entries of the slow log that it lost before we looked")
        return new

    def _new_spikes(self, client: Client, latest: Any) -> list[Spike]:
        new = []
        for event, second, took_ms, *_ in latest or ():
            last, now = self._last_spikes.get(event, (0, 0)), (int(second), int(took_ms))
            self._last_spikes[event] = now
            if now > last and self._timeline is not None:
                history = client.execute_command("LATENCY", "HISTORY", event)
                new += [Spike(_text(event), *entry) for entry in ((int(s), int(ms)) for s, ms in history) if last < entry <= now]
        return new

    def _note(self, what: str) -> None:
        if what not in self._unwatched:
            self._unwatched.append(what)


def _slow_call(entry: Any) -> SlowCall:
    number, second, took_us, words = entry[:4]
    return SlowCall(int(number), int(second), int(took_us), _text(words[0]).upper() if words else "a command")


def _text(word: str | bytes) -> str:
    return word.decode(errors="replace") if isinstance(word, bytes) else word
