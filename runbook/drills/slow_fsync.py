"""What does a Redis lose when it is killed, or its host loses power, while the disk takes seconds for an fsync?

While an fsync is under way, `everysec` holds back what it acknowledges: in memory, for up to 2 s (`aof.c`, `flushAppendOnlyFile`) by a
clock that is set with every command and every tenth of a second. Then it writes into the page cache, which survives a SIGKILL, and holds
back anew. So a kill of the process costs at most the newest 2 s, however slow the disk is; not nothing, though the machine keeps its power.
SIGTERM costs nothing: on its way out the server writes what it holds, and waits for the disk.

A power cut costs more, the slower the disk is: all since the last fsync that has ended was begun. Where each takes D seconds, the next one
begins as soon as the last has ended, at the latest a second after that, so that a cut just before its end costs 2 D, and a second.
"""

import contextlib
import dataclasses
import functools
import random
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from cachelib import connect
from runbook.drills.checkers import Account
from runbook.drills.disks.kept import judge_kept, known_loss, read_back
from runbook.drills.disks.patience import await_true
from runbook.drills.drill import Drill, Ground
from runbook.drills.faults.disk import BentSync, slow_fsync, small_disk
from runbook.drills.faults.power import own_disk, power_cut
from runbook.drills.faults.process import Outage, killed, stopped
from runbook.evidence import Finding, Measurement, Verdict, judge
from runbook.load import Ledger, Load, collector_off
from runbook.targets import Embedded, TargetError

WRITES_PER_S, WRITERS = 1000, 4
BEFORE_S, AFTER_S = 0.4, 0.2
LEAST_DELAY_S, MOST_DELAY_S = 1.5, 4.0
# Where in the delay a kill falls: late enough that something is held back, and before it ends.
EARLIEST_S, SPARE_S = 0.3, 0.4
# A second passes until the next fsync, then the last one is waited for.
SYNC_TIMEOUT_S = 10.0
# By when the server has counted a delay: it does once it has held back for 2 s.
COUNTED_S = 2.3
# SIGTERM may wait for three fsyncs: the one under way, the last one of the log, that of the snapshot.
STOP_DELAY_S = 0.7
# A power cut falls late in the second of two slow fsyncs: behind so much of it.
CUT_FROM = 0.6
# What a power cut may cost while the disk is well, see the drill power-loss.
HEALTHY_S = 2.0
# Some tens of writes: that a kill falls into the millisecond after a write is nothing that a run should hang on.
LEAST_HELD_BYTES = 4096
# Held back for 2 s, and seen as late as the server's clock turns (hz 10).
BOUND_S = 2.1

HELD_BACK = "aof.c, flushAppendOnlyFile: while an fsync is under way, everysec holds back acknowledged writes in memory for up to 2 s"

SLOW = f"an fsync slowed by {LEAST_DELAY_S:g}–{MOST_DELAY_S:g} s"
LOST = f"SIGKILL in {SLOW} loses at most the acknowledged writes of the last 2 s (+0.1 s), and only the newest"
NOTHING_LOST = f"SIGKILL in {SLOW} loses no acknowledged write, since the machine keeps its power"
STOPPED = "SIGTERM in a slow fsync loses nothing: to restart on a slow disk, send SIGTERM, and wait for three fsyncs before any SIGKILL"
CUT = f"A power cut in {SLOW} loses at most the writes of two such fsyncs and a second, and only the newest"
CUT_AS_EVER = f"A power cut in {SLOW} loses no more than the last {HEALTHY_S:g} s, as while the disk is well"
UNTIMED = "aof.c: everysec begins an fsync a second, and waits for none, so that the window grows with what the disk takes; measured here"
TOLD = "An fsync of more than 2 s is told of by aof_delayed_fsync in INFO: alert when it rises"
LESS = "Control: kills while no fsync is slow lose less"

Fault = Callable[[Embedded], AbstractContextManager[Outage]]


@dataclass(frozen=True, slots=True)
class End:
    """One end of a server under load.

    Attributes:
        delay_s: by how much each fsync was delayed; 0 for not at all.
        into_s: how far into an fsync the signal came.
        account: what became of the appends.
        outage_s: seconds from the signal until the server served again.
        delayed: what `aof_delayed_fsync` said just before.
        doubts: why it can't be said that it ended within a slow fsync.
    """

    delay_s: float
    into_s: float
    account: Account
    outage_s: float
    delayed: int
    doubts: tuple[str, ...] = ()


