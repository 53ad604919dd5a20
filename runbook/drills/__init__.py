"""What is proved, a file for each question: workload, fault, checkers, promise."""

from runbook.drills import connections, latency, lost_replies, persistence, reconnection, setup, speed, sweep

__all__ = ["connections", "latency", "lost_replies", "persistence", "reconnection", "setup", "speed", "sweep"]
