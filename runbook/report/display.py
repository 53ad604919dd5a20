"""What a notebook shows: each object carries a stable text that nbval compares, and beside it what varies from run to run.

nbval compares every MIME type but images. So numbers that were measured stand in HTML within `<td class="measured">`, which the sanitize
rules in `tests/nbval.cfg` blank out, and the plain text says only what may not change: names, columns, claims, verdicts.
"""

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

Bundle = tuple[dict[str, Any], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Measured:
    """A cell of a table that varies from run to run."""

    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table of texts and measured values.

    Attributes:
        title: one line above it.
        columns: their headings.
        rows: cells, as many in each row as there are columns; a plain text is stable, a `Measured` varies.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | Measured]]

    def text(self) -> str:
        """Return the table for a terminal, what was measured included."""
        lines = [self.columns, *([cell.text if isinstance(cell, Measured) else cell for cell in row] for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join([self.title, *("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)])

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Bundle:
        return {"text/plain": self._plain(), "text/html": self._html()}, {}

    def _plain(self) -> str:
        lines = [self.title, " | ".join(self.columns)]
        lines += [" | ".join("…" if isinstance(cell, Measured) else cell for cell in row) for row in self.rows]
        return "\n".join(lines)

    def _html(self) -> str:
        heads = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in self.columns)
        rows = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in self.rows)
        caption = f"<caption>{html.escape(self.title)}</caption>"
        return f'<table class="runbook">{caption}<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture with its contract: what it shows, without what was measured.

    Attributes:
        figure: drawn.
        title: the question that it answers.
        series: names of what is drawn.
        axes: labels of x and y, with units.
        threshold: what is drawn as a limit; empty if nothing.
        alt: one sentence for those who can't see it, numbers included.
    """

    figure: Figure
    title: str
    series: tuple[str, ...]
    axes: tuple[str, str]
    threshold: str
    alt: str

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Bundle:
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
        contract = [
            f"Plot: {self.title}",
            f"x: {self.axes[0]}; y: {self.axes[1]}",
            f"series: {', '.join(self.series)}",
            f"threshold: {self.threshold or 'none'}",
        ]
        picture = base64.b64encode(buffer.getvalue()).decode()
        return {"image/png": picture, "text/plain": "\n".join(contract)}, {"image/png": {"alt": self.alt}}


def _cell(cell: str | Measured) -> str:
    if isinstance(cell, Measured):
        return f'<td class="measured">{html.escape(cell.text)}</td>'
    return f"<td>{html.escape(cell)}</td>"
