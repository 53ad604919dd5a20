"""What becomes of the data and of the callers when the server's process ends or is silent, by whatever hand."""

import uuid
from collections.abc import Mapping, Sequence
from functools import partial

from cachelib import connect
from runbook.drills import persistence
from runbook.drills.checkers import Account, membership, readings
from runbook.drills.drill import Drill, Ground
from runbook.drills.faults import Outage
from runbook.evidence import Finding, Measurement, Verdict, judge
from runbook.load import History, Load, Members, Register

WRITES_PER_S, WRITERS = 2000, 4
# Beside the ledger: who alone writes a key and reads it back, and who adds to a set.
WITNESS_PER_S, WITNESSES = 200, 2
BEFORE_S, AFTER_S = 1.5, 1.0
ANY_OWN, PROCESS = ("embedded", "compose", "compose-prod"), ("embedded",)
WITHOUT_FILE = ("--appendonly", "no", "--save", "")
LOSE_WITHOUT_FILE = ("SIGTERM", "SIGKILL", "out-of-memory")
PROMISE = "writers go on by themselves, and who can't wait is told so by the deadline"
TAIL = "At most the writes of the last two seconds are lost, and only the tail"


def _perform(ground: Ground, fault: str, down_s: float) -> Sequence[Finding]:
    prefix = f"runbook:witness:{uuid.uuid4().hex}:"
    registers, members = Register(f"{prefix}register:"), Members(f"{prefix}members")
    with ground.server("I-4") as target, connect(target.config) as client:
        with (
            Load(client, registers, rate_per_s=WITNESS_PER_S, workers=WITNESSES) as reading,
            Load(client, members, rate_per_s=WITNESS_PER_S, workers=WITNESSES) as adding,
        ):
            result = persistence.drill(
                target,
                fault=fault,
                rate_per_s=WRITES_PER_S,
                writers=WRITERS,
                before_s=BEFORE_S,
                down_s=down_s,
                after_s=AFTER_S,
                times=ground.times,
                chance=ground.chance("moments"),
            )
        present = [member.decode() for member in client.smembers(members.key)]
        client.unlink(members.key, *(registers.key(worker) for worker in range(WITNESSES)))
    for name, history in {**result.histories, "registers": reading.history, "members": adding.history}.items():
        ground.keep(name, history)
    witnessed = (
        judge_registers(fault, result.outages, reading.history),
        judge_members(fault, result.outages, adding.history, present),
    )
    return (*result.findings, *witnessed, *persistence.control(), *([_lossy(ground, fault)] if fault in LOSE_WITHOUT_FILE else []))


def judge_registers(fault: str, outages: Sequence[Outage], history: History) -> Finding:
    """Judge what the owners of registers read in them: pure, so that its tests can hand it any history."""
    promise = persistence.FAULTS[fault]

    def never_back() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        found = readings(history, [outage.down_ns for outage in outages], _window_s(fault))
        measured = (
            Measurement(
                "reads of something older", len(found.stale) + len(found.backwards) + len(found.returned), "reads", found.read, "= 0"
            ),
            Measurement("acknowledged writes lost", len(found.lost), "writes", found.written, f"only within {promise.window_s:g} s"),
        )
        if found.corrupt:
            return Verdict.FAIL, "; ".join((*found.corrupt, found.counter_examples(1))), measured
        return _unless_in_doubt(outages, found.read, "reads", measured)

    once = f", but once for at most the last {promise.window_s:g} s" if promise.window_s else ""
    return judge("I-4", f"After {promise.after} no key reads older than what was acknowledged or read before{once}", never_back)


def judge_members(fault: str, outages: Sequence[Outage], history: History, present: Sequence[str]) -> Finding:
    """Judge what is in a set to which members were added: pure, so that its tests can hand it any history."""
    promise = persistence.FAULTS[fault]

    def all_there() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        found = membership(history, present, [outage.down_ns for outage in outages])
        measured = (
            Measurement("acknowledged members missing", len(found.lost), "members", found.acknowledged),
            Measurement("window of the loss", round(found.lost_window_s, 3), "s", None, f"≤ {promise.window_s:g} s"),
        )
        problems = list(found.corrupt)
        if found.lost and (not promise.window_s or found.lost_window_s > _window_s(fault)):
            problems.append(
                f"{len(found.lost)} of {found.acknowledged} members missing over {found.lost_window_s:.2f} s, first {found.lost[0]}"
            )
        if problems:
            return Verdict.FAIL, "; ".join(problems), measured
        return _unless_in_doubt(outages, found.acknowledged, "acknowledged members", measured)

    those = f"but those of the last {promise.window_s:g} s " if promise.window_s else ""
    return judge("I-4", f"After {promise.after} each acknowledged member of a set {those}is in it, and no other", all_there)


