"""The one sentence that says what drills found, for their page and for the summary."""

from collections.abc import Mapping
from typing import Any

from runbook.evidence.verdict import Verdict
from runbook.report.cases import cases_of


def drills_sentence(result: Mapping[str, Any]) -> str:
    """Say how many drills pass, which do not, and what else has to be known of them.

    Args:
        result: of drills, as its `result.json` holds it.
    """
    cases = cases_of(result)
    passed = sum(case.verdict is Verdict.PASS for case in cases)
    parts = [f"{result['verdict']}: {passed} of {len(cases)} drills pass"]
    for word, said in (("FAIL", "failed"), ("INCONCLUSIVE", "could not be decided here"), ("BROKEN", "broken")):
        if names := ", ".join(case.name for case in cases if case.word == word):
            parts.append(f"{said}: {names}")
    controls, known = result["controls"], sum(len(case.known) for case in cases)
    parts += [f"{controls['failed_as_they_must']} of {controls['of']} negative controls failed as they must"] if controls["of"] else []
    parts += [f"{known} known failures of the server itself were shown"] if known else []
    parts += ["it was interrupted, and drills behind the last one were not done"] if result["interrupted"] else []
    return f"{'; '.join(parts)}."
