"""What we do to a Redis, and the record of what it answered."""

from runbook.load.generator import Load, collector_off, run
from runbook.load.history import History, Outcome, Record
from runbook.load.workload import Basics, Ledger, Operation, Ping, Workload

__all__ = ["Basics", "History", "Ledger", "Load", "Operation", "Outcome", "Ping", "Record", "Workload", "collector_off", "run"]
