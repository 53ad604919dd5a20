"""Does a backup that is taken while writers are at work bring back what it had to hold?

Promise: a copy of the append-only set, or a snapshot, taken as Redis documents it, is a consistent prefix of what was written. Under
`everysec` the newest two seconds before the copy may not have reached the file yet (`aof.c`, `flushAppendOnlyFile`). What can be done wrong
is done too, and has to be found out: copies that are damaged or taken carelessly, and a snapshot put where it is not read.
"""

import math
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cachelib import connect
from runbook.drills.backups.backup import (
    APPEND_ONLY_SET,
    PATIENCE_S,
    SNAPSHOT,
    Backup,
    administering,
    await_rewritten,
    await_that,
    copy_append_only_set,
    copy_snapshot,
    rewrite,
    rewriting,
)
from runbook.drills.backups.restoration import (
    FEWEST_WRITES,
    LEDGER,
    STATIC_DB,
    Content,
    Restoration,
    Taken,
    content_of,
    restored,
    static_of,
)
from runbook.drills.backups.spoiled import SPOILED, begin_rewrite, copy_across_rewrite
from runbook.drills.backups.variety import write_variety
from runbook.drills.drill import Drill, Ground
from runbook.drills.starting import start_or_refusal
from runbook.evidence import Finding, Measurement, Verdict, judge
from runbook.load import Ledger, Load
from runbook.targets import Embedded
from runbook.targets.embedded import STORY_FLAGS

CRITERION = "I-4"
# How much of what was acknowledged may be missing at the end of what a backup holds, in seconds: see above.
WINDOW_S = {APPEND_ONLY_SET: 2.0, SNAPSHOT: 0.0}
CLAIMS = {
    APPEND_ONLY_SET: "A copy of the append-only set taken under load restores to a consistent prefix with all that was acknowledged 2 s "
    "before it; the digest of the rest is the same",
    SNAPSHOT: "A snapshot taken under load restores to a consistent prefix with all that was acknowledged before it; the digest of the "
    "rest is the same",
}
SWITCHED_CLAIM = "A restored snapshot goes over to the append-only file by CONFIG SET appendonly yes: a restart with that has it all"
IGNORED_CLAIM = "Control: a snapshot put into a server with appendonly yes is not read, and the drill sees that"
SPOILED_CLAIM = "Control: no copy that is damaged or was taken carelessly passes for a good one"

WRITES_PER_S, WRITERS = 1000, 4
# A server restored from a snapshot begins without its append-only file: with it, it would read that one alone.
WITHOUT_APPEND_ONLY = ("--appendonly", "no", *STORY_FLAGS[2:])
# Its appends never wait for the disk, so that what is missing from a copy of them is the copy's fault.
UNSYNCED = ("--appendonly", "yes", "--appendfsync", "no", *STORY_FLAGS[4:])
# How long a rewrite is under way when a backup is asked for, and while one is taken carelessly; the latter is not waited for.
REWRITE_S, LONG_REWRITE_S = 0.3, 10.0

Take = Callable[[Embedded, Path], Backup]
# How each backup is taken, and with which flags a server starts on it.
KINDS: dict[str, tuple[Take, tuple[str, ...]]] = {
    APPEND_ONLY_SET: (copy_append_only_set, STORY_FLAGS),
    SNAPSHOT: (copy_snapshot, WITHOUT_APPEND_ONLY),
}


def _perform(ground: Ground) -> list[Finding]:
    found: dict[str, list[Restoration]] = {kind: [] for kind in KINDS}
    for number in range(1, ground.times + 1):
        for kind, (take, flags) in KINDS.items():
            ground.say(f"{kind} {number} of {ground.times}")
            taken = _take_under_load(ground, f"{kind.replace(' ', '-')}-{number}", take, WINDOW_S[kind])
            with restored(ground.environ, flags, taken, ground.folder) as (restoration, server):
                found[kind].append(restoration)
                switched = _switched(ground, server) if restoration.content and kind == SNAPSHOT else None
                if restoration.content and kind == APPEND_ONLY_SET:
                    ground.check_steady(CRITERION, server)
    ground.say("a snapshot where it is not read")
    with restored(ground.environ, STORY_FLAGS, taken, ground.folder) as (ignored, _):
        pass
    ground.say("copies that are no backup")
    good, bad = _spoiled(ground)
    return [
        *(judge_backups(kind, restorations) for kind, restorations in found.items()),
        judge_switched(found[SNAPSHOT][-1].content, switched),
        judge_ignored(ignored),
        judge_spoiled(good, bad),
    ]


