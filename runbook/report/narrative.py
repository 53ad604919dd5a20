"""An executed notebook as a story for a page: prose and outputs, the code folded, its headings below those of the page."""

import json
import re
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter

from runbook.evidence.store import NOTEBOOK, RunFolder

TEMPLATES = Path(__file__).parent / "templates"

_HEADING = re.compile(r"<(/?)h([1-6])\b")
_ID = re.compile(r'(<[^<>]*? id=")([^"<>]*")')


def narrative(folder: RunFolder, *, prefix: str = "", below: int = 0) -> str:
    """Render the notebook of a run; empty if it never started.

    Args:
        folder: of the run.
        prefix: put before each id, so that several stories stand on one page.
        below: by how many levels its headings are lowered.
    """
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
    # Text is escaped by then, so what looks like a tag is one.
    body = _HEADING.sub(lambda match: f"<{match[1]}h{min(6, int(match[2]) + below)}", str(body))
    return _ID.sub(lambda match: f"{match[1]}{prefix}{match[2]}", body)
