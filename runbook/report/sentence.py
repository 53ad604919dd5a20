"""The one sentence that sums a verification up."""

from collections.abc import Mapping
from typing import Any

from runbook.evidence.verdict import Verdict


def sentence(result: Mapping[str, Any]) -> str:
    """Sum a verification up in one sentence, which says what was not examined as well."""
    verdicts = [criterion["verdict"] for criterion in result["criteria"]]
    counts = {verdict: verdicts.count(verdict) for verdict in (Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE)}
    parts = [f"{counts[Verdict.PASS]} of {len(verdicts)} criteria pass"]
    parts += [f"{counts[Verdict.FAIL]} fail"] if counts[Verdict.FAIL] else []
    parts += [f"{counts[Verdict.INCONCLUSIVE]} could not be decided"] if counts[Verdict.INCONCLUSIVE] else []
    parts += (
        [f"{verdicts.count(None)} were not examined on the target {result['target']}, so this is no acceptance yet"]
        if None in verdicts
        else []
    )
    summary = f"{result['verdict']}: {', '.join(parts)}."
    return f"{summary} Broken: {result['broken']}." if result["broken"] else summary
