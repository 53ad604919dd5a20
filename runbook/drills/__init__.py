"""What is proved, a file for each question: workload, fault, checkers, promise."""

from runbook.drills import (
    aof_damage,
    connections,
    deployment,
    latency,
    lost_replies,
    persistence,
    power_loss,
    reconnection,
    restore_time,
    setup,
    speed,
    stall,
    sweep,
)

__all__ = [
    "aof_damage",
    "connections",
    "deployment",
    "latency",
    "lost_replies",
    "persistence",
    "power_loss",
    "reconnection",
    "restore_time",
    "setup",
    "speed",
    "stall",
    "sweep",
]
