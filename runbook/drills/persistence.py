"""Does the Redis keep what it acknowledged, when its process is stopped or killed, or its container replaced, under load?

Promise: where the server may close its files, nothing is lost. After SIGKILL at most the newest two seconds are (Redis holds back a write
for up to two seconds while an fsync is in flight: `aof.c`, `flushAppendOnlyFile`), and never one out of the middle.

Three witnesses look at the data: a ledger to which writers append, registers that their owners write and read back, and a set to which
members are added. The notebook and `runbook drill` do the same, by `drill`; `lossy_control` does it to a server that keeps nothing.
"""

import dataclasses
import itertools
import os
import random
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import redis

from cachelib import connect
from runbook.drills.checkers import Account, account
from runbook.drills.faults import Outage
from runbook.drills.persistence_faults import FAULTS
from runbook.drills.persistence_judging import (
    PROBE_DEADLINE_S,
    control_claim,
    judge_control,
    judge_grace,
    judge_ledger,
    judge_members,
    judge_registers,
    judge_writers,
    seeded_control,
)
from runbook.evidence import Finding, Verdict
from runbook.load import History, Ledger, Load, Members, Operation, Ping, Register, collector_off
from runbook.load.wait_control import Lateness, WaitControl
from runbook.progress import progress
from runbook.targets import Contained, Embedded, Target, TargetError

# Beside the ledger: owners who alone write a key and read it back, and callers who add to a set.
WITNESS_PER_S, OWNERS, ADDERS = 200, 8, 2
PROBES_PER_S = 50
# Load before the first outage, beyond the window in which writes may be lost: a server that keeps nothing loses more than is promised.
BEYOND_WINDOW_S = 0.6
WITHOUT_FILE = ("--appendonly", "no", "--save", "")
CONTROL_WRITES_PER_S, CONTROL_WRITERS = 1000, 4


@dataclass(frozen=True, slots=True)
class OwnedRegisters:
    """Registers of which every other owner begins with a read.

    An owner whose next operation after a kill is a write overwrites what was lost, and never reads it. So that each kill meets owners who
    read next, whatever its moment, there are eight of them, and they don't all write at the same time.

    Attributes:
        registers: the keys.
    """

    registers: Register

    def operations(self, worker: int) -> Iterator[Operation]:
        """Yield SET and GET in turn for owners of even numbers, GET and SET for the others."""
        return itertools.islice(self.registers.operations(worker), worker % 2, None)


