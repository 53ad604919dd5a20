"""What is proved, a file for each question: workload, fault, checkers, promise."""

from runbook.drills import latency, persistence, reconnection, setup, speed

__all__ = ["latency", "persistence", "reconnection", "setup", "speed"]
