"""While the server is away: since when, when it is tried again, and by whom, so that a thousand callers are not a storm.

One caller is the prober. It connects with growing waits; all others queue until it succeeds, or until their own deadline. No thread of
our own is needed: when the prober's deadline passes, the longest waiter takes over, and where nobody waits nobody probes.
"""

import threading
import time
from collections import deque
from datetime import UTC, datetime

import redis

from cachelib.call import Away, Call, moment
from cachelib.config import Config
from cachelib.events import Disconnected, Event, Journal, ProbeFailed, Reconnected
from cachelib.policy import probe_wait_s

# What was a master, and answers READONLY, or loads its data, is reconnected to at the most so often, in seconds.
_DEMOTION_PACE_S = 0.04

# An outage that returns so soon is the same one: its waits go on where they were.
_SAME_OUTAGE_S = 1.0


class Demotions:
    """Says whether a connection that serves no more should be given up: not more often than a new one may be worth it."""

    def __init__(self) -> None:
        self._last_s = float("-inf")

    def due(self) -> bool:
        """Tell, and note if it is so."""
        now_s = time.monotonic()
        due = now_s - self._last_s >= _DEMOTION_PACE_S
        if due:
            self._last_s = now_s
        return due


class Outage:
    """The bookkeeping of an outage; it locks nothing and waits for nothing.

    Attributes:
        since: when the server was first missed; None while it is there.
        next_s: when it may be tried again, on the clock of `time.monotonic`.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self.since: datetime | None = None
        self.next_s = 0.0
        self._began_s = 0.0
        self._over_s = float("-inf")
        self._last: datetime | None = None  # when the last one that is over began
        self._failures = 0
        self._before = 0  # failures of which an earlier outage has been told
        self._error: Exception | None = None

    def failed(self, error: Exception, *, cut_short: bool = False) -> Event:
        """Note a failed connection attempt; return what the journal should be told.

        Args:
            error: why it failed.
            cut_short: whether that was for want of the caller's time: it hides no reason that an earlier attempt has found.
        """
        now_s = time.monotonic()
        began = self.since is None
        if began:
            if now_s - self._over_s > _SAME_OUTAGE_S:
                self._failures = 0
            self.since, self._began_s, self._before = datetime.now(UTC), now_s, self._failures
        if self._error is None or not cut_short:
            self._error = error
        self._failures += 1
        wait_s = probe_wait_s(self._failures, self._config.backoff_base_s, self._config.backoff_cap_s)
        self.next_s = now_s + wait_s
        if began:
            return Disconnected(self._config.endpoint, str(error))
        return ProbeFailed(self._config.endpoint, self._failures - self._before, wait_s, str(error))

    def over(self) -> Event | None:
        """Note that the server is there; return what the journal should be told, if it was away."""
        if self.since is None:
            return None
        self._over_s = time.monotonic()
        self._last, self.since, self._error = self.since, None, None
        return Reconnected(self._config.endpoint, self._over_s - self._began_s, self._failures - self._before)

    def note(self, call: Call) -> None:
        """Note on a call since when the server is away, or was while the call waited."""
        if self.since is not None:
            call.since = self.since
        elif self._over_s >= call.began_s:
            call.since = self._last

    def away(self) -> Away:
        """Return the error for a caller whose deadline passed meanwhile."""
        assert self.since is not None
        away_s, attempts = time.monotonic() - self._began_s, self._failures - self._before
        tried = f"{attempts} connection attempt{'s' if attempts > 1 else ''}"
        away = Away(f"away since {moment(self.since)}, for {away_s:.3g} s and {tried}: {self._error}")
        away.__cause__ = self._error
        return away


class _Waiter:
    """A caller in the queue; its gate is opened when the server is back, or when it is the next prober.

    Args:
        may_probe: whether its deadline comes after the next attempt.
    """

    __slots__ = ("gate", "may_probe")

    def __init__(self, *, may_probe: bool) -> None:
        self.may_probe = may_probe
        self.gate = threading.Lock()
        self.gate.acquire()


class Gate:
    """Lets callers of many threads through while the server is there, and keeps them in line while it is away."""

    def __init__(self, config: Config, journal: Journal) -> None:
        self._outage, self._journal = Outage(config), journal
        self._lock = threading.Lock()
        self._queue: deque[_Waiter] = deque()
        self._prober: Call | _Waiter | None = None

    @property
    def closed(self) -> bool:
        """Whether the server is away."""
        return self._outage.since is not None

    @property
    def waiting(self) -> int:
        """How many callers wait for the prober."""
        return len(self._queue)

    def failed(self, call: Call, error: Exception) -> None:
        """Close the gate after a failed connection attempt; the first one to do so is the prober."""
        cut_short = call.left_s() <= 0 and isinstance(error, TimeoutError | redis.TimeoutError)
        with self._lock:
            event = self._outage.failed(error, cut_short=cut_short)
            if self._prober is None:
                self._prober = call
        self._tell(event)

    def opened(self) -> None:
        """Open the gate after a connection was made, and let all callers through, in order."""
        with self._lock:
            event = self._outage.over()
            self._prober = None
            waiters, self._queue = self._queue, deque()
        for waiter in waiters:
            waiter.gate.release()
        self._tell(event)

    def nudge(self) -> None:
        """Let the longest waiter look for a connection that still works; there is one, though none can be made."""
        with self._lock:
            if self._queue:
                self._queue.popleft().gate.release()

    def leave(self, call: Call) -> None:
        """Hand the prober's part to the longest waiter, if this call has it."""
        with self._lock:
            if self._prober is call:
                self._appoint()

    def probes(self, call: Call) -> bool:
        """Tell whether a call is the prober."""
        return self._prober is call

    def wait(self, call: Call) -> None:
        """Return when the server is back, when this call should try it, or when a connection that works came free.

        Raises:
            Away: the call's deadline passes before.
        """
        while True:
            with self._lock:
                if not self.closed:
                    return
                self._outage.note(call)
                if self._prober is None:
                    self._prober = call
                may_probe = True
                if self._prober is call:
                    wait_s = max(0.0, self._outage.next_s - time.monotonic())
                    if wait_s < call.left_s():
                        break
                    self._appoint()  # another, who has the time; this call may still be let through
                    may_probe = False
                waiter = _Waiter(may_probe=may_probe)
                self._queue.append(waiter)
            self._queue_up(waiter, call)
            if self._prober is not call:
                return
        time.sleep(wait_s)

    def _tell(self, event: Event | None) -> None:
        # Outside the lock: an observer may use the client.
        if event is not None:
            self._journal.tell(event)

    def _queue_up(self, waiter: _Waiter, call: Call) -> None:
        try:
            opened = waiter.gate.acquire(timeout=max(0.0, min(call.left_s(), threading.TIMEOUT_MAX)))
        except BaseException:  # Ctrl-C: nobody may appoint one who has left
            self._withdraw(waiter)
            raise
        with self._lock:
            if self._prober is waiter:
                self._prober = call
            elif not opened and waiter in self._queue:
                self._queue.remove(waiter)
                raise self._outage.away()

    def _withdraw(self, waiter: _Waiter) -> None:
        with self._lock:
            if self._prober is waiter:
                self._appoint()
            elif waiter in self._queue:
                self._queue.remove(waiter)

    def _appoint(self) -> None:
        self._prober = next((waiter for waiter in self._queue if waiter.may_probe), None)
        if self._prober is not None:
            self._queue.remove(self._prober)
            self._prober.gate.release()
