"""All notebooks together: which criterion of the story each of them decided, and what remains open."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runbook.evidence.acceptance import Accepted
from runbook.evidence.criteria import BEYOND_STORY, CRITERIA
from runbook.evidence.environment import CIRCUMSTANCES
from runbook.evidence.headline import headlines
from runbook.evidence.records import manifest_sha256
from runbook.evidence.store import RESULT, SCHEMA_VERSION, RunFolder
from runbook.evidence.verdict import Finding, Verdict, combine, decided, is_known, weight_in_story
from runbook.execute import Run
from runbook.report.sentence import sentence
from runbook.stopping import INTERRUPTED


def conclude(
    runs: Sequence[Run],
    target: str,
    folder: Path,
    environ: Mapping[str, str],
    *,
    started: datetime,
    ordered: Sequence[str],
    baseline: Accepted | None = None,
    before: Mapping[str, Any] | None = None,
    tested: Finding | None = None,
) -> RunFolder:
    """Write the verification of these runs into a folder of its own.

    It holds the digest of each run's manifest, which is written already, so that the verification's own covers all evidence.

    Args:
        runs: the notebooks.
        target: on which they ran.
        folder: of all runs.
        environ: whose secrets are kept out.
        started: when the first of them began.
        ordered: names of all notebooks that were to run; after an interruption some had not begun.
        baseline: the verification that was last accepted on this target; None if there is none.
        before: its result, whose numbers are told beside those of now.
        tested: what the tests of the code say; None if they say nothing.
    """
    verified = RunFolder.create(folder, "verify", environ)
    results = [run.folder.read_json(RESULT) for run in runs]
    broken = [run.notebook.name for run in runs if run.verdict is None]
    left_out = [name for name in ordered if name not in {run.notebook.name for run in runs}]
    interrupted = bool(left_out) or any(run.interrupted for run in runs)
    weights = [run.verdict and weight_in_story(run.verdict, result["findings"]) for run, result in zip(runs, results, strict=True)]
    verdicts = [weight or Verdict.INCONCLUSIVE for weight in weights]
    verdicts += [tested.verdict] if tested else []
    verdicts += [Verdict.INCONCLUSIVE] if interrupted else []
    troubles = [f"{', '.join(broken)} did not come to a verdict"] if broken else []
    troubles += [f"{INTERRUPTED}{', and ' + ', '.join(left_out) + ' had not begun' if left_out else ''}"] if interrupted else []
    finished = datetime.now(UTC)
    by_tests = [{"notebook": "make test", "run": "", "verdict": tested.verdict, "findings": [asdict(tested)]}] if tested else []
    verified.write_json(
        RESULT,
        {
            "schema_version": SCHEMA_VERSION,
            "kind": "verification",
            "run": verified.name,
            "verdict": combine(verdicts),
            "broken": "; ".join(troubles),
            "interrupted": interrupted,
            "target": target,
            "started_utc": started.isoformat(timespec="seconds"),
            "finished_utc": finished.isoformat(timespec="seconds"),
            "duration_s": round((finished - started).total_seconds(), 1),
            "criteria": [_criterion(name, text, [*results, *by_tests]) for name, text in (CRITERIA | BEYOND_STORY).items()],
            "headlines": headlines(results, before),
            "baseline": baseline._asdict() if baseline else None,
            "runs": [
                {
                    **{
                        name: result[name] for name in ("run", "notebook", "title", "question", "limits", "verdict", "broken", "duration_s")
                    },
                    "weight": weight,
                    "manifest_sha256": manifest_sha256(run.folder.path),
                }
                for run, result, weight in zip(runs, results, weights, strict=True)
            ],
            **_common(results),
        },
    )
    return verified


def criteria_text(verified: RunFolder) -> str:
    """Write the criteria and their verdicts as a table for a terminal, and the sentence that sums them up."""
    result = verified.read_json(RESULT)
    lines = [""]
    for criterion in result["criteria"]:
        if criterion["verdict"]:
            lines.append(f"{criterion['id']:5s} {criterion['verdict']:13s} {criterion['text']}")
            reasons = dict.fromkeys(finding["reason"] for finding in criterion["findings"] if finding["reason"] and not is_known(finding))
            lines += [f"{'':19s} {reason}" for reason in reasons]
    for run in result["runs"]:
        if run["broken"]:
            lines.append(f"{'':5s} {'BROKEN':13s} {run['notebook']}: {run['broken']}")
    return "\n".join([*lines, "", sentence(result)])


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
