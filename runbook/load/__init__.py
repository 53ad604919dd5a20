"""What we do to a Redis, and the record of what it answered."""

from runbook.load.generator import Load, collector_off, run
from runbook.load.history import History, Outcome, Record
from runbook.load.journal import Journal, read_journal
from runbook.load.workload import Basics, Counter, Ledger, Members, Operation, Ping, Register, Repeated, Workload

__all__ = [
    "Basics",
    "Counter",
    "History",
    "Journal",
    "Ledger",
    "Load",
    "Members",
    "Operation",
    "Outcome",
    "Ping",
    "Record",
    "Register",
    "Repeated",
    "Workload",
    "collector_off",
    "read_journal",
    "run",
]
