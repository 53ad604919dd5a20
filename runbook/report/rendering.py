"""Fills a template of ours: what is put into it is escaped, and a name that it lacks is an error."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from runbook.evidence.verdict import Measurement, is_known
from runbook.report.measured import measured_text

TEMPLATES = Path(__file__).parent / "templates"


def fill(name: str, **values: Any) -> str:
    """Return a template, such as `scorecard.html.j2`, filled with values.

    Args:
        name: of the file.
        values: what it asks for; besides, each knows `measured` and `is_known`, and the filter `inline`.

    Raises:
        jinja2.UndefinedError: it asks for more.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.globals.update(measured=_measured, is_known=is_known)
    environment.filters["inline"] = inline
    return environment.get_template(name).render(**values)


def inline(text: str) -> Markup:
    """Show what stands between backticks as code, as the notebooks' prose does."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped just before


def _measured(measurements: Sequence[Mapping[str, Any]]) -> str:
    return measured_text(Measurement(**measurement) for measurement in measurements)