def judge_backups(kind: str, restorations: Sequence[Restoration]) -> Finding:
    """Judge what was restored from backups of one kind: pure, so that its tests can hand it any."""
    window_s = WINDOW_S[kind]

    def consistent() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        after = [each.taken.acknowledged(after_ns=each.taken.backup.ended_ns) for each in restorations]
        measured = (
            Measurement(
                "writes missing that the backup had to hold",
                sum(len(each.missing(window_s)) for each in restorations),
                "writes",
                sum(len(each.taken.acknowledged()) for each in restorations),
                "= 0",
            ),
            Measurement("age of the newest restored write at the backup's end (RPO)", _worst(each.age_s for each in restorations), "s"),
            Measurement("from the server's loss to the first read (RTO)", _worst(each.serves_s for each in restorations), "s"),
            Measurement("backups", len(restorations)),
            Measurement("acknowledged later, and lost with the server", sum(map(len, after)), "writes"),
        )
        if problems := [problem for each in restorations for problem in each.problems(window_s)]:
            return Verdict.FAIL, "; ".join(problems), measured
        doubts = [doubt for each in restorations for doubt in each.doubts(window_s)] if restorations else ["no backup was taken"]
        return (Verdict.INCONCLUSIVE if doubts else Verdict.PASS), "; ".join(doubts), measured

    return judge(CRITERION, CLAIMS[kind], consistent)


def judge_switched(before: Content | None, after: Content | None) -> Finding:
    """Judge whether a restart with the append-only file has what was restored from a snapshot; None where a server refused to start."""

    def kept() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        if before is None:
            return Verdict.INCONCLUSIVE, "no server started on the snapshot", ()
        measured = (Measurement("restored writes", len(before.ledger), "writes"),)
        if after is None:
            return Verdict.FAIL, "the server refused to start with its append-only file", measured
        lost = set(before.ledger) - set(after.ledger)
        return (Verdict.PASS, "", measured) if after == before else (Verdict.FAIL, f"another content: {len(lost)} writes less", measured)

    return judge(CRITERION, SWITCHED_CLAIM, kept)


def judge_ignored(restoration: Restoration) -> Finding:
    """Judge whether the harness sees that a snapshot was not read."""

    def seen() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        problems = restoration.problems(0.0)
        measured = (Measurement("what it sees", "; ".join(problems) or "nothing"),)
        if restoration.content is None:
            return Verdict.INCONCLUSIVE, "this server has refused it, and should have started without it", measured
        return (Verdict.PASS, "", measured) if problems else (Verdict.INCONCLUSIVE, "this server has read it", measured)

    return judge(CRITERION, IGNORED_CLAIM, seen)


def judge_spoiled(good: Restoration, bad: Mapping[str, Restoration]) -> Finding:
    """Judge whether the harness tells bad copies from the good one of which they were made."""

    def told() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        seen = {name: "; ".join(each.problems(0.0)) for name, each in bad.items()}
        measured = (
            Measurement("bad copies found out", sum(map(bool, seen.values())), "copies", len(seen), f"= {len(seen)}"),
            *(Measurement(name, what or "passes for a good one") for name, what in seen.items()),
        )
        missed = [f"{name} passes for a good one" for name, what in seen.items() if not what]
        accused = [f"the good copy is accused: {problem}" for problem in good.problems(0.0)]
        reasons = [*accused, *missed] if seen else ["there were none"]
        return (Verdict.INCONCLUSIVE if reasons else Verdict.PASS), "; ".join(reasons), measured

    return judge(CRITERION, SPOILED_CLAIM, told)


