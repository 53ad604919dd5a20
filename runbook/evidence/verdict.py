"""PASS, FAIL or INCONCLUSIVE, and the findings from which a verdict is made."""

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

# How the claim of a negative control begins: that a failure is seen where there must be one.
CONTROL = "Control: "
# How the reason begins where it was not what is examined that left a claim open, but our own check.
CHECK_FAILED = "the check itself failed: "


class Verdict(enum.StrEnum):
    """What was found. FAIL outweighs INCONCLUSIVE outweighs PASS."""

    PASS = "PASS"  # noqa: S105
    INCONCLUSIVE = "INCONCLUSIVE"
    FAIL = "FAIL"


_WEIGHT = {verdict: weight for weight, verdict in enumerate((Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL))}


def combine(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict that outweighs the others; nothing examined is INCONCLUSIVE."""
    return max(verdicts, key=_WEIGHT.__getitem__, default=Verdict.INCONCLUSIVE)


@dataclass(frozen=True, slots=True)
class Measurement:
    """A number and what makes it credible.

    Attributes:
        name: what was measured.
        value: the number; None if it could not be measured.
        unit: `ms`, `writes`, …; empty for a bare number or a text.
        samples: from how many it was taken; None where it is a single observation.
        threshold: what it was held against, such as `< 1 ms`; empty if nothing.
    """

    name: str
    value: float | int | str | None
    unit: str = ""
    samples: int | None = None
    threshold: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One claim about one criterion, judged.

    Attributes:
        criterion: id of an acceptance criterion, such as `I-4`; `bench` in a benchmark.
        claim: what must hold, in words that don't change from run to run.
        verdict: whether it does.
        reason: why not, with the first and the worst counter-example; may be empty for PASS.
        measured: the numbers that decided it, the deciding one first.
        known: where the server itself is documented not to keep this claim; a FAIL is then shown as such, and weighs nothing.
    """

    criterion: str
    claim: str
    verdict: Verdict
    reason: str = ""
    measured: tuple[Measurement, ...] = ()
    known: str = ""

    @property
    def is_known(self) -> bool:
        """Whether it is a failure of the server itself that its documentation, or its source, tells of."""
        return bool(self.known) and self.verdict is Verdict.FAIL


def is_known(finding: Mapping[str, Any]) -> bool:
    """Tell of a finding that was read back, or of a measurement of one, what `Finding.is_known` says.

    Args:
        finding: with its `verdict`, and with `known` unless it is of an older version.
    """
    return bool(finding.get("known")) and finding["verdict"] == Verdict.FAIL


def decided(findings: Iterable[Mapping[str, Any]]) -> Verdict | None:
    """Return what findings that were read back decide: nothing, where there are none but known failures of the server.

    Args:
        findings: on one criterion.
    """
    verdicts = [Verdict(finding["verdict"]) for finding in findings if not is_known(finding)]
    return combine(verdicts) if verdicts else None


def verdict_of(findings: Iterable[Finding]) -> Verdict:
    """Return the verdict that outweighs the others; failures that are documented of the server are left out."""
    return combine(finding.verdict for finding in findings if not finding.is_known)


def judge(criterion: str, claim: str, check: Callable[[], tuple[Verdict, str, tuple[Measurement, ...]]], known: str = "") -> Finding:
    """Run a check; one that crashes is INCONCLUSIVE, never PASS.

    Args:
        criterion: id of the story's criterion.
        claim: what must hold.
        check: returns the verdict, the reason and what was measured.
        known: where the server itself is documented not to keep the claim.
    """
    try:
        verdict, reason, measured = check()
    except Exception as error:  # a checker may fail in any way, and none of them may look like a result
        return Finding(criterion, claim, Verdict.INCONCLUSIVE, f"{CHECK_FAILED}{type(error).__name__}: {error}")
    return Finding(criterion, claim, verdict, reason, measured, known)
