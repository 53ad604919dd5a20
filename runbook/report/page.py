"""Renders the page of a run from its stored evidence alone: the same evidence gives the same bytes."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from runbook.evidence.criteria import BY_TESTS, BY_WORD, CRITERIA, OF_CONTAINERS
from runbook.evidence.decision import Decision, decision_of
from runbook.evidence.store import PAGE, RESULT, EvidenceError, RunFolder
from runbook.evidence.verdict import CONTROL, Verdict, is_known
from runbook.report.drilled import drills_sentence
from runbook.report.latency_chart import latency_chart
from runbook.report.machines import write_for_machines
from runbook.report.narrative import narrative
from runbook.report.rendering import fill, inline
from runbook.report.sentence import sentence, steal_warning

# What decides a criterion, where no notebook does.
_DECIDED_BY = {
    BY_TESTS: "`make test` measures it; the next verification shows it",
    BY_WORD: "the product owner decides it, with `runbook accept`",
}
_ICONS = {Decision.READY: "✓", Decision.NOT_EXAMINED: "◐", Decision.UNDECIDED: "?", Decision.BROKEN: "!", Decision.FAILED: "✗"}
_TITLES = {
    Decision.READY: "ready to be accepted",
    Decision.NOT_EXAMINED: "passes, not all examined",
    Decision.UNDECIDED: "undecided",
    Decision.BROKEN: "broken",
    Decision.FAILED: "failed",
}
_WEIGHT = {Verdict.FAIL: 0, Verdict.INCONCLUSIVE: 1, Verdict.PASS: 2}


def write_page(path: Path) -> None:
    """Render a run's page into its folder, beside it what machines read, and write its manifest.

    Args:
        path: of the run folder; those of a verification's runs lie beside it.

    Raises:
        EvidenceError: it holds no result, or a damaged one.
    """
    render(path, path)
    RunFolder(path).write_manifest()


def render(path: Path, into: Path) -> None:
    """Render whatever can be derived from a run's evidence.

    Args:
        path: of the run folder.
        into: the folder in which it is written, which may be another one.

    Raises:
        EvidenceError: the run folder holds no result, or a damaged one.
    """
    folder = RunFolder(path)
    result = folder.read_json(RESULT)
    try:
        if result["kind"] == "drills":
            page = fill("drills.html.j2", result=result, sentence=drills_sentence(result))
        elif result["kind"] == "verification":
            page = _verification(path, result)
        else:
            page = fill("notebook.html.j2", result=result, narrative=narrative(folder, below=1, titled=False))
        write_for_machines(RunFolder(into), result)
    except (KeyError, TypeError, ValueError, jinja2.UndefinedError) as error:
        raise EvidenceError(f"{path / RESULT} is no result of this version ({error}): run it again") from error
    RunFolder(into).write_text(PAGE, page)


def _verification(path: Path, result: Mapping[str, Any]) -> str:
    folders = {run["run"]: path.resolve().parent / run["run"] for run in result["runs"]}
    beside = {name: RunFolder(folder) for name, folder in folders.items() if folder.is_dir()}
    decision = decision_of(result)
    return fill(
        "verification.html.j2",
        result=result,
        sentence=sentence(result),
        answer=_linked(sentence(result)),
        warning=steal_warning(result),
        decision=decision,
        icon=_ICONS[decision],
        title=_TITLES[decision],
        chart=latency_chart(result),
        stories={
            run["run"]: narrative(beside[run["run"]], prefix=f"{run['notebook']}-", below=1)
            for run in result["runs"]
            if run["run"] in beside
        },
        findings={name: folder.read_json(RESULT)["findings"] for name, folder in beside.items()},
        unexamined=list(_unexamined(result)),
        by_weight=_by_weight,
        why_not=lambda criterion: _why_not(result, criterion),
        number=_number,
    )


def _linked(said: str) -> Markup:
    """Let each criterion that a sentence names lead to its line."""
    names = "|".join(map(re.escape, CRITERIA))
    return Markup(re.sub(rf"\b({names})\b", r'<a href="#\1">\1</a>', str(inline(said))))  # noqa: S704 - escaped by `inline`


def _unexamined(result: Mapping[str, Any]) -> Iterator[str]:
    for criterion in result["criteria"]:
        if criterion["verdict"] is None:
            yield f"{criterion['id']}, {criterion['text']}: {_why_not(result, criterion['id'])}."


def _why_not(result: Mapping[str, Any], criterion: str) -> str:
    if criterion in _DECIDED_BY:
        return f"not examined; {_DECIDED_BY[criterion]}"
    if criterion in OF_CONTAINERS and not result["target"].startswith("compose"):
        return "not examined; `runbook verify --target compose` examines it"
    return f"not examined{'; ' + result['broken'] if result['broken'] else ', as no notebook that ran asks for it'}"


def _by_weight(findings: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Put first what decided: failures, then what is undecided; controls, and what is known of the server, after their like."""
    return sorted(findings, key=lambda finding: (is_known(finding), _WEIGHT[finding["verdict"]], finding["claim"].startswith(CONTROL)))


def _number(value: float | int | str) -> str:
    return value if isinstance(value, str) else f"{value:,}" if isinstance(value, int) else f"{value:,.3g}"
