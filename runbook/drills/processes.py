"""What becomes of the data and of the callers when the server's process ends or is silent, by whatever hand."""

from collections.abc import Mapping, Sequence
from functools import partial

from runbook.drills import persistence
from runbook.drills.checkers import Account
from runbook.drills.drill import Drill, Ground
from runbook.drills.faults import Outage
from runbook.evidence import Finding, Measurement, Verdict, judge

WRITES_PER_S, WRITERS = 2000, 4
BEFORE_S, AFTER_S = 1.5, 1.0
ANY_OWN, PROCESS = ("embedded", "compose", "compose-prod"), ("embedded",)
WITHOUT_FILE = ("--appendonly", "no", "--save", "")
LOSE_WITHOUT_FILE = ("SIGTERM", "SIGKILL", "out-of-memory")
PROMISE = "writers go on by themselves, and who can't wait is told so by the deadline"
TAIL = "At most the writes of the last two seconds are lost, and only the tail"


def _perform(ground: Ground, fault: str, down_s: float) -> Sequence[Finding]:
    with ground.server("I-4") as target:
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
    for name, history in result.histories.items():
        ground.keep(name, history)
    return (*result.findings, *persistence.control(), *([_lossy(ground, fault)] if fault in LOSE_WITHOUT_FILE else []))


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
