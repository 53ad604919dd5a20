"""Judges what a server has kept of what it acknowledged, over one outage or several."""

from collections.abc import Sequence

from cachelib import Client
from runbook.drills.checkers import Account, account
from runbook.evidence import Finding, Measurement, Verdict, judge
from runbook.load import History

# Fewer acknowledged writes say nothing.
FEWEST_WRITES = 100


def read_back(client: Client, key: str, history: History, cut_ns: int) -> Account:
    """Read a ledger in the end, and account for each of its appends; `cut_ns` is when the server had ended."""
    present = [value.decode() if isinstance(value, bytes) else value for value in client.lrange(key, 0, -1)]
    return account(history, present, [cut_ns])


def judge_kept(
    criterion: str, claim: str, accounts: Sequence[Account], doubts: Sequence[str], *, window_s: float = 0.0, known: str = ""
) -> Finding:
    """Judge that nothing acknowledged is lost, or only the newest of it; and that nothing is doubled, invented or out of order.

    Args:
        criterion: id of the story's criterion.
        claim: what must hold.
        accounts: of each outage.
        doubts: why it can't be said that the faults took place.
        window_s: the newest writes that may be lost, in seconds.
        known: where the server itself is documented not to keep the claim.
    """

    def check() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        if not accounts:
            return Verdict.INCONCLUSIVE, "; ".join(doubts) or "nothing was accounted for", ()
        worst = max(accounts, key=lambda each: (each.lost_window_s, len(each.lost)))
        acknowledged = sum(each.acknowledged for each in accounts)
        lost = sum(len(each.lost) for each in accounts)
        measured = (
            Measurement("acknowledged writes lost", lost, "writes", acknowledged, f"only within {window_s:g} s" if window_s else "= 0"),
            Measurement("longest window of a loss", round(worst.lost_window_s, 3), "s", len(accounts), f"≤ {window_s:g} s"),
            Measurement("refused", sum(each.failed for each in accounts), "writes", sum(each.attempted for each in accounts)),
            Measurement("outcome unknown", sum(each.unknown for each in accounts), "writes", sum(each.attempted for each in accounts)),
        )
        problems = [corruption for each in accounts for corruption in each.corrupt]
        beyond = [each for each in accounts if each.lost and (each.lost_window_s > window_s or not window_s)]
        if beyond:
            first = (
                f"{lost} of {acknowledged} acknowledged writes lost, in {len(beyond)} of {len(accounts)} outages, first {beyond[0].lost[0]}"
            )
            problems.insert(0, f"{first}; at worst {len(worst.lost)} over {worst.lost_window_s:.2f} s, first {worst.lost[0]}")
        if problems:
            return Verdict.FAIL, "; ".join(problems), measured
        scarce = min(each.acknowledged for each in accounts)
        few = [f"only {scarce} acknowledged writes in an outage, {FEWEST_WRITES} are needed"] if scarce < FEWEST_WRITES else []
        if unsure := [*doubts, *few]:
            return Verdict.INCONCLUSIVE, "; ".join(unsure), measured
        return Verdict.PASS, "", measured

    return judge(criterion, claim, check, known)
