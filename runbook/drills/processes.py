"""What becomes of the data and of the callers when the server's process ends or is silent, by whatever hand."""

from collections.abc import Mapping, Sequence
from functools import partial

from runbook.drills import persistence
from runbook.drills.drill import Drill, Ground
from runbook.evidence import Finding

WRITES_PER_S, WRITERS = 2000, 4
ANY_OWN, PROCESS = ("embedded", "compose", "compose-prod"), ("embedded",)
# A server that keeps nothing survives a SIGSTOP, and has no file that it could rewrite.
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
            down_s=down_s,
            times=ground.times,
            seed=f"{ground.seed}:{ground.drill}",
        )
    for name, history in result.histories.items():
        ground.keep(name, history)
    if fault not in LOSE_WITHOUT_FILE:
        return (*result.findings, *persistence.control())
    ground.say("control: without an append-only file")
    return (*result.findings, *persistence.control(), *persistence.lossy_control(fault, ground.embedded))


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
