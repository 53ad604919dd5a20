"""What a notebook calls: `open`, the drills, and what shows their results.

The names are loaded on first use (PEP 562), so that the command line, which needs none of them, does not pay for pandas and matplotlib.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runbook.drills import latency, lost_replies, persistence, reconnection, setup, speed
    from runbook.report.plots import percentiles, ratios, recovery, timeline
    from runbook.report.tables import account_table, lost_replies_table, percentile_table, returns_table, speed_table
    from runbook.session import open  # noqa: A004

__all__ = [
    "account_table",
    "latency",
    "lost_replies",
    "lost_replies_table",
    "open",
    "percentile_table",
    "percentiles",
    "persistence",
    "ratios",
    "reconnection",
    "recovery",
    "returns_table",
    "setup",
    "speed",
    "speed_table",
    "timeline",
]

_HOMES = {
    "account_table": "runbook.report.tables",
    "latency": "runbook.drills",
    "lost_replies": "runbook.drills",
    "lost_replies_table": "runbook.report.tables",
    "open": "runbook.session",
    "percentile_table": "runbook.report.tables",
    "percentiles": "runbook.report.plots",
    "persistence": "runbook.drills",
    "ratios": "runbook.report.plots",
    "reconnection": "runbook.drills",
    "recovery": "runbook.report.plots",
    "returns_table": "runbook.report.tables",
    "setup": "runbook.drills",
    "speed": "runbook.drills",
    "speed_table": "runbook.report.tables",
    "timeline": "runbook.report.plots",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
