"""What machines read of a run, written beside its page: JUnit XML, a summary in Markdown, metrics."""

from collections.abc import Mapping
from typing import Any

from runbook.evidence.store import JUNIT, METRICS, SUMMARY, RunFolder
from runbook.report.junit import junit
from runbook.report.metrics import metrics
from runbook.report.summary import summary


def write_for_machines(folder: RunFolder, result: Mapping[str, Any]) -> None:
    """Write `junit.xml`, `summary.md` and `metrics.prom` of a result into its folder; the same result gives the same bytes."""
    for name, write in ((JUNIT, junit), (SUMMARY, summary), (METRICS, metrics)):
        folder.write_text(name, write(result))
