"""What an executed notebook proves: its verdict, whether it was executed as a whole, and what of it may be kept."""

import copy
from dataclasses import dataclass
from typing import Any

from runbook.evidence.verdict import Verdict

VERDICT_MIME = "application/vnd.runbook.verdict+json"

# Everything else that tools put into metadata tells when, where and by whom it was executed.
_NOTEBOOK_METADATA = ("kernelspec", "language_info", "runbook")
_KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}
_CELL_METADATA = ("tags",)


@dataclass(frozen=True, slots=True)
class Reading:
    """What an executed notebook says.

    Attributes:
        verdict: the one that it earned; None if the run is broken.
        breakage: why it is broken; empty otherwise.
        data: the verdict bundle's data; empty if there is none.
        details: the verdict bundle's metadata; empty if there is none.
    """

    verdict: Verdict | None
    breakage: str
    data: dict[str, Any]
    details: dict[str, Any]


def read_verdict(notebook: dict[str, Any]) -> Reading:
    """Read the verdict of an executed notebook; one that was not executed from the first to the last code cell has none.

    Args:
        notebook: as JSON, executed or not.
    """
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code" and "".join(cell["source"]).strip()]
    data, details = _bundle(code[-1]) if code else ({}, {})
    breakage = _breakage(code, data)
    verdict = None
    if not breakage:
        try:
            verdict = Verdict(data["verdict"])
        except (KeyError, ValueError):
            breakage = f"the verdict {data.get('verdict')!r} is none of {', '.join(Verdict)}"
    return Reading(verdict, breakage, data, details)


def normalise(notebook: dict[str, Any]) -> dict[str, Any]:
    """Return a copy without what tells where and when it was executed: papermill's parameters, paths, times and markers."""
    clean = copy.deepcopy(notebook)
    clean["metadata"] = {key: value for key, value in clean["metadata"].items() if key in _NOTEBOOK_METADATA}
    clean["metadata"]["kernelspec"] = dict(_KERNELSPEC)
    clean["metadata"]["language_info"] = {"name": "python"}
    clean["cells"] = [cell for cell in clean["cells"] if "papermill-error-cell-tag" not in cell["metadata"].get("tags", [])]
    for number, cell in enumerate(clean["cells"]):
        cell["metadata"] = {key: value for key, value in cell["metadata"].items() if key in _CELL_METADATA and value}
        cell["id"] = f"cell-{number:02d}"
    return clean


def _bundle(cell: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    for output in cell.get("outputs", []):
        if VERDICT_MIME in output.get("data", {}):
            return output["data"][VERDICT_MIME], output.get("metadata", {}).get(VERDICT_MIME, {})
    return {}, {}


def _breakage(code: list[dict[str, Any]], data: dict[str, Any]) -> str:
    if not code:
        return "it has no code"
    for number, cell in enumerate(code, 1):
        for output in cell.get("outputs", []):
            if output["output_type"] == "error":
                return f"code cell {number} of {len(code)} raised {output['ename']}: {output['evalue']}"[:500]
        if cell.get("execution_count") != number:
            return f"code cell {number} of {len(code)} was not executed in its turn: the kernel died, or was told to exit"
    if not data:
        return "its last code cell shows no verdict"
    return ""
