"""Takes samples of a load until they decide: a load is looked at three times, and ends as soon as its verdicts are clear."""

import dataclasses
from collections.abc import Callable, Sequence

from runbook.evidence import Finding, Measurement, Verdict
from runbook.load.excess import Excess
from runbook.load.offered import Offered
from runbook.load.recording import together
from runbook.progress import progress

THRESHOLD_MS = 1.0
# The share of calls that may take longer: a limit on the 99th percentile.
MOST_OVER = 0.01
# When a load is looked at, as shares of its whole length: 6, 12 and 25 s of 25 s.
LOOKS = (0.24, 0.48, 1.0)


def sampled(offer: Callable[[float], Offered], judge_all: Callable[[Offered], Sequence[Finding]], longest_s: float) -> Offered:
    """Offer a load until every finding is PASS or one is FAIL, and return what was measured in all.

    Args:
        offer: offers the load for so many seconds.
        judge_all: judges what was measured so far.
        longest_s: seconds of load at most.

    Raises:
        LoadError: it could not be offered.
    """
    made: list[Offered] = []
    for number, (before, share) in enumerate(zip((0.0, *LOOKS), LOOKS, strict=False), 1):
        progress(f"sample {number} of at most {len(LOOKS)}, {longest_s * (share - before):g} s")
        made.append(offer(longest_s * (share - before)))
        merged = dataclasses.replace(made[0], recording=together(each.recording for each in made))
        verdicts = [finding.verdict for finding in judge_all(merged)]
        if Verdict.FAIL in verdicts or Verdict.INCONCLUSIVE not in verdicts:
            break
    return merged


def judge_excess(excess: Excess, what: str) -> tuple[Verdict, str]:
    """Decide whether a load keeps its limit: PASS or FAIL only where the whole interval lies on one side; return the reason as well.

    Args:
        excess: of the load.
        what: was called, such as `GET`.
    """
    if excess.high < MOST_OVER:
        return Verdict.PASS, ""
    interval = (
        f"{excess.value:.2%} of {what} took over {excess.limit_ms:g} ms beyond the control, between {excess.low:.2%} and {excess.high:.2%}"
    )
    if excess.low > MOST_OVER:
        return Verdict.FAIL, f"{interval} (limit {MOST_OVER:.0%})"
    return Verdict.INCONCLUSIVE, f"{interval}: the limit of {MOST_OVER:.0%} lies within"


def measured_excess(excess: Excess | None, what: str, calls: int) -> tuple[Measurement, ...]:
    """Give the share of calls over the limit beyond the control, and its interval.

    Args:
        excess: of the load; None with too few samples.
        what: was called, such as `GET`.
        calls: how many.
    """
    return (
        Measurement(
            f"{what} over {THRESHOLD_MS:g} ms beyond the control",
            round(100 * excess.value, 3) if excess else None,
            "%",
            calls,
            f"< {MOST_OVER:.0%}",
        ),
        Measurement("99 % interval of that", f"{100 * excess.low:.2f} to {100 * excess.high:.2f}" if excess else None, "%"),
    )