def _perform(ground: Ground) -> Sequence[Finding]:
    chance = ground.chance("delays")
    kills, controls, cuts = [], [], []
    # In memory, so that nothing but us slows an fsync.
    with small_disk(ground.undo, ground.folder) as disk:
        for number in range(1, ground.times + 1):
            delay_s, into_s = _moment(chance, late=number % 2 == 1)
            ground.say(f"kill {number} of {ground.times}, {into_s:.1f} s into an fsync of {delay_s:.1f} s")
            kills.append(_end(ground, f"kill-{number}", killed, disk, delay_s=delay_s, into_s=into_s))
            if number % 2:  # every other is enough
                controls.append(_end(ground, f"control-{number}", killed, disk, delay_s=0.0, into_s=into_s % 1.0))
        ground.say("SIGTERM in a slow fsync")
        stop = _end(ground, "stop", stopped, disk, delay_s=STOP_DELAY_S, into_s=EARLIEST_S)
    uncut = ""
    try:
        for number in range(1, 1 + max(1, ground.times // 3)):
            delay_s = chance.uniform(LEAST_DELAY_S, MOST_DELAY_S) if ground.full else LEAST_DELAY_S
            into_s = chance.uniform(CUT_FROM * delay_s, delay_s - SPARE_S)
            ground.say(f"power cut {number}, {into_s:.1f} s into the second of two fsyncs of {delay_s:.1f} s")
            with own_disk(ground.undo, ground.folder) as image:
                cut = functools.partial(power_cut, disk=image)
                cuts.append(_end(ground, f"cut-{number}", cut, image.mount_point, delay_s=delay_s, into_s=into_s, after=1))
    except TargetError as error:
        uncut = str(error)
    return judge_ends(kills, controls, stop, cuts, uncut)


def _moment(chance: random.Random, *, late: bool) -> tuple[float, float]:
    """Choose how long an fsync takes, and when in it the kill falls: while the server holds back for the first time, or later."""
    if late:
        delay_s = chance.uniform(COUNTED_S + 2 * SPARE_S, MOST_DELAY_S)
        return delay_s, chance.uniform(COUNTED_S, delay_s - SPARE_S)
    delay_s = chance.uniform(LEAST_DELAY_S, MOST_DELAY_S)
    return delay_s, chance.uniform(EARLIEST_S, min(COUNTED_S, delay_s - SPARE_S))


def _end(ground: Ground, name: str, fault: Fault, disk: Path, *, delay_s: float, into_s: float, after: int = 0) -> End:
    """End a server under load, where its fsyncs are slowed so far into one of them, and start it again.

    Args:
        ground: of the drill.
        name: of the record.
        fault: ends the server, and starts it again.
        disk: where the server makes its folder.
        delay_s: by how much each fsync is slowed; 0 for not at all.
        into_s: how far into one it ends; a little later if nothing is held back just then.
        after: how many slow ones are to be over before that one.
    """
    key = f"runbook:ledger:{uuid.uuid4().hex}"
    with ground.embedded(parent=disk) as server, connect(server.config) as client, contextlib.ExitStack() as bent:
        ground.engine = server.engine
        with collector_off(), Load(client, Ledger(key), rate_per_s=WRITES_PER_S, workers=WRITERS) as load:
            time.sleep(BEFORE_S)
            slow = bent.enter_context(slow_fsync(server, ground.folder, delay_s=delay_s)) if delay_s else None
            if slow:
                await_true(lambda: slow.bent >= after and slow.inside, SYNC_TIMEOUT_S)
            time.sleep(into_s)
            if slow:
                await_true(lambda: client.info("persistence")["aof_buffer_length"] >= LEAST_HELD_BYTES, SPARE_S / 2)
            delayed = int(client.info("persistence")["aof_delayed_fsync"])
            doubts = unproven(slow, after) if slow and fault is stopped else ()  # which waits until the fsync has ended
            with fault(server) as outage:
                if slow and fault is not stopped:
                    doubts = unproven(slow, after)
            time.sleep(AFTER_S)
        account = read_back(ground, name, server, key, load.history, outage.down_ns)
    return End(delay_s, into_s, account, outage.duration_s, delayed, (*doubts, *outage.doubts))


def unproven(slow: BentSync, after: int) -> tuple[str, ...]:
    """Tell why it can't be said that so many slow fsyncs were over, and another one under way, up to now or to the end of the server."""
    few = (f"only {slow.bent} slow fsyncs of {after} were over at the end",) if slow.bent < after else ()
    return few if slow.inside else (*few, "no slow fsync was under way at the end")


def judge_ends(kills: Sequence[End], controls: Sequence[End], stop: End, cuts: Sequence[End], uncut: str = "") -> tuple[Finding, ...]:
    """Judge what was recorded: pure, so that its tests can hand it any ends; `uncut` is why no power could be cut."""
    doubts = [doubt for end in kills for doubt in end.doubts]
    cut_doubts = [doubt for end in cuts for doubt in end.doubts] + ([uncut] if uncut else [])

    def told() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        long = [end for end in kills if end.into_s >= COUNTED_S]
        silent = [end for end in long if not end.delayed]
        measured = (Measurement("long fsyncs of which it told", len(long) - len(silent), "fsyncs", len(long), "all"),)
        if silent:
            reason = f"{len(silent)} of {len(long)} times it stayed 0, first {silent[0].into_s:.1f} s into an fsync"
            return Verdict.INCONCLUSIVE if doubts else Verdict.FAIL, reason, measured
        if doubts or not long:
            return Verdict.INCONCLUSIVE, "; ".join(doubts) or f"no fsync took {COUNTED_S:g} s", measured
        return Verdict.PASS, "", measured

    def less() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        slow, fast = (sum(len(end.account.lost) for end in ends) / len(ends) for ends in (kills, controls))
        measured = (
            Measurement("lost in a kill while none is slow", round(fast, 1), "writes", len(controls), "< in a slow one"),
            Measurement("lost in a kill in a slow one", round(slow, 1), "writes", len(kills)),
        )
        if fast >= slow:
            return (
                Verdict.INCONCLUSIVE,
                f"{fast:.1f} were lost while none was slow, {slow:.1f} in a slow one: no difference was seen",
                measured,
            )
        return Verdict.PASS, "", measured

    accounts, cut_accounts = [end.account for end in kills], [end.account for end in cuts]
    bounds_s = [2 * end.delay_s + 1 for end in cuts]
    lost = judge_kept("AC-2", LOST, accounts, doubts, windows_s=BOUND_S)
    delays = Measurement("longest fsync", round(max(end.delay_s for end in kills), 1), "s", len(kills))
    took = Measurement("time that SIGTERM took, to serving again", round(stop.outage_s, 1), "s")
    stopping = judge_kept("I-4", STOPPED, [stop.account], stop.doubts)
    return (
        dataclasses.replace(lost, measured=(*lost.measured, delays)),
        known_loss(judge_kept("I-4", NOTHING_LOST, accounts, doubts), HELD_BACK, accounts, BOUND_S),
        dataclasses.replace(stopping, measured=(*stopping.measured, took)),
        judge_kept("AC-2", CUT, cut_accounts, cut_doubts, windows_s=bounds_s),
        known_loss(judge_kept("AC-2", CUT_AS_EVER, cut_accounts, cut_doubts, windows_s=HEALTHY_S), UNTIMED, cut_accounts, bounds_s),
        judge("AC-2", TOLD, told),
        judge("AC-2", LESS, less),
    )


DRILL = Drill(
    name="slow-fsync",
    question="What does a Redis lose when it is killed, or the power fails, while the disk takes seconds for an fsync?",
    promise="To SIGKILL only the newest 2 s, to a power cut only the writes of two fsyncs and a second, to SIGTERM nothing",
    faults=(f"each fsync slowed by {LEAST_DELAY_S:g}–{MOST_DELAY_S:g} s (strace)", "SIGKILL, SIGTERM and a power cut in it", "a restart"),
    blast_radius="server processes of our own, on disks of our own, in memory or an image, that we mount",
    roll_back="strace lets go of the server, the disks are unmounted and removed",
    targets=("embedded",),
    times={"quick": 1, "full": 12},
    limit_s={"quick": 90, "full": 240},
    perform=_perform,
)
