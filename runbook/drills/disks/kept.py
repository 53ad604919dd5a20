"""Judges what a server has kept of what it acknowledged, over one outage or several."""

import dataclasses
import time
from collections.abc import Sequence

from cachelib import connect
from runbook.drills.checkers import Account, account
from runbook.drills.drill import Ground
from runbook.evidence import Finding, Measurement, Verdict, judge
from runbook.load import History
from runbook.targets import Embedded

# Fewer acknowledged writes say nothing.
FEWEST_WRITES = 100


def restart(server: Embedded) -> int:
    """End the server if it runs, and start it again; return when it had ended."""
    if server.pid:
        server.stop()
    down_ns = time.monotonic_ns()
    server.start()
    return down_ns


def read_back(ground: Ground, name: str, server: Embedded, key: str, history: History, cut_ns: int) -> Account:
    """Read a ledger in the end, account for each of its appends, and look whether the server is well again.

    Args:
        ground: of the drill; the history is kept there.
        name: of the history.
        server: that was started again.
        key: of the ledger.
        history: of the appends.
        cut_ns: when the server had ended.
    """
    ground.keep(name, history)
    with connect(server.config) as client:
        present = [value.decode() for value in client.lrange(key, 0, -1)]
    ground.check_steady("I-4", server)
    return account(history, present, [cut_ns])


def judge_kept(
    criterion: str, claim: str, accounts: Sequence[Account], doubts: Sequence[str], *, windows_s: Sequence[float] | float = 0.0
) -> Finding:
    """Judge that nothing acknowledged is lost, or only the newest of it; and that nothing is doubled, invented or out of order.

    Args:
        criterion: id of the story's criterion.
        claim: what must hold.
        accounts: of each outage.
        doubts: why it can't be said that the faults took place.
        windows_s: the newest writes that may be lost, in seconds, in each outage or in all.
    """

    def check() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        if not accounts:
            return Verdict.INCONCLUSIVE, "; ".join(doubts) or "nothing was accounted for", ()
        each_s = _windows_s(accounts, windows_s)
        worst, window_s = max(zip(accounts, each_s, strict=True), key=lambda pair: (pair[0].lost_window_s - pair[1], len(pair[0].lost)))
        acknowledged = sum(each.acknowledged for each in accounts)
        lost = sum(len(each.lost) for each in accounts)
        measured = (
            Measurement("acknowledged writes lost", lost, "writes", acknowledged, f"only within {window_s:.3g} s" if window_s else "= 0"),
            Measurement("longest window of a loss", round(worst.lost_window_s, 3), "s", len(accounts), f"≤ {window_s:.3g} s"),
            Measurement("refused", sum(each.failed for each in accounts), "writes", sum(each.attempted for each in accounts)),
            Measurement("outcome unknown", sum(each.unknown for each in accounts), "writes", sum(each.attempted for each in accounts)),
        )
        problems = [corruption for each in accounts for corruption in each.corrupt]
        if beyond := _beyond(accounts, each_s):
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

    return judge(criterion, claim, check)


def known_loss(finding: Finding, known: str, accounts: Sequence[Account], windows_s: Sequence[float] | float) -> Finding:
    """Say of a finding where the server is documented to lose the newest writes, unless more is wrong than that.

    Args:
        finding: of `judge_kept`.
        known: where that is.
        accounts: that it judges.
        windows_s: what is documented to be lost, in seconds, in each outage or in all.
    """
    more = any(each.corrupt for each in accounts) or _beyond(accounts, _windows_s(accounts, windows_s))
    return finding if more else dataclasses.replace(finding, known=known)


def _windows_s(accounts: Sequence[Account], windows_s: Sequence[float] | float) -> Sequence[float]:
    return [windows_s] * len(accounts) if isinstance(windows_s, float) else windows_s


def _beyond(accounts: Sequence[Account], windows_s: Sequence[float]) -> list[Account]:
    """Return those in which more was lost than the newest writes."""
    return [
        each for each, window_s in zip(accounts, windows_s, strict=True) if each.lost and (each.lost_window_s > window_s or not window_s)
    ]
