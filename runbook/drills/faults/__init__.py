"""What can be broken on purpose: each fault proves that it broke, and heals."""

from runbook.drills.faults.process import Outage, killed, stopped

__all__ = ["FAULTS", "Outage", "killed", "stopped"]

FAULTS = {"SIGTERM": stopped, "SIGKILL": killed}
