"""What a step of the wall clock does to the append-only file, to keys that expire, and to callers.

Promise: every write is answered, and none is lost by a restart afterwards. That `everysec` stops syncing while the clock stands back, and
that a key's life is as long as the wall clock says, are shown, and known of the server.
"""

import time
import uuid
from collections.abc import Callable, Sequence

from cachelib import Client, connect
from runbook.drills.checkers import account
from runbook.drills.clock_judging import BACK, FORWARD, STEADY, Life, Phase, judge_steps, unjudged
from runbook.drills.drill import FULL, QUICK, Drill, Ground
from runbook.drills.faults import stopped
from runbook.drills.faults.clock import NoClock, OwnClock
from runbook.evidence import Finding
from runbook.load import Ledger, Load, collector_off
from runbook.targets import Embedded
from runbook.targets.base import ask_engine
from runbook.targets.binary import find_server

STEP_S = 10.0
WRITES_PER_S, WRITERS = 200, 2
# A phase is watched until syncs come each second again, at least and at most so long.
LEAST_S, MOST_S, POLL_S = 2.5, STEP_S + 5.0, 0.02
SYNCING, SYNCING_S = 2, 2.5
# How long a key is told to live, over the step forward and over the step back, and when it is looked for.
LONG_S, SHORT_S, ASKED_S = 8.0, 1.0, 2.2


def _perform(ground: Ground) -> Sequence[Finding]:
    try:
        clock = OwnClock(ground.environ, ground.folder)
    except NoClock as problem:
        return unjudged(str(problem))
    key = f"runbook:ledger:{uuid.uuid4().hex}"
    lives: list[Life] = []
    with clock, Embedded(clock.environ, parent=ground.folder) as server, connect(server.config) as client:
        ground.engine = ask_engine(client, find_server(ground.environ).found_by)
        with collector_off(), Load(client, Ledger(key), rate_per_s=WRITES_PER_S, workers=WRITERS) as load:
            phases = [watch(clock, STEADY)]
            for number in range(1, ground.times + 1):
                for name, by_s, told_s in ((FORWARD, STEP_S, LONG_S), (BACK, -STEP_S, SHORT_S)):
                    ground.say(f"round {number} of {ground.times}: the clock goes {name} by {STEP_S:g} s")
                    phase, life = step(clock, client, name, by_s, told_s)
                    phases.append(phase)
                    lives.append(life)
        ground.keep("writes", load.history)
        with stopped(server) as outage:
            pass
        present = [value.decode() for value in client.lrange(key, 0, -1)]
        ground.check_steady("I-4", server)
    found = account(load.history, present, [outage.down_ns])
    return judge_steps(phases, lives, load.history, found, outage.doubts)


def step(clock: OwnClock, client: Client, name: str, by_s: float, told_s: float) -> tuple[Phase, Life]:
    """Step the clock; watch the server's syncs, and a key that expires.

    Args:
        clock: of the server.
        client: of the server.
        name: of the phase that begins.
        by_s: how far, in seconds.
        told_s: how long the key is to live, in seconds.
    """
    key, lives = f"runbook:clock:{uuid.uuid4().hex}", list[Life]()
    client.set(key, "", px=round(told_s * 1e3))
    set_s = time.monotonic()
    doubts = clock.step(client, by_s)
    phase = watch(clock, name, doubts, lambda: lives.append(Life(told_s, by_s, time.monotonic() - set_s, client.exists(key) == 1)))
    client.unlink(key)
    return phase, lives[0]


def watch(clock: OwnClock, name: str, doubts: tuple[str, ...] = (), ask: Callable[[], object] | None = None) -> Phase:
    """Watch a server's syncs until they come each second again; ask something 2.2 s after the beginning."""
    began_ns, seen = time.monotonic_ns(), clock.fsyncs
    syncs_ns: list[int] = []
    while True:
        time.sleep(POLL_S)
        count, now_ns = clock.fsyncs, time.monotonic_ns()
        passed_s = (now_ns - began_ns) / 1e9
        if count > seen:
            syncs_ns.append(now_ns)
            seen = count
        if ask and passed_s >= ASKED_S:
            ask()
            ask = None
        is_syncing = sum(sync_ns > now_ns - SYNCING_S * 1e9 for sync_ns in syncs_ns) >= SYNCING
        if passed_s >= MOST_S or (passed_s >= LEAST_S and is_syncing):
            return Phase(name, began_ns, now_ns, tuple(syncs_ns), doubts)


DRILL = Drill(
    name="clock-step",
    question="What does a step of the wall clock do to a Redis?",
    promise="Every write is answered while the clock is stepped, and none is lost by a restart afterwards",
    faults=("the server's clock stepped forward by 10 s", "the server's clock stepped back by 10 s"),
    blast_radius="the clock of one server process of our own; that of the host stays as it is",
    roll_back="the clock is right again after each round; the server and the library that makes its clock are removed at the end",
    targets=("embedded",),
    times={QUICK: 1, FULL: 3},
    limit_s={QUICK: 90, FULL: 180},
    perform=_perform,
)
