"""What does a Redis do when the disk fails an fsync, and how is it brought back?

Under `everysec` it has acknowledged what the fsync was to make safe. It refuses further writes (MISCONF), and goes on refusing them when
the disk is well again: without a write it asks for no fsync, and without an fsync it learns nothing (`aof.c`, `flushAppendOnlyFile`). Only
an operator makes it write again, and into a new file: what the failed fsync was to write may never reach the disk, since the kernel forgets
it. Under `always` the server ends. The controls do the recovery too early, and by half.
"""

import contextlib
import dataclasses
import time
import uuid
from collections.abc import Callable, Iterator, Sequence

import redis

from cachelib import Client, check, connect
from runbook.drills.disks.kept import judge_kept, read_back, restart
from runbook.drills.disks.patience import await_true
from runbook.drills.disks.recovery import REOPEN, VERIFY, reopen
from runbook.drills.disks.spell import (
    ALWAYS_FLAGS,
    LOAD_DEADLINE_S,
    NOTICE_TIMEOUT_S,
    Reading,
    Spell,
    accounts_of,
    await_noticed,
    doubts_of,
    is_refusal,
    judge_lost,
    judge_reads,
    judge_recovery,
    judge_refusals,
    known_end,
    last_words,
    spells_of,
)
from runbook.drills.drill import Drill, Ground
from runbook.drills.faults.disk import failing_fsync
from runbook.evidence import Finding, Measurement, Verdict, judge
from runbook.load import History, Ledger, Load, Outcome, Record, collector_off, run
from runbook.targets import Embedded
from runbook.targets.embedded import STORY_FLAGS

WRITES_PER_S, WRITERS = 500, 2
LOAD_S = 0.4
# For how long writes are tried while it refuses them: more than one round of everysec.
TRIED_S, TRY_EVERY_S = 1.2, 0.1
# A recovery that comes too early is given so long to look as if it had helped.
EARLY_S = 0.7
# Under always each write takes an fsync; one of these fails, and so do all behind it.
FIRST_FAILING, LAST_FAILING = 150, 250
PROBE_KEY, PROBE_LIST = "runbook:probe", "runbook:probes"

LATCHES = "aof.c and bio.c: the error stays until another fsync succeeds; without a write none is asked for, and writes are refused"
ENDS = "aof.c, flushAppendOnlyFile: under appendfsync always an fsync that fails ends the server (“Can't persist AOF for fsync error”)"

REFUSED = "After a failed fsync every write is refused with MISCONF, and the health check says disk-failing"
READ = "After a failed fsync every read is answered"
BY_ITSELF = "After one failed fsync writes come back by themselves once the disk is well"
RECOVERED = f"Recovery from a failed fsync, once or again and again: {REOPEN}. It has helped when {VERIFY}"
KEPT = "After that recovery and a restart no acknowledged write is lost; none is doubled, invented or out of order"
EARLY = "Control: the same steps while fsync still fails are found not to have helped, by what INFO persistence says"
HALF = "Control: half of the steps (appendonly no, and no yes) lets writes in, and a restart loses them"
ALWAYS_KEPT = "Under appendfsync always a failed fsync loses no acknowledged write. Recovery: mend the disk, start the server"
ALWAYS_LIVES = "Under appendfsync always a failed fsync leaves the server serving"


def _perform(ground: Ground) -> Sequence[Finding]:
    return judge_spells(**spells_of(ground, CASES))


def _once(ground: Ground, name: str) -> Spell:
    """Let the fsync behind one write fail, try to write, and recover."""
    with _server(ground, STORY_FLAGS) as (server, client):
        key, later_key = _key(), _key()
        before = _append_many(client, key)
        restart(server)  # it ends with an fsync, so that none is due
        with failing_fsync(server, ground.folder, when="1") as fault:
            unsafe = _append(client, key, 0)
            doubts = await_noticed(client)
            writes, reads = _try(client, key, 1)
            health = check(client)
        late_writes, _ = _try(client, key, 1 + len(writes))
        left = reopen(client)
        after = _append_many(client, later_key)
        down_ns = restart(server)
        during = History([*before, unsafe, *writes, *late_writes])
        earlier = read_back(ground, f"{name}-before", server, key, during, down_ns)
        later = read_back(ground, f"{name}-after", server, later_key, after, down_ns)
    return Spell((earlier, later), writes, reads, health, late_writes, left, doubts=doubts + fault.doubts)