def _take_under_load(ground: Ground, name: str, take: Take, window_s: float) -> Taken:
    """Take a backup while writers are at work and a rewrite is under way, and lose the server."""
    with ground.embedded() as server:
        ground.engine = server.engine
        static = _fill(ground, server)
        with connect(server.config) as client, Load(client, Ledger(LEDGER), rate_per_s=WRITES_PER_S, workers=WRITERS) as load:
            _await_writes(load)
            time.sleep(window_s + ground.chance(name).uniform(0, 0.3))
            begin_rewrite(server, REWRITE_S)
            doubts = _doubts(server)
            backup = take(server, ground.folder / name)
            _await_writes(load)
        server.kill()
    ground.keep(f"{name}-writes", load.history)
    return Taken(backup, load.history, static, doubts)


def _doubts(server: Embedded) -> tuple[str, ...]:
    """Tell why a backup that is asked for now is not asked for under the circumstances that are meant."""
    with administering(server) as client:
        return () if rewriting(client) else ("no rewrite was under way when the backup was asked for",)


def _switched(ground: Ground, server: Embedded) -> Content | None:
    """Turn the append-only file on in a server restored from a snapshot, and tell what a restart with it holds; None if that refuses."""
    with administering(server) as client:
        client.config_set("appendonly", "yes")
        await_rewritten(client)
    server.kill()
    with Embedded(ground.environ, STORY_FLAGS, parent=ground.folder, data=server.folder, started=False) as restarted:
        return None if start_or_refusal(restarted) else content_of(restarted)


def _spoiled(ground: Ground) -> tuple[Restoration, dict[str, Restoration]]:
    """Restore a good copy, and for each way to spoil one a bad one."""
    folder = ground.folder / "copies"
    with ground.embedded(UNSYNCED) as server:
        static = _fill(ground, server)
        with connect(server.config) as client, Load(client, Ledger(LEDGER), rate_per_s=WRITES_PER_S, workers=WRITERS) as load:
            _await_writes(load)
            copies = {"good": copy_append_only_set(server, folder / "good")}
            copies["a copy begun before a rewrite and ended within it"] = copy_across_rewrite(server, folder / "across", LONG_REWRITE_S)
            _await_writes(load)
    for name, spoil in SPOILED.items():
        spoiled = folder / name.replace(" ", "-")
        shutil.copytree(copies["good"].folder, spoiled)
        spoil(spoiled)
        copies[name] = replace(copies["good"], folder=spoiled)
    found = {}
    for name, backup in copies.items():
        with restored(ground.environ, STORY_FLAGS, Taken(backup, load.history, static), ground.folder) as (restoration, _):
            found[name] = restoration
    return found.pop("good"), found


def _fill(ground: Ground, server: Embedded) -> str:
    """Write what nobody writes to later, into a base of the append-only set, and return its digest."""
    with connect(replace(server.config, db=STATIC_DB, deadline_s=PATIENCE_S)) as client:
        write_variety(client, ground.chance("variety"), 100 if ground.full else 10)
        rewrite(client)
    return static_of(server)


def _await_writes(load: Load) -> None:
    """Wait for writes, as many as are needed on a side of a backup."""
    # Those that are under way when the counting begins may count for the other side.
    enough = len(load.history) + FEWEST_WRITES + WRITERS
    await_that("writes", lambda: len(load.history) > enough)


def _worst(seconds: Iterable[float]) -> float | None:
    worst = max(seconds, default=math.nan)
    return round(worst, 3) if math.isfinite(worst) else None


DRILL = Drill(
    name="backup-restore",
    question="Does a backup that is taken while writers are at work bring back what it had to hold?",
    promise="A copy taken as documented restores to a consistent prefix, with all that was acknowledged before it",
    faults=("loss of the server and of its folder", "copies that are damaged or taken carelessly, as controls"),
    blast_radius="server processes of our own, one after the other",
    roll_back="none needed: servers and copies are removed",
    targets=("embedded",),
    times={"quick": 1, "full": 3},
    limit_s={"quick": 90, "full": 240},
    perform=_perform,
)
