"""The one sentence that says whether a verification can be accepted, and why; it is rendered from the decision and decides nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

from runbook.evidence.criteria import BY_TESTS, BY_WORD, CRITERIA, OF_CONTAINERS
from runbook.evidence.decision import Decision, decision_of
from runbook.evidence.verdict import Verdict
from runbook.load.steal import MUCH_STEAL

Criteria = Sequence[Mapping[str, Any]]

_BY_WORD = f"{BY_WORD} is decided by the product owner who reads this report, with `runbook accept`"
_BY_TESTS = f"{BY_TESTS}, the test coverage, is measured by `make test`; the next verification then shows it"


def sentence(result: Mapping[str, Any]) -> str:
    """Say whether what was verified can be accepted: first the answer, then what is missing and which command adds it.

    Args:
        result: of a verification; what was not examined is never counted as passed.
    """
    # Verifications of older versions list a criterion more, which was none of the acceptance list.
    criteria = [each for each in result["criteria"] if each["id"] in CRITERIA and each["id"] != BY_WORD]
    match decision_of(result):
        case Decision.READY:
            return f"Ready to be accepted: {len(criteria)} of {len(criteria)} criteria pass. {_BY_WORD}."
        case Decision.NOT_EXAMINED:
            return " ".join(f"{each}." for each in _as_far_as_examined(criteria, result["target"]))
        case _:
            return _not_accepted(criteria, result)


def _as_far_as_examined(criteria: Criteria, target: str) -> list[str]:
    """Say what was proven, and who or what proves the rest."""
    elsewhere = [each for each in criteria if each["id"] in OF_CONTAINERS and not target.startswith("compose")]
    by_tests = [each for each in criteria if each["id"] == BY_TESTS and each["verdict"] is None]
    here = [each for each in criteria if each not in elsewhere and each not in by_tests]
    missing = [each for each in here if each["verdict"] is None]
    said = [f"{len(here) - len(missing)} of {len(here)} criteria {'that need no container pass' if elsewhere else 'pass'}"]
    said += [f"{_ids(missing)} {_were(missing)} not examined on the target {target}"] if missing else []
    said += [f"`runbook verify --target compose` proves the other {len(elsewhere)}: {_ids(elsewhere)}"] if elsewhere else []
    said += [_BY_TESTS] if by_tests else []
    return [*said, _BY_WORD]


def _not_accepted(criteria: Criteria, result: Mapping[str, Any]) -> str:
    failed, undecided, passed, unexamined = (
        [each for each in criteria if each["verdict"] == verdict] for verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS, None)
    )
    against = [f"{_ids(failed)} {'fails' if len(failed) == 1 else 'fail'}"] if failed else []
    against += [f"{_ids(undecided)} could not be decided"] if undecided else []
    against += [result["broken"]] if result["broken"] else []
    compared = result.get("against")
    against += [f"against {compared['run']}: {compared['headline']}"] if compared and compared["verdict"] != Verdict.PASS else []
    against = against or [f"a notebook or a drill says {result['verdict']} of what is no criterion"]
    missing = f", and {len(unexamined)} {_were(unexamined)} not examined on the target {result['target']}: {_ids(unexamined)}"
    return f"Not accepted: {'; '.join(against)}. {len(passed)} of {len(criteria)} criteria pass{missing if unexamined else ''}."


def _ids(criteria: Criteria) -> str:
    return ", ".join(each["id"] for each in criteria)


def _were(criteria: Criteria) -> str:
    return "was" if len(criteria) == 1 else "were"


def steal_warning(result: Mapping[str, Any]) -> str:
    """Return what a product owner has to know of a host from which the hypervisor took much CPU time; empty for any other host.

    Args:
        result: of a verification; older ones do not tell.
    """
    stolen = result.get("stolen") or 0.0
    if stolen <= MUCH_STEAL:
        return ""
    return (
        f"Noisy host: the hypervisor gave {stolen:.1%} of this host's CPU time to others. Callers on this host wait longer than Redis "
        "makes them wait. The verdicts leave that out: they compare Redis with a control on the same host."
    )
