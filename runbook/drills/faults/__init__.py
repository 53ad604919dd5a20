"""What can be broken on purpose: each fault proves that it broke, and heals."""

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

__all__ = [
    "FAULTS",
    "Impact",
    "Outage",
    "Proxy",
    "ProxyClosed",
    "black_hole",
    "cutting_replies",
    "delayed",
    "flapping",
    "half_open",
    "killed",
    "losing_replies",
    "refused",
    "reset",
    "stopped",
    "withholding_replies",
]

FAULTS = {"SIGTERM": stopped, "SIGKILL": killed}
