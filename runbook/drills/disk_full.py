"""What does a Redis do when its disk is full, and how is it brought back?

Under `everysec` it refuses writes (MISCONF) and goes on to serve reads; what it acknowledged just before stays in its memory, and is
written as soon as there is room, for which it tries all the time: nothing is lost, unless it is killed before. Under `always` it ends,
since it can't keep its word (`aof.c`). A server without an append-only file is the control: it acknowledges everything, and loses it.
"""

import contextlib
import dataclasses
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import redis

from cachelib import Client, check, connect
from runbook.drills.checkers import Account
from runbook.drills.disks.kept import judge_kept, read_back, restart
from runbook.drills.disks.patience import await_true
from runbook.drills.disks.recovery import FREE_SPACE, REWRITE, VERIFY, await_well, rewrite
from runbook.drills.disks.spell import (
    ALWAYS_FLAGS,
    LOAD_DEADLINE_S,
    NOTICE_TIMEOUT_S,
    Reading,
    Spell,
    accounts_of,
    await_noticed,
    doubts_of,
    judge_lost,
    judge_reads,
    judge_recovery,
    judge_refusals,
    known_end,
    last_words,
    spells_of,
)
from runbook.drills.drill import Drill, Ground
from runbook.drills.faults.disk import FullDisk, full, small_disk
from runbook.evidence import Finding, Measurement, Verdict, judge
from runbook.load import Ledger, Load, Outcome, Record, collector_off, run
from runbook.targets import Embedded
from runbook.targets.embedded import STORY_FLAGS

WRITES_PER_S, WRITERS, READS_PER_S = 1000, 4, 50
BEFORE_S, FULL_S, AFTER_S = 0.4, 1.2, 0.3
RETURN_TIMEOUT_S = 10.0
STEADY_KEY = "runbook:steady"
# Held back behind an fsync for 2 s, see the drill slow-fsync; and seen as late as the server's clock turns.
BOUND_S = 2.1

UNSAVED_FLAGS = ("--appendonly", "no", "--save", "")

ENDS = "aof.c, flushAppendOnlyFile: under appendfsync always a write that fails ends the server (“Can't recover from AOF write error”)"

REFUSED = "While the disk is full every write is refused with MISCONF, and the health check says disk-failing"
READ = "While the disk is full every read is answered"
RETURNED = f"Recovery from a full disk: {FREE_SPACE}; writes come back by themselves. Then {REWRITE}; {VERIFY}"
KEPT = "After that recovery and a restart no acknowledged write is lost; none is doubled, invented or out of order"
KILLED = "SIGKILL while the disk is full loses at most the last 2 s (+0.1 s) before the refusals. Recovery: start it, and make room"
READ_AGAIN = "A server that is started on a full disk answers reads"
ALWAYS_KEPT = "Under appendfsync always a full disk loses no acknowledged write. Recovery: make room, start the server"
ALWAYS_READ = "Under appendfsync always a full disk leaves the server serving reads"
UNREFUSED = "Control: a server without AOF is found to take writes on the same full disk"
LOST = "Control: a server without AOF is found to lose them at a restart"


@dataclass(frozen=True, slots=True)
class _Scene:
    disk: Path
    server: Embedded
    client: Client
    key: str
    load: Load
    reading: Load
    loads: contextlib.ExitStack

    def await_return(self, fault: FullDisk) -> float | None:
        """Wait until a write succeeds; return how many seconds after room was made, None if it did not."""
        returned = await_true(lambda: _writes(self.client), RETURN_TIMEOUT_S)
        return (time.monotonic_ns() - fault.freed_ns) / 1e9 if returned else None

    def within(self, since_ns: int, until_ns: int) -> tuple[tuple[Record, ...], tuple[Record, ...]]:
        """Return the appends and the reads that were made within two moments."""
        writes, reads = (
            tuple(record for record in load.history if record.sent_ns > since_ns and record.done_ns < until_ns)
            for load in (self.load, self.reading)
        )
        return writes, reads

    def account(self, ground: Ground, name: str, down_ns: int) -> Account:
        """Read the ledger in the end, and account for each append."""
        return read_back(ground, name, self.server, self.key, self.load.history, down_ns)


@contextlib.contextmanager
def _scene(ground: Ground, flags: tuple[str, ...]) -> Iterator[_Scene]:
    """Put a server under load on a small disk of its own."""
    key = f"runbook:ledger:{uuid.uuid4().hex}"
    with (
        small_disk(ground.undo, ground.folder) as disk,
        ground.embedded(flags, parent=disk) as server,
        connect(dataclasses.replace(server.config, deadline_s=LOAD_DEADLINE_S)) as client,
        collector_off(),
        contextlib.ExitStack() as loads,
    ):
        ground.engine = server.engine
        client.set(STEADY_KEY, STEADY_KEY)
        load = loads.enter_context(Load(client, Ledger(key), rate_per_s=WRITES_PER_S, workers=WRITERS))
        reading = loads.enter_context(Load(client, Reading(STEADY_KEY), rate_per_s=READS_PER_S, workers=1))
        time.sleep(BEFORE_S)
        yield _Scene(disk, server, client, key, load, reading, loads)


def _perform(ground: Ground) -> Sequence[Finding]:
    return judge_spells(**spells_of(ground, CASES))


