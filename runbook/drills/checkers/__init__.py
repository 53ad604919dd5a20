"""Pure functions from a recorded history to what became of each operation."""

from runbook.drills.checkers.counter import Tally, tally
from runbook.drills.checkers.ledger import Account, account
from runbook.drills.checkers.members import membership
from runbook.drills.checkers.register import Readings, readings

__all__ = ["Account", "Readings", "Tally", "account", "membership", "readings", "tally"]
