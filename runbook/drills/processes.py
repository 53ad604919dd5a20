"""What becomes of the data and of the callers when the server's process ends, by whatever hand."""

from collections.abc import Sequence
from functools import partial

from runbook.drills import persistence
from runbook.drills.drill import Drill, Ground
from runbook.evidence import Finding

WRITES_PER_S, WRITERS = 2000, 4


def _perform(ground: Ground, fault: str) -> Sequence[Finding]:
    with ground.server("I-4") as target:
        result = persistence.drill(
            target, fault=fault, rate_per_s=WRITES_PER_S, writers=WRITERS, before_s=1.5, down_s=0.3, after_s=1.0, times=ground.times
        )
    for name, history in result.histories.items():
        ground.keep(name, history)
    return result.findings


DRILLS = (
    Drill(
        name="stop",
        question="Does the Redis keep everything when it is stopped by SIGTERM under load?",
        promise="No acknowledged write is lost, every writer goes on by itself, and who can't wait is told so in time",
        faults=("SIGTERM to the server", "a restart"),
        blast_radius="one server process of our own, or one container of our own",
        roll_back="the server is started again; everything is removed at the end",
        targets=("embedded", "compose", "compose-prod"),
        times={"quick": 1, "full": 3},
        limit_s={"quick": 60, "full": 120},
        perform=partial(_perform, fault="SIGTERM"),
    ),
)