def _freed(ground: Ground, name: str) -> Spell:
    """Fill the disk, make room again, and wait for the writes to come back."""
    with _scene(ground, STORY_FLAGS) as scene:
        with full(scene.disk) as fault:
            doubts = await_noticed(scene.client)
            noticed_ns = time.monotonic_ns()
            # As an operator would, in the hope that it saves room; it leaves an error of its own behind.
            with contextlib.suppress(redis.ResponseError):
                scene.client.bgrewriteaof()
            time.sleep(FULL_S)
            health = check(scene.client)
        returned_s = scene.await_return(fault)
        left = rewrite(scene.client)
        time.sleep(AFTER_S)
        scene.loads.close()
        account = scene.account(ground, name, restart(scene.server))
        writes, reads = scene.within(noticed_ns, fault.freed_ns)
    doubts += fault.doubts
    return Spell((account,), writes, reads, health, left=left, returned_s=returned_s, doubts=doubts)


def _killed(ground: Ground, name: str) -> Spell:
    """Fill the disk, kill the server, start it on the full disk, and make room only then."""
    with _scene(ground, STORY_FLAGS) as scene:
        with full(scene.disk) as fault:
            doubts = await_noticed(scene.client)
            scene.server.kill()
            down_ns = time.monotonic_ns()
            scene.loads.close()  # a writer that is quicker than the first PING would let it be refused
            scene.server.start()
            reads = tuple(run(scene.client, Reading(STEADY_KEY), rate_per_s=READS_PER_S, workers=1, duration_s=AFTER_S))
        returned_s = scene.await_return(fault)
        left = await_well(scene.client, RETURN_TIMEOUT_S)
        restart(scene.server)
        account = scene.account(ground, name, down_ns)
    return Spell((account,), reads=reads, left=left, returned_s=returned_s, doubts=doubts + fault.doubts)


def _always(ground: Ground, name: str) -> Spell:
    """Fill the disk under a server that must not acknowledge what is not on it."""
    with _scene(ground, ALWAYS_FLAGS) as scene:
        with full(scene.disk) as fault:
            ended = await_true(lambda: scene.server.pid is None, NOTICE_TIMEOUT_S)
            scene.loads.close()
        said = last_words(scene.server)
        account = scene.account(ground, name, restart(scene.server))
        writes, reads = scene.within(fault.full_ns, fault.freed_ns)
    return Spell((account,), writes, reads, survived=not ended, last_words=said, doubts=fault.doubts)


def _unsaved(ground: Ground, name: str) -> Spell:
    """Fill the disk under a server that writes nothing to it."""
    with _scene(ground, UNSAVED_FLAGS) as scene:
        with full(scene.disk) as fault:
            time.sleep(AFTER_S)
            scene.loads.close()
        account = scene.account(ground, name, restart(scene.server))
        writes, reads = scene.within(fault.full_ns, fault.freed_ns)
    return Spell((account,), writes, reads, doubts=fault.doubts)


def _writes(client: Client) -> bool:
    try:
        return bool(client.set(STEADY_KEY, STEADY_KEY))
    except redis.RedisError:
        return False


CASES: dict[str, Callable[[Ground, str], Spell]] = {"freed": _freed, "killed": _killed, "always": _always, "unsaved": _unsaved}


def judge_spells(freed: Sequence[Spell], killed: Sequence[Spell], always: Sequence[Spell], unsaved: Sequence[Spell]) -> tuple[Finding, ...]:
    """Judge what was recorded, case by case: pure, so that its tests can hand it any spells."""
    return (
        judge_refusals("I-6", REFUSED, freed),
        judge_reads("I-6", READ, freed),
        judge_recovery("I-5", RETURNED, [*freed, *killed], by_itself=True),
        judge_kept("I-4", KEPT, accounts_of(freed), doubts_of(freed)),
        judge_kept("AC-2", KILLED, accounts_of(killed), doubts_of(killed), windows_s=BOUND_S),
        judge_reads("I-6", READ_AGAIN, killed),
        judge_kept("I-4", ALWAYS_KEPT, accounts_of(always), doubts_of(always)),
        known_end(judge_reads("I-6", ALWAYS_READ, always), ENDS, always),
        judge("I-6", UNREFUSED, lambda: _unrefused(unsaved)),
        judge_lost("I-4", LOST, unsaved),
    )


def _unrefused(spells: Sequence[Spell]) -> tuple[Verdict, str, tuple[Measurement, ...]]:
    writes = [record for spell in spells for record in spell.writes]
    taken = sum(record.outcome is Outcome.OK for record in writes)
    measured = (Measurement("taken", taken, "writes", len(writes), "> 0"),)
    doubts = doubts_of(spells)
    if not taken or judge_refusals("I-6", REFUSED, spells).verdict is not Verdict.FAIL:
        doubts.append("no write was found to be taken")
    return (Verdict.INCONCLUSIVE if doubts else Verdict.PASS), "; ".join(doubts), measured


DRILL = Drill(
    name="disk-full",
    question="What does a Redis do when its disk is full, and how is it brought back?",
    promise="Writes are refused, reads are answered, nothing acknowledged is lost, and room on the disk is all that it takes",
    faults=("a disk without room", "SIGKILL meanwhile", "a restart"),
    blast_radius="server processes of our own, on small file systems in memory that we mount",
    roll_back="the disk is emptied and unmounted",
    targets=("embedded",),
    times={"quick": 1, "full": 4},
    limit_s={"quick": 60, "full": 180},
    perform=_perform,
)
