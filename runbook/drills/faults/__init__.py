"""What can be broken on purpose: each fault proves that it broke, and heals."""

from runbook.drills.faults.container import crashed, recreated, removed
from runbook.drills.faults.impact import Impact
from runbook.drills.faults.memory import out_of_memory
from runbook.drills.faults.network import (
    bandwidth,
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
from runbook.drills.faults.process import Outage, killed, paused, stopped
from runbook.drills.faults.proxy import Proxy, ProxyClosed
from runbook.drills.faults.rewrite import killed_in_rewrite

__all__ = [
    "Impact",
    "Outage",
    "Proxy",
    "ProxyClosed",
    "bandwidth",
    "black_hole",
    "crashed",
    "cutting_replies",
    "delayed",
    "flapping",
    "half_open",
    "killed",
    "killed_in_rewrite",
    "losing_replies",
    "out_of_memory",
    "paused",
    "recreated",
    "refused",
    "removed",
    "reset",
    "stopped",
    "withholding_replies",
]
