"""The one sentence that says whether the story can be accepted on a verification, and why."""

from collections.abc import Mapping, Sequence
from typing import Any

from runbook.evidence.criteria import BEYOND_STORY, BY_WORD
from runbook.evidence.verdict import Verdict, is_waived

READY = "Ready to be accepted"


def is_ready(result: Mapping[str, Any]) -> bool:
    """Tell whether nothing speaks against an acceptance: all that can be examined was, and passes."""
    return sentence(result).startswith(READY)


def look(result: Mapping[str, Any]) -> Verdict:
    """Tell how the sentence is to be shown: as a failure, as an acceptance, or as neither."""
    if result["verdict"] == Verdict.FAIL:
        return Verdict.FAIL
    return Verdict.PASS if is_ready(result) else Verdict.INCONCLUSIVE


def sentence(result: Mapping[str, Any]) -> str:
    """Say whether what was verified can be accepted: first the answer, then what speaks against it, then the rest.

    Args:
        result: of a verification; what was not examined is never counted as passed, and said.
    """
    criteria = [each for each in result["criteria"] if each["id"] not in BEYOND_STORY]
    beyond = [each for each in result["criteria"] if each["id"] in BEYOND_STORY]
    by_verdict = {verdict: [each for each in criteria if each["verdict"] == verdict] for verdict in (*Verdict, None)}
    failed, undecided, unexamined = by_verdict[Verdict.FAIL], by_verdict[Verdict.INCONCLUSIVE], by_verdict[None]
    failed += [each for each in beyond if each["verdict"] == Verdict.FAIL]
    undecided += [each for each in beyond if each["verdict"] == Verdict.INCONCLUSIVE and not is_waived(each)]
    examinable = [each for each in criteria if each["id"] != BY_WORD]
    passed = f"{len(by_verdict[Verdict.PASS])} of {len(examinable)} criteria pass"
    # Whoever accepts decides this one, so it can't be what keeps him from it.
    unexamined = [each for each in unexamined if each["id"] != BY_WORD]
    against = [f"{_ids(failed)} {'fails' if len(failed) == 1 else 'fail'}"] if failed else []
    against += [f"{_ids(undecided)} could not be decided"] if undecided else []
    against += [result["broken"]] if result["broken"] else []
    against += [f"against {result['against']['run']}: {result['against']['headline']}"] if _is_worse(result) else []
    if result["verdict"] != Verdict.PASS and not against:
        against = [f"a notebook says {result['verdict']} of what is no criterion"]
    left_open = [each for each in beyond if is_waived(each)]
    passed += f" (beyond the story, {_ids(left_open)} could not be decided)" if left_open else ""
    missing = f"{_count(len(unexamined))} not examined on the target {result['target']}: {_ids(unexamined)}"
    if against:
        return f"Not accepted: {'; '.join(against)}. {passed}{', and ' + missing if unexamined else ''}."
    if unexamined:
        return f"Not accepted yet: {passed} and none fails, but {missing}."
    return f"{READY}: {passed}; {BY_WORD}, the last one, is the word of whoever accepts it, with `runbook accept`."


def _is_worse(result: Mapping[str, Any]) -> bool:
    against = result.get("against")
    return against is not None and against["verdict"] != Verdict.PASS


def _ids(criteria: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(each["id"] for each in criteria)


def _count(count: int) -> str:
    return f"{count} was" if count == 1 else f"{count} were"