def _window_s(fault: str) -> float:
    window_s = persistence.FAULTS[fault].window_s
    return window_s + persistence.CLOCK_S if window_s else 0.0


def _unless_in_doubt(
    outages: Sequence[Outage], count: int, what: str, measured: tuple[Measurement, ...]
) -> tuple[Verdict, str, tuple[Measurement, ...]]:
    doubts = [doubt for outage in outages for doubt in outage.doubts]
    if count < persistence.FEWEST_WRITES:
        doubts.append(f"only {count} {what}, {persistence.FEWEST_WRITES} are needed")
    return (Verdict.INCONCLUSIVE if doubts else Verdict.PASS), "; ".join(doubts), measured


def _lossy(ground: Ground, fault: str) -> Finding:
    """Do the same to a server that keeps nothing: what can't be seen to be lost there would be seen nowhere."""
    ground.say("control: without an append-only file")
    with ground.embedded(WITHOUT_FILE) as server:
        result = persistence.drill(server, fault=fault, rate_per_s=WRITES_PER_S, writers=WRITERS, before_s=0.7, down_s=0.1, after_s=0.3)
    return judge_control(fault, result.outages, result.account)


def judge_control(fault: str, outages: Sequence[Outage], found: Account) -> Finding:
    """Judge what was recorded: pure, so that its tests can hand it any account."""

    def loses() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        measured = (Measurement("acknowledged writes lost", len(found.lost), "writes", found.acknowledged, "> 0"),)
        doubts = [doubt for outage in outages for doubt in outage.doubts]
        if not found.lost:
            doubts.append("nothing was lost: this drill can't tell")
        return (Verdict.INCONCLUSIVE if doubts else Verdict.PASS), "; ".join(doubts), measured

    cause = persistence.FAULTS[fault].cause
    return judge("I-4", f"Control: without an append-only file, {cause} loses acknowledged writes", loses)


def _drill(
    name: str, question: str, fault: str, how: str, *, targets: tuple[str, ...], times: Mapping[str, int], keeps: str, down_s: float = 0.3
) -> Drill:
    return Drill(
        name=name,
        question=question,
        promise=f"{keeps}; {PROMISE}",
        faults=(f"{how}, under {WRITES_PER_S:,} writes a second",),
        blast_radius=f"one server process of our own{', or one container of our own' if targets is ANY_OWN else ''}",
        roll_back="the server goes on or is started again; all of it is removed at the end",
        targets=targets,
        times=times,
        limit_s={profile: 40 + count * (down_s + 15) for profile, count in times.items()},
        perform=partial(_perform, fault=fault, down_s=down_s),
    )


NOTHING = "No acknowledged write is lost"
DRILLS = (
    _drill(
        "stop",
        "Does the Redis keep everything when it is stopped by SIGTERM?",
        "SIGTERM",
        "SIGTERM and a restart",
        targets=ANY_OWN,
        times={"quick": 1, "full": 5},
        keeps=NOTHING,
    ),
    _drill(
        "kill",
        "What does the Redis lose when it is killed by SIGKILL at a random moment?",
        "SIGKILL",
        "SIGKILL and a restart",
        targets=ANY_OWN,
        times={"quick": 3, "full": 30},
        keeps=TAIL,
    ),
    _drill(
        "pause",
        "Do the callers get through six seconds in which the Redis answers nothing?",
        "SIGSTOP",
        "SIGSTOP for six seconds",
        targets=ANY_OWN,
        times={"quick": 1, "full": 3},
        keeps=NOTHING,
        down_s=6.0,
    ),
    _drill(
        "out-of-memory",
        "What does the Redis lose when the kernel kills it out of memory?",
        "out-of-memory",
        "a kill by the kernel, in a control group of bounded memory, and a restart",
        targets=PROCESS,
        times={"quick": 1, "full": 5},
        keeps=TAIL,
    ),
    _drill(
        "kill-in-rewrite",
        "What does the Redis lose when it is killed while it rewrites its append-only file?",
        "rewrite",
        "SIGKILL in a rewrite and a restart",
        targets=PROCESS,
        times={"quick": 1, "full": 5},
        keeps=TAIL,
    ),
)