@dataclass(frozen=True, slots=True)
class Result:
    """One outage under load, or several of the same kind.

    Attributes:
        fault: its name, one of `FAULTS`.
        outages: what the fault did, each time.
        writes: every append to the ledger.
        registers: every write and read of a register.
        members: every addition to the set.
        probes: every PING of a caller with a short deadline.
        account: what became of the appends.
        control: how late waits without a Redis ended meanwhile.
        data: the claims on what the server kept, judged.
        callers: the claims on what callers saw, judged.
    """

    fault: str
    outages: tuple[Outage, ...] = ()
    writes: History = dataclasses.field(default_factory=lambda: History([]))
    registers: History = dataclasses.field(default_factory=lambda: History([]))
    members: History = dataclasses.field(default_factory=lambda: History([]))
    probes: History = dataclasses.field(default_factory=lambda: History([]))
    account: Account = dataclasses.field(default_factory=lambda: account(History([]), [], ()))
    control: Lateness = Lateness()
    data: tuple[Finding, ...] = ()
    callers: tuple[Finding, ...] = ()

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The claims judged."""
        return (*self.data, *self.callers)

    @property
    def histories(self) -> dict[str, History]:
        """What was recorded, by name."""
        recorded = {"writes": self.writes, "registers": self.registers, "members": self.members, "probes": self.probes}
        return {f"{self.fault.lower()}-{name}": history for name, history in {**recorded, "control": self.control.history}.items()}


def drill(
    target: Target,
    *,
    fault: str,
    rate_per_s: float,
    writers: int,
    before_s: float | None = None,
    down_s: float = 0.3,
    after_s: float = 1.0,
    times: int = 1,
    seed: int | str | None = None,
) -> Result:
    """Write under load, end the server meanwhile, start it again, read all back and account for every write.

    Args:
        target: which server; one to which we can't do this gives INCONCLUSIVE findings.
        fault: one of `FAULTS`.
        rate_per_s: appends a second, of all writers together.
        writers: how many callers append; each numbers its own appends.
        before_s: seconds of load before the first outage; None for a little more than the window in which writes may be lost.
        down_s: seconds for which the server stays down; an engine's policy does not wait for them.
        after_s: seconds of load after it serves again.
        times: how often, all within one load; each outage has a window of its own.
        seed: of the waits before each outage, of up to a second; without it, there are none.

    Raises:
        ValueError: there are no outages.
    """
    if times < 1:
        raise ValueError(f"a drill takes at least one outage, got {times}")
    promise = FAULTS[fault]
    if not isinstance(target, promise.ability):
        where = {Contained: "compose", Embedded: "embedded"}.get(promise.ability, "embedded or compose")
        refusal = f"a {target.name} target is not ours to stop: run this drill on {where}"
        return Result(fault, data=tuple(Finding(*claim, Verdict.INCONCLUSIVE, refusal) for claim in promise.claims.values()))

    before_s = promise.window_s + BEYOND_WINDOW_S if before_s is None else before_s
    waits_s = _waits_s(before_s, times, seed)
    prefix = f"runbook:persistence:{uuid.uuid4().hex}:"
    ledger, registers, members = Ledger(f"{prefix}ledger"), Register(f"{prefix}register:"), Members(f"{prefix}members")
    impatient = dataclasses.replace(target.config, deadline_s=PROBE_DEADLINE_S, pool_size=2)
    outages = []
    with connect(target.config) as client, connect(impatient) as prober:
        with (
            collector_off(),
            WaitControl() as control,
            Load(client, ledger, rate_per_s=rate_per_s, workers=writers) as writing,
            Load(client, OwnedRegisters(registers), rate_per_s=WITNESS_PER_S, workers=OWNERS) as reading,
            Load(client, members, rate_per_s=WITNESS_PER_S, workers=ADDERS) as adding,
            Load(prober, Ping(), rate_per_s=PROBES_PER_S, workers=1) as probing,
        ):
            for number, wait_s in enumerate(waits_s, 1):
                progress(f"{fault} {number} of {times}")
                time.sleep(wait_s)
                with promise.breaks(target) as outage:
                    time.sleep(down_s)
                time.sleep(after_s)
                outages.append(outage)
        appended, added = _read_back(client, ledger, registers, members)
    recorded = (writing.history, reading.history, adding.history, probing.history)
    return _judged(fault, tuple(outages), recorded, appended, added, control.lateness)


def control() -> tuple[Finding, ...]:
    """Hand the accounting a ledger with one seeded defect of each kind; it must find each of them."""
    return (seeded_control(),)


def lossy_control(
    fault: str, open_server: Callable[[tuple[str, ...]], Embedded] = lambda flags: Embedded(os.environ, flags)
) -> tuple[Finding, ...]:
    """Do the same to a server process of our own that keeps nothing: the same judges must find its loss.

    Args:
        fault: one that ends a process, such as SIGKILL.
        open_server: starts a server with these flags.

    Returns:
        The control's finding; INCONCLUSIVE where no server program is at hand.
    """
    promise = FAULTS[fault]
    try:
        with open_server(WITHOUT_FILE) as server:
            # Longer than what may be lost, so that what is lost exceeds it.
            before_s = promise.most_lost_s + BEYOND_WINDOW_S
            result = drill(
                server,
                fault=fault,
                rate_per_s=CONTROL_WRITES_PER_S,
                writers=CONTROL_WRITERS,
                before_s=before_s,
                down_s=0.1,
                after_s=0.6,
            )
    except TargetError as error:
        reason = f"no server without an append-only file could be started on this host ({error}): set REDIS_SERVER to a server program"
        return (Finding("I-4", control_claim(fault), Verdict.INCONCLUSIVE, reason),)
    return (judge_control(fault, result.outages, result.data),)


def _waits_s(before_s: float, times: int, seed: int | str | None) -> list[float]:
    """Return the seconds of load before each outage: those before the first one, and up to a second more by chance."""
    rng = random.Random(seed)
    by_chance_s = [0.0 if seed is None else rng.random() for _ in range(times)]
    return [before_s + by_chance_s[0], *by_chance_s[1:]]


def _judged(
    fault: str,
    outages: tuple[Outage, ...],
    recorded: tuple[History, History, History, History],
    appended: Sequence[str],
    added: Sequence[str],
    control: Lateness,
) -> Result:
    writes, registers, members, probes = recorded
    found = account(writes, appended, [outage.down_ns for outage in outages])
    data = (
        judge_ledger(fault, outages, writes, found),
        judge_registers(fault, outages, registers),
        judge_members(fault, outages, members, added),
    )
    callers = (judge_writers(fault, outages, writes), judge_grace(fault, outages, probes, control))
    return Result(fault, outages, *recorded, found, control, data, callers)


def _read_back(client: redis.Redis, ledger: Ledger, registers: Register, members: Members) -> tuple[Sequence[str], Sequence[str]]:
    """Return the items of the list and of the set, and remove all keys."""
    appended = [_text(value) for value in client.lrange(ledger.key, 0, -1)]
    added = [_text(value) for value in client.smembers(members.key)]
    client.unlink(ledger.key, members.key, *(registers.key(worker) for worker in range(OWNERS)))
    return appended, added


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
