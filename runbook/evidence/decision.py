"""Whether a verification can be accepted: one of five answers, computed from its data."""

import enum
from collections.abc import Mapping
from typing import Any

from runbook.evidence.criteria import BY_WORD
from runbook.evidence.verdict import Verdict


class Decision(enum.StrEnum):
    """What a verification says about acceptance. Its value is also the CSS class of the page."""

    READY = "ready"
    NOT_EXAMINED = "not_examined"
    UNDECIDED = "undecided"
    BROKEN = "broken"
    FAILED = "failed"


def decision_of(result: Mapping[str, Any]) -> Decision:
    """Return the decision of a verification; a failure outweighs a broken run, which outweighs what is undecided.

    Args:
        result: of the verification, as its `result.json` holds it.
    """
    verdicts = {each["id"]: each["verdict"] for each in result["criteria"]}
    if result["verdict"] == Verdict.FAIL:
        return Decision.FAILED
    if result["broken"]:
        return Decision.BROKEN
    if result["verdict"] != Verdict.PASS:
        return Decision.UNDECIDED
    return Decision.NOT_EXAMINED if any(verdict is None for name, verdict in verdicts.items() if name != BY_WORD) else Decision.READY
