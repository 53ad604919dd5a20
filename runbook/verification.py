"""All notebooks and drills of a verification together: which acceptance criterion each of them decided, and what remains open."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runbook.evidence.acceptance import Accepted
from runbook.evidence.criteria import CRITERIA
from runbook.evidence.environment import CIRCUMSTANCES
from runbook.evidence.headline import headlines
from runbook.evidence.records import manifest_sha256
from runbook.evidence.store import RESULT, SCHEMA_VERSION, RunFolder
from runbook.evidence.verdict import Finding, Verdict, combine, decided, is_known
from runbook.execute import Run
from runbook.report.sentence import sentence, steal_warning
from runbook.stopping import INTERRUPTED


@dataclass(frozen=True, slots=True)
class Plan:
    """What a verification is to run.

    Attributes:
        target: where the Redis runs.
        profile: `default` or `full`.
        notebooks: names of the notebooks.
        drills: names of the drills, which begin after the notebooks; empty in the default profile.
    """

    target: str
    profile: str
    notebooks: tuple[str, ...]
    drills: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ended:
    """What a verification has run.

    Attributes:
        runs: the notebooks.
        drilled: run folder of the drills, which is rendered already; None if none began.
        refusal: why the drills did not begin; empty if they did, or if there are none to do.
        started: when the first notebook began.
        stolen: share of CPU time that the hypervisor took meanwhile, 0 to 1; None where the system does not tell.
    """

    runs: Sequence[Run]
    drilled: RunFolder | None
    refusal: str
    started: datetime
    stolen: float | None = None

    @property
    def interrupted(self) -> bool:
        """Whether the user ended it."""
        return any(run.interrupted for run in self.runs) or bool(self.drilled and self.drilled.read_json(RESULT)["interrupted"])


def conclude(
    ended: Ended,
    plan: Plan,
    folder: Path,
    environ: Mapping[str, str],
    *,
    baseline: Accepted | None = None,
    before: Mapping[str, Any] | None = None,
    tested: Finding | None = None,
) -> RunFolder:
    """Write the verification of these runs into a folder of its own.

    It holds the digest of each run's manifest, which is written already, so that the verification's own covers all evidence.

    Args:
        ended: what ran.
        plan: what was to run.
        folder: of all runs.
        environ: whose secrets are kept out.
        baseline: the verification that was last accepted on this target; None if there is none.
        before: its result, whose numbers are shown beside those of now.
        tested: what the tests of the code say; None if they say nothing.
    """
    verified = RunFolder.create(folder, "verify", environ)
    results = [run.folder.read_json(RESULT) for run in ended.runs]
    drilled = ended.drilled.read_json(RESULT) if ended.drilled else None
    troubles, interrupted = _troubles(ended, plan, drilled)
    verdicts = [run.verdict or Verdict.INCONCLUSIVE for run in ended.runs]
    verdicts += [Verdict(drilled["verdict"])] if drilled else []
    verdicts += [tested.verdict] if tested else []
    verdicts += [Verdict.INCONCLUSIVE] if troubles else []
    finished = datetime.now(UTC)
    judged = [*results, *_drills_alone(drilled)]
    judged += [{"notebook": "make test", "run": "", "verdict": tested.verdict, "findings": [asdict(tested)]}] if tested else []
    verified.write_json(
        RESULT,
        {
            "schema_version": SCHEMA_VERSION,
            "kind": "verification",
            "run": verified.name,
            "verdict": combine(verdicts),
            "broken": "; ".join(troubles),
            "interrupted": interrupted,
            "target": plan.target,
            "profile": plan.profile,
            "stolen": None if ended.stolen is None else round(ended.stolen, 4),
            "started_utc": ended.started.isoformat(timespec="seconds"),
            "finished_utc": finished.isoformat(timespec="seconds"),
            "duration_s": round((finished - ended.started).total_seconds(), 1),
            "criteria": [_criterion(name, text, judged) for name, text in CRITERIA.items()],
            "headlines": headlines(results, before),
            "baseline": baseline._asdict() if baseline else None,
            "runs": [_line(run, result) for run, result in zip(ended.runs, results, strict=True)],
            "drills": _drills_line(ended.drilled, drilled) if ended.drilled and drilled else None,
            **_common([*results, *([drilled] if drilled else [])]),
        },
    )
    return verified


def _troubles(ended: Ended, plan: Plan, drilled: Mapping[str, Any] | None) -> tuple[list[str], bool]:
    """Say what came to no verdict, in words, and whether the user interrupted it."""
    done = [each["name"] for each in drilled["drills"]] if drilled else []
    broken = [run.notebook.name for run in ended.runs if run.verdict is None]
    broken += [each["name"] for each in drilled["drills"] if each["broken"]] if drilled else []
    ran = {run.notebook.name for run in ended.runs}
    left_out = [*(name for name in plan.notebooks if name not in ran), *(name for name in plan.drills if name not in done)]
    # All that was planned begins, unless the user ends it, or the drills can't go on.
    interrupted = ended.interrupted or ran < set(plan.notebooks)
    begun = f"{', '.join(left_out)} had not begun"
    troubles = [f"{', '.join(broken)} did not come to a verdict"] if broken else []
    troubles += [f"the drills did not begin: {ended.refusal}"] if ended.refusal else []
    if interrupted:
        return [*troubles, f"{INTERRUPTED}{', and ' + begun if left_out else ''}"], True
    return [*troubles, *([begun] if left_out and not ended.refusal else [])], False


def _drills_alone(drilled: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return each drill as what decides criteria, like a notebook's result."""
    if not drilled:
        return []
    return [
        {"notebook": each["name"], "run": drilled["run"], "verdict": each["verdict"], "findings": each["findings"]}
        for each in drilled["drills"]
    ]


