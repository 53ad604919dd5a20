"""What is proved, a file for each question: workload, fault, checkers, promise."""

from runbook.drills import latency, persistence, setup

__all__ = ["latency", "persistence", "setup"]