def _sustained(ground: Ground, name: str) -> Spell:
    """Let every fsync fail under load, recover too early, and then in time."""
    with _server(ground, STORY_FLAGS) as (server, client):
        key = _key()
        with collector_off(), _load(client, key) as load:
            time.sleep(LOAD_S)
            with failing_fsync(server, ground.folder) as fault:
                doubts = await_noticed(client)
                noticed_ns = time.monotonic_ns()
                reads = tuple(run(client, Reading(PROBE_KEY), rate_per_s=1 / TRY_EVERY_S, workers=1, duration_s=LOAD_S))
                health = check(client)
                writes = _between(load.history, noticed_ns, time.monotonic_ns())
                early_left = reopen(client, EARLY_S)
            left = reopen(client)
            time.sleep(LOAD_S)
        account = read_back(ground, name, server, key, load.history, restart(server))
    return Spell((account,), writes, reads, health, left=left, early_left=early_left, doubts=doubts + fault.doubts)


def _half(ground: Ground, name: str) -> Spell:
    """Let the fsync behind one write fail, and do half of the recovery."""
    with _server(ground, STORY_FLAGS) as (server, client):
        with failing_fsync(server, ground.folder, when="1") as fault:
            _append(client, PROBE_LIST, 0)
            doubts = await_noticed(client)
        client.config_set("appendonly", "no")
        key = _key()
        history = _append_many(client, key)
        account = read_back(ground, name, server, key, history, restart(server))
    return Spell((account,), doubts=doubts + fault.doubts)


def _always(ground: Ground, name: str) -> Spell:
    """Let an fsync fail under a server that must not acknowledge what is not on the disk."""
    first = ground.chance(name).randrange(FIRST_FAILING, LAST_FAILING)
    with _server(ground, ALWAYS_FLAGS) as (server, client):
        key = _key()
        with failing_fsync(server, ground.folder, when=f"{first}+") as fault, collector_off(), _load(client, key) as load:
            ended = await_true(lambda: server.pid is None, NOTICE_TIMEOUT_S)
        said = last_words(server)
        account = read_back(ground, name, server, key, load.history, restart(server))
    return Spell((account,), survived=not ended, last_words=said, doubts=fault.doubts)


CASES: dict[str, Callable[[Ground, str], Spell]] = {"once": _once, "sustained": _sustained, "half": _half, "always": _always}


@contextlib.contextmanager
def _server(ground: Ground, flags: tuple[str, ...]) -> Iterator[tuple[Embedded, Client]]:
    with ground.embedded(flags) as server, connect(dataclasses.replace(server.config, deadline_s=LOAD_DEADLINE_S)) as client:
        ground.engine = server.engine
        client.set(PROBE_KEY, PROBE_KEY)
        yield server, client


def _key() -> str:
    return f"runbook:ledger:{uuid.uuid4().hex}"


def _load(client: Client, key: str) -> Load:
    return Load(client, Ledger(key), rate_per_s=WRITES_PER_S, workers=WRITERS)


def _append_many(client: Client, key: str) -> History:
    return run(client, Ledger(key), rate_per_s=WRITES_PER_S, workers=WRITERS, duration_s=LOAD_S)


def _append(client: Client, key: str, number: int) -> Record:
    """Append once, as one writer more than those of the load."""
    value, outcome, problem = f"{WRITERS}:{number}", Outcome.OK, ""
    sent_ns = time.monotonic_ns()
    try:
        client.rpush(key, value)
    except redis.ResponseError as error:
        outcome, problem = Outcome.FAIL, f"{type(error).__name__}: {error}"
    except redis.RedisError as error:
        outcome, problem = Outcome.UNKNOWN, f"{type(error).__name__}: {error}"
    return Record(WRITERS, "RPUSH", value, sent_ns, sent_ns, time.monotonic_ns(), outcome, problem)


