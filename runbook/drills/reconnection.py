"""Do clients survive that Redis goes away and comes back: without a storm, without a call applied twice, and back at once?

Promise: one caller probes with growing waits, at most 25 connection attempts a second for all callers together; a call that may be
repeated survives an outage shorter than its deadline; a caller with less patience is told by its deadline, and since when; the first
success comes within 50 ms of the server's return in the median, and within 150 ms at worst; the counter holds no increment too many.
"""

import contextlib
import dataclasses
import itertools
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from cachelib import Config, Disconnected, Event, ProbeFailed, Unavailable, connect, deadline
from runbook.drills.faults import Outage, killed
from runbook.drills.reconnection_judging import CLAIMS, PATIENCE_S, Attempt, Result, Return, judge_result
from runbook.evidence import Finding, Verdict
from runbook.load import Basics, Counter, History, Load, Outcome, collector_off
from runbook.load.looped import looped
from runbook.load.wait_control import WaitControl
from runbook.load.workload import Operation
from runbook.progress import progress
from runbook.targets import Restartable, Target

# For how long the server's return is waited for.
WATCH_S = 60.0


@dataclass(frozen=True, slots=True)
class Looking:
    """PING with little patience."""

    def operations(self, worker: int) -> Iterator[Operation]:
        """Yield PING after PING."""
        return itertools.repeat(Operation("PING", "", _look, True))


def _look(client: redis.Redis) -> Any:
    with deadline(PATIENCE_S):
        try:
            return client.ping()
        except Unavailable as error:
            raise Unavailable(f"since {error.since:%H:%M:%S.%f}: {error}" if error.since else str(error), error.since) from error


def drill(
    target: Target,
    *,
    with_asyncio: bool = False,
    kills: int,
    callers: int,
    rate_per_s: float,
    down_s: float,
    later_down_s: float = 1.0,
    before_s: float = 0.6,
    after_s: float = 0.6,
) -> Result:
    """Kill and restart the server under load, and record every call and every connection attempt of the client.

    Args:
        target: which server; one that can't be restarted by us gives INCONCLUSIVE findings.
        with_asyncio: whether `connect_async` is under test, in an event loop that runs beside the callers, instead of `connect`.
        kills: how often.
        callers: of GET, SET and PING, a thread each, beside one that counts and one that is impatient; all share one client.
        rate_per_s: calls a second of the callers, together.
        down_s: seconds for which the server stays down the first time; three of them are needed to tell the rate of the attempts.
        later_down_s: seconds for which it stays down the other times; the waits reach their cap within a tenth of a second.
        before_s: seconds of load before each kill.
        after_s: seconds of load after it is back; with `before_s` more than the second within which a new outage counts as the same one.

    Raises:
        ValueError: there are no kills, or no callers.
    """
    if kills < 1 or callers < 1:
        raise ValueError(f"a drill takes at least one kill and one caller, got {kills} and {callers}")
    config = target.config
    backoff_s = (config.backoff_base_s, config.backoff_cap_s)
    if not isinstance(target, Restartable):
        refusal = f"a {target.name} target is not ours to kill: run this drill on embedded or compose"
        findings = tuple(Finding(criterion, claim, Verdict.INCONCLUSIVE, refusal) for criterion, claim in CLAIMS.values())
        return Result(callers, History([]), History([]), History([]), (), None, backoff_s, config.deadline_s, findings=findings)

    prefix = f"runbook:reconnection:{uuid.uuid4().hex}:"
    basics, counting, attempts = Basics(prefix, keys=100), Counter(f"{prefix}counter"), list[Attempt]()
    client: Callable[..., Any] = looped if with_asyncio else connect
    observers = [lambda event: _note(attempts, event)]
    with connect(config) as admin, client(config, observers=observers) as tested:
        basics.load(admin)
        watched: list[tuple[Outage, int]] = []
        with (
            collector_off(),
            WaitControl() as control,
            Load(tested, basics, rate_per_s=rate_per_s, workers=callers) as calls,
            Load(tested, counting, rate_per_s=100, workers=1) as increments,
            Load(tested, Looking(), rate_per_s=20, workers=1) as looks,
        ):
            for number, stays_down_s in enumerate((down_s, *(later_down_s for _ in range(kills - 1))), 1):
                progress(f"outage {number} of {kills}")
                time.sleep(before_s)
                with killed(target) as outage, _watching(config) as answered:
                    time.sleep(stays_down_s)
                    answered.wanted.set()
                answered.thread.join()
                watched.append((outage, answered.at_ns))
                time.sleep(after_s)
        raw = admin.get(counting.key)
        basics.unload(admin)
        admin.unlink(counting.key)
    histories = (calls.history, increments.history, looks.history)
    returns = tuple(_return(outage, answered_ns, histories, attempts) for outage, answered_ns in watched)
    result = Result(callers, *histories, returns, int(raw or 0), backoff_s, config.deadline_s, control.lateness)
    return dataclasses.replace(result, findings=judge_result(result))


def _note(attempts: list[Attempt], event: Event) -> None:
    now_ns = time.monotonic_ns()
    if isinstance(event, Disconnected):
        attempts.append(Attempt(now_ns, 1, None, event.error))
    elif isinstance(event, ProbeFailed):
        attempts.append(Attempt(now_ns, event.attempt, event.wait_s, event.error))


def _return(outage: Outage, answered_ns: int, histories: Sequence[History], attempts: Sequence[Attempt]) -> Return:
    answered = (r.done_ns for history in histories for r in history if r.outcome is Outcome.OK and r.done_ns > outage.down_ns)
    # A reply that was on its way when the server died is read at once, long before the server is back.
    first_ns = min((done_ns for done_ns in answered if done_ns > answered_ns - 20_000_000), default=0)
    own = tuple(attempt for attempt in attempts if outage.broken_ns <= attempt.at_ns <= outage.ready_ns)
    return Return(outage, answered_ns, first_ns, own)


class _Watch:
    """When a server answered again, seen by a thread that asks each millisecond once it is `wanted`.

    What accepts the connection may be a proxy of a container engine, which tells nothing of the server behind it.
    """

    def __init__(self, config: Config) -> None:
        self._address = (config.host, config.port)
        self.wanted = threading.Event()
        self.stopped = threading.Event()
        self.at_ns = 0
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        self.wanted.wait()
        until_s = time.monotonic() + WATCH_S
        while not self.at_ns and time.monotonic() < until_s and not self.stopped.wait(0.001):
            with contextlib.suppress(OSError), socket.create_connection(self._address, timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                if connection.recv(1):
                    self.at_ns = time.monotonic_ns()


@contextlib.contextmanager
def _watching(config: Config) -> Iterator[_Watch]:
    watch = _Watch(config)
    watch.thread.start()
    try:
        yield watch
    except BaseException:
        watch.stopped.set()
        watch.wanted.set()
        raise
