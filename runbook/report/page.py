"""Renders the page of a run from its stored evidence alone: the same evidence gives the same bytes."""

import json
from pathlib import Path
from typing import Any

import jinja2
import nbformat
from nbconvert import HTMLExporter

from runbook.evidence.store import NOTEBOOK, PAGE, RESULT, EvidenceError, RunFolder
from runbook.evidence.verdict import Measurement
from runbook.report.measured import measured_text
from runbook.report.sentence import sentence

TEMPLATES = Path(__file__).parent / "templates"


def write_page(path: Path) -> None:
    """Render a run's page into its folder, and write its manifest.

    Args:
        path: of the run folder.

    Raises:
        EvidenceError: it holds no result, or a damaged one.
    """
    folder = RunFolder(path)
    result = folder.read_json(RESULT)
    try:
        if result["kind"] == "drills":
            page = _template("drills.html.j2").render(result=result)
        elif result["kind"] == "verification":
            page = _template("verification.html.j2").render(result=result, sentence=sentence(result))
        else:
            page = _template("notebook.html.j2").render(result=result, narrative=_narrative(folder))
    except (KeyError, TypeError, jinja2.UndefinedError) as error:
        raise EvidenceError(f"{path / RESULT} is no result of this version ({error}): run it again") from error
    folder.write_text(PAGE, page)
    folder.write_manifest()


def _narrative(folder: RunFolder) -> str:
    if not (folder.path / NOTEBOOK).exists():
        return ""
    exporter = HTMLExporter(
        template_name="narrative",
        extra_template_basedirs=[str(TEMPLATES)],
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
    )
    notebook = nbformat.reads(json.dumps(folder.read_json(NOTEBOOK)), as_version=4)  # joins the lines, which disk keeps apart
    body, _ = exporter.from_notebook_node(notebook)
    return str(body)


def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.globals["measured"] = _measured
    return environment.get_template(name)


def _measured(measurements: list[dict[str, Any]]) -> str:
    return measured_text(Measurement(**measurement) for measurement in measurements)
