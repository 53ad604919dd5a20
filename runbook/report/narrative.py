"""An executed notebook as a story for a page: prose and outputs, the code folded, its headings below those of the page."""

import functools
import json

import runbook.lean  # noqa: F401 - before nbformat

# isort: split
import nbformat
from nbconvert import HTMLExporter

from runbook.evidence.store import NOTEBOOK, RunFolder
from runbook.report.fitting import fitted
from runbook.report.rendering import TEMPLATES


def narrative(folder: RunFolder, *, prefix: str = "", below: int = 0, titled: bool = True) -> str:
    """Render the notebook of a run; empty if it never started.

    Args:
        folder: of the run.
        prefix: put before each id, so that several stories stand on one page.
        below: by how many levels its headings are lowered.
        titled: whether its title stays; not where the page has it already.
    """
    if not (folder.path / NOTEBOOK).exists():
        return ""
    notebook = nbformat.reads(json.dumps(folder.read_json(NOTEBOOK)), as_version=4)  # joins the lines, which disk keeps apart
    body, _ = _exporter().from_notebook_node(notebook)
    return fitted(str(body), prefix=prefix, below=below, titled=titled)


@functools.cache  # a page of all notebooks would compile the same templates for each of them, which takes longer than all else
def _exporter() -> HTMLExporter:
    return HTMLExporter(
        template_name="narrative",
        extra_template_basedirs=[str(TEMPLATES)],
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
    )
