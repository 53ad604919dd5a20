"""Renders what changed between two runs as one self-contained page."""

from pathlib import Path
from typing import Any, Protocol

from runbook.evidence.store import EvidenceError, write_atomically
from runbook.evidence.verdict import Verdict
from runbook.report.diff import Change, Diff
from runbook.report.measured import MISSING
from runbook.report.overlay import overlay
from runbook.report.own_time import Interval
from runbook.report.rendering import fill


class Judgement(Protocol):
    """What is said of two runs: a `Diff` says it of their loads, a `Regression` of their criteria too."""

    @property
    def verdict(self) -> Verdict:
        """FAIL if something became worse."""

    @property
    def headline(self) -> str:
        """The verdict and what made it."""

    @property
    def sentences(self) -> list[str]:
        """What changed, a sentence each."""


def write_diff(diff: Diff, path: Path, judgement: Judgement | None = None) -> None:
    """Render a page: the sentences, both environments, all figures with their intervals, and the curves.

    Args:
        diff: of the loads.
        path: of the page.
        judgement: what is said at its top; None to say what the diff says.

    Raises:
        EvidenceError: it can't be written.
    """
    page = fill(
        "diff.html.j2",
        diff=diff,
        judgement=judgement or diff,
        circumstances=_circumstances(diff),
        figure=_figure,
        interval=_interval,
        picture=_picture,
    )
    try:
        write_atomically(path, page.encode())
    except OSError as error:
        raise EvidenceError(f"{path} can't be written ({error.strerror}): `runbook diff` takes another file with --page") from error


def _circumstances(diff: Diff) -> list[tuple[str, str, str]]:
    """List each circumstance with its value before and after."""
    before, after = (
        {"target": side.target, "server": " ".join(str(value) for value in side.engine.values()), **side.host, **side.versions}
        for side in (diff.before, diff.after)
    )
    return [(name, str(before.get(name, MISSING)), str(after.get(name, MISSING))) for name in {**before, **after}]


def _figure(interval: Interval | None, unit: str) -> str:
    if interval is None:
        return MISSING
    return f"{interval.value:.3f}" if unit == "ms" else f"{interval.value:,.0f}"


def _interval(change: Change, interval: Interval | None) -> str:
    """Write the interval, and from how many samples it was taken."""
    if interval is None:
        return ""
    if not change.unit:
        return f"of {interval.samples:,}"
    return f"{interval.low:.3f} to {interval.high:.3f}, of {interval.samples:,}"


def _picture(load: Any) -> dict[str, str]:
    bundle, metadata = overlay(load)._repr_mimebundle_()
    return {"png": bundle["image/png"], "alt": metadata["image/png"]["alt"]}