def _try(client: Client, key: str, first: int) -> tuple[tuple[Record, ...], tuple[Record, ...]]:
    """Append and read for a while; return the records of both."""
    with _reading(client) as reading:
        writes = []
        for number in range(round(TRIED_S / TRY_EVERY_S)):
            writes.append(_append(client, key, first + number))
            time.sleep(TRY_EVERY_S)
    return tuple(writes), tuple(reading.history)


def _reading(client: Client) -> Load:
    return Load(client, Reading(PROBE_KEY), rate_per_s=1 / TRY_EVERY_S, workers=1)


def _between(history: History, since_ns: int, until_ns: int) -> tuple[Record, ...]:
    return tuple(record for record in history if record.sent_ns > since_ns and record.done_ns < until_ns)


def judge_spells(once: Sequence[Spell], sustained: Sequence[Spell], half: Sequence[Spell], always: Sequence[Spell]) -> tuple[Finding, ...]:
    """Judge what was recorded, case by case: pure, so that its tests can hand it any spells."""
    everysec = [*once, *sustained]
    return (
        judge_refusals("I-6", REFUSED, everysec),
        judge_reads("I-6", READ, everysec),
        _by_itself(once),
        judge_recovery("I-5", RECOVERED, everysec, by_itself=False),
        judge_kept("I-4", KEPT, accounts_of(everysec), doubts_of(everysec)),
        judge_kept("I-4", ALWAYS_KEPT, accounts_of(always), doubts_of(always)),
        known_end(judge("I-6", ALWAYS_LIVES, lambda: _lives(always)), ENDS, always),
        judge("I-5", EARLY, lambda: _early(sustained)),
        judge_lost("I-4", HALF, half),
    )


def _by_itself(spells: Sequence[Spell]) -> Finding:
    writes = [record for spell in spells for record in spell.late_writes]
    refused = [record for record in writes if record.outcome is not Outcome.OK]

    def check() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        measured = (Measurement("still refused", len(refused), "writes", len(writes), "= 0"),)
        if doubts := doubts_of(spells):
            return Verdict.INCONCLUSIVE, "; ".join(doubts), measured
        if refused:
            return Verdict.FAIL, f"{len(refused)} of {len(writes)} writes were still refused, first {refused[0].error}", measured
        return (Verdict.PASS, "", measured) if writes else (Verdict.INCONCLUSIVE, "no write was tried", measured)

    return judge("I-5", BY_ITSELF, check, LATCHES if all(is_refusal(record) for record in refused) else "")


def _lives(spells: Sequence[Spell]) -> tuple[Verdict, str, tuple[Measurement, ...]]:
    ended = sum(not spell.survived for spell in spells)
    measured = (Measurement("servers that ended", ended, "", len(spells), "= 0"),)
    if ended:
        return Verdict.FAIL, f"the server ended, {ended} of {len(spells)} times", measured
    doubts = doubts_of(spells)
    return (Verdict.INCONCLUSIVE if doubts else Verdict.PASS), "; ".join(doubts), measured


def _early(spells: Sequence[Spell]) -> tuple[Verdict, str, tuple[Measurement, ...]]:
    # That a rewrite goes on says nothing: it may yet succeed.
    found = [spell.early_left for spell in spells if spell.early_left and any(left.endswith("_status:err") for left in spell.early_left)]
    measured = (Measurement("found out", len(found), "", len(spells), "all"),)
    doubts = doubts_of(spells)
    if len(found) < len(spells):
        doubts.append(f"{len(spells) - len(found)} of {len(spells)} times nothing seemed amiss")
    if doubts:
        return Verdict.INCONCLUSIVE, "; ".join(doubts), measured
    return Verdict.PASS, f"INFO persistence said {', '.join(found[0])}", measured


DRILL = Drill(
    name="fsync-error",
    question="What does a Redis do when the disk fails an fsync, and how is it brought back?",
    promise="Writes are refused, reads are answered, and nothing acknowledged is lost if an operator lets it write a new file",
    faults=("an fsync that fails with EIO, once (strace)", "all of them", "a restart"),
    blast_radius="server processes of our own",
    roll_back="strace lets go of the server; everything is removed at the end",
    targets=("embedded",),
    times={"quick": 1, "full": 4},
    limit_s={"quick": 60, "full": 180},
    perform=_perform,
)
