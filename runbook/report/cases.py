"""What a run decided, case by case: the one list from which JUnit, the summary and the metrics are written."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runbook.evidence.criteria import CRITERIA
from runbook.evidence.verdict import CONTROL, Verdict, decided, is_known

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that a run decided, or should have decided.

    Attributes:
        kind: `criterion`, `drill`, `notebook` for one whose verdict no criterion carries, `comparison` with an earlier run,
            or `run` for one that was interrupted.
        name: the criterion's id, or the name of the drill or the notebook.
        text: what it asks.
        verdict: None if it was not examined, or is broken.
        broken: why it did not come to a verdict; empty if it did.
        findings: as they stand in the result.
        duration_s: how long it took, in seconds; None if that can't be told of it alone.
    """

    kind: str
    name: str
    text: str
    verdict: Verdict | None
    broken: str = ""
    findings: Sequence[Json] = ()
    duration_s: float | None = None

    @property
    def word(self) -> str:
        """Its verdict in a word, which is never missing: `BROKEN` and `NOT EXAMINED` are the other two."""
        return "BROKEN" if self.broken else self.verdict or "NOT EXAMINED"

    @property
    def known(self) -> list[Json]:
        """The failures of the server itself that are documented; they count for no verdict."""
        return [finding for finding in self.findings if is_known(finding)]

    @property
    def deciding(self) -> list[Json]:
        """The findings that have its verdict: those with a number first, and negative controls last."""
        found = [finding for finding in self.findings if finding["verdict"] == self.verdict and not is_known(finding)]
        return sorted(found, key=lambda finding: (finding["claim"].startswith(CONTROL), not finding["measured"]))


def cases_of(result: Json) -> list[Case]:
    """List what a run decided: each criterion, or each drill, and whatever else its exit status depends on.

    Args:
        result: of a verification, of a notebook or of drills, as its `result.json` holds it.
    """
    match result["kind"]:
        case "drills":
            return [
                Case("drill", each["name"], each["promise"], _verdict(each), each["broken"], each["findings"], each["duration_s"])
                for each in result["drills"]
            ]
        case "verification":
            criteria = [_of_verification(each) for each in result["criteria"]]
            uncarried = [notebook_case(run) for run in result["runs"] if not _is_carried(run, criteria)]
            drilled = _uncarried_drills(result.get("drills"), criteria)
            return [*criteria, *uncarried, *drilled, *_interruption(result), *_comparison(result)]
        case _:
            criteria = [] if result["broken"] else [_criterion(name, result["findings"]) for name in result["criteria"]]
            return criteria if _is_carried(result, criteria) else [*criteria, notebook_case(result)]


def notebook_case(run: Json) -> Case:
    """Return a notebook as a case of its own, with no finding.

    Args:
        run: its result, or the line of a verification that tells of it.
    """
    return Case("notebook", run["notebook"], run["question"], _verdict(run), run["broken"], (), run["duration_s"])


def drill_case(drill: Json) -> Case:
    """Return a drill of a verification as a case of its own; its findings are those of the criteria, and of its own run."""
    return Case("drill", drill["name"], drill["question"], _verdict(drill), drill["broken"], (), drill["duration_s"])


def _uncarried_drills(drilled: Json | None, criteria: Sequence[Case]) -> list[Case]:
    """List the drills whose verdict no criterion carries."""
    if not drilled:
        return []
    lines = [{**each, "run": drilled["run"], "notebook": each["name"]} for each in drilled["drills"]]
    return [drill_case(each) for each in lines if not _is_carried(each, criteria)]


def _verdict(each: Json) -> Verdict | None:
    return Verdict(each["verdict"]) if each["verdict"] else None


def _of_verification(criterion: Json) -> Case:
    return Case("criterion", criterion["id"], criterion["text"], _verdict(criterion), "", criterion["findings"])


def _criterion(name: str, findings: Iterable[Json]) -> Case:
    found = [finding for finding in findings if finding["criterion"] == name]
    return Case("criterion", name, CRITERIA.get(name, ""), decided(found), "", found)


def _is_carried(run: Json, criteria: Iterable[Case]) -> bool:
    """Tell whether the criteria say all that a notebook's verdict says; one that found nothing at all is INCONCLUSIVE by itself."""
    said = {
        finding["verdict"]
        for case in criteria
        for finding in case.findings
        if (finding.get("run", run["run"]), finding.get("notebook", run["notebook"])) == (run["run"], run["notebook"])
        and not is_known(finding)
    }
    return not run["broken"] and (run["verdict"] == Verdict.PASS or run["verdict"] in said)


def _interruption(result: Json) -> list[Case]:
    return [Case("run", "verify", "It came to its end", None, result["broken"])] if result.get("interrupted") else []


def _comparison(result: Json) -> list[Case]:
    if not (against := result.get("against")):
        return []
    claim = f"It is no worse than {against['run']}"
    reason = " ".join([against["headline"], *against["sentences"]])
    finding = {"criterion": "", "claim": claim, "verdict": against["verdict"], "reason": reason, "measured": [], "known": ""}
    return [Case("comparison", "no worse than before", claim, _verdict(against), "", [finding])]
