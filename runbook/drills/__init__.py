"""What is proved, a file for each question: workload, fault, checkers, promise."""

from runbook.drills import latency, lost_replies, persistence, reconnection, setup, speed

__all__ = ["latency", "lost_replies", "persistence", "reconnection", "setup", "speed"]
