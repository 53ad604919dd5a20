"""What can be broken on purpose: each fault proves that it broke, and heals."""

from runbook.drills.faults.container import crashed, recreated, removed
from runbook.drills.faults.impact import Impact
from runbook.drills.faults.network import (
    black_hole,
    cutting_replies,
    delayed,
    flapping,
    half_open,
    losing_replies,
    refused,
    reset,
    withholding_replies,
)
from runbook.drills.faults.process import Outage, killed, stopped
from runbook.drills.faults.proxy import Proxy, ProxyClosed
from runbook.targets import Contained, Restartable

__all__ = [
    "ABILITIES",
    "FAULTS",
    "Impact",
    "Outage",
    "Proxy",
    "ProxyClosed",
    "black_hole",
    "crashed",
    "cutting_replies",
    "delayed",
    "flapping",
    "half_open",
    "killed",
    "losing_replies",
    "recreated",
    "refused",
    "removed",
    "reset",
    "stopped",
    "withholding_replies",
]

FAULTS = {"SIGTERM": stopped, "SIGKILL": killed, "recreation": recreated, "removal": removed, "crash": crashed}
# What a target must be able to do for each of them.
ABILITIES = {
    "SIGTERM": Restartable,
    "SIGKILL": Restartable,
    "recreation": Contained,
    "removal": Contained,
    "crash": Contained,
}
