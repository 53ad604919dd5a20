"""The set: each member acknowledged is in it, and nothing else is; a log without an order."""

from collections.abc import Iterable, Sequence

from runbook.drills.checkers.ledger import Account, account
from runbook.load.history import History


def membership(history: History, present: Iterable[str], cuts_ns: Sequence[int] = ()) -> Account:
    """Account for every addition of a `Members` workload.

    Args:
        history: all additions, issued before, during and after the outages.
        present: the members as read back at the end, in any order.
        cuts_ns: when the server had ended, each time; what was sent after the last and acknowledged must be there without exception.
    """
    return account(history, present, cuts_ns, operation="SADD", ordered=False)