def _line(run: Run, result: Mapping[str, Any]) -> dict[str, Any]:
    told = ("run", "notebook", "title", "question", "limits", "verdict", "broken", "duration_s")
    return {**{name: result[name] for name in told}, "manifest_sha256": manifest_sha256(run.folder.path)}


def _drills_line(folder: RunFolder, drilled: Mapping[str, Any]) -> dict[str, Any]:
    told = ("name", "question", "verdict", "broken", "known", "duration_s")
    return {
        "run": folder.name,
        "verdict": drilled["verdict"],
        "manifest_sha256": manifest_sha256(folder.path),
        "drills": [{name: each[name] for name in told} for each in drilled["drills"]],
    }


def criteria_text(verified: RunFolder) -> str:
    """Write the criteria and their verdicts as a table for a terminal, and the sentence that sums them up."""
    result = verified.read_json(RESULT)
    lines = [""]
    for criterion in result["criteria"]:
        if criterion["verdict"]:
            lines.append(f"{criterion['id']:5s} {criterion['verdict']:13s} {criterion['text']}")
            against = [each for each in criterion["findings"] if each["verdict"] != Verdict.PASS and not is_known(each)]
            reasons = dict.fromkeys(each["reason"] for each in against if each["reason"])
            lines += [f"{'':19s} {reason}" for reason in reasons]
    for run in result["runs"]:
        if run["broken"]:
            lines.append(f"{'':5s} {'BROKEN':13s} {run['notebook']}: {run['broken']}")
    for drill in (result["drills"] or {}).get("drills", ()):
        if drill["broken"]:
            lines.append(f"{'':5s} {'BROKEN':13s} {drill['name']}: {drill['broken']}")
    return "\n".join([*lines, "", *filter(None, (steal_warning(result), sentence(result)))])


def findings_text(folder: RunFolder) -> str:
    """Write one notebook's findings as a table for a terminal."""
    result = folder.read_json(RESULT)
    lines = [""]
    for finding in result["findings"]:
        verdict = f"{finding['verdict']} (known)" if is_known(finding) else finding["verdict"]
        lines.append(f"{finding['criterion']:5s} {verdict:13s} {finding['claim']}")
        lines += [f"{'':19s} {finding['reason']}"] if finding["reason"] else []
    return "\n".join([*lines, "", f"{result['notebook']}: {result['verdict'] or 'BROKEN, ' + result['broken']}"])


def _criterion(name: str, text: str, results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found = [
        {**finding, "notebook": result["notebook"], "run": result["run"]}
        for result in results
        if result["verdict"]  # a broken run decides nothing
        for finding in result["findings"]
        if finding["criterion"] == name
    ]
    return {"id": name, "text": text, "verdict": decided(found), "findings": found}


def _common(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Take the circumstances from the first run that recorded them."""
    return {name: next((result[name] for result in results if result.get(name)), None) for name in CIRCUMSTANCES}
