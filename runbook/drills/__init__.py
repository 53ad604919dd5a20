"""What is proved, a file for each question: workload, fault, checkers, promise."""

from runbook.drills import connections, deployment, latency, lost_replies, persistence, power_loss, reconnection, setup, speed, stall, sweep

__all__ = [
    "connections",
    "deployment",
    "latency",
    "lost_replies",
    "persistence",
    "power_loss",
    "reconnection",
    "setup",
    "speed",
    "stall",
    "sweep",
]
