"""What a notebook calls: `open`, the drills, and what shows their results.

The names are loaded on first use (PEP 562), so that the command line, which needs none of them, does not pay for pandas and matplotlib.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runbook.drills import (
        connections,
        deployment,
        latency,
        lost_replies,
        persistence,
        power_loss,
        reconnection,
        restore_time,
        setup,
        speed,
        stall,
        sweep,
    )
    from runbook.report.latency_plots import heat_map, layers, percentiles, rate_sweep
    from runbook.report.latency_tables import layers_table, loads_table, percentile_table, shares_table, sweep_table
    from runbook.report.plots import cuts, ratios, recovery, restore_curve, timeline
    from runbook.report.tables import (
        account_table,
        cuts_table,
        damage_table,
        findings_table,
        lost_replies_table,
        outages_table,
        returns_table,
        speed_table,
        steps_table,
    )
    from runbook.session import open  # noqa: A004

__all__ = [
    "account_table",
    "aof_damage",
    "connections",
    "cuts",
    "cuts_table",
    "damage_table",
    "deployment",
    "findings_table",
    "heat_map",
    "latency",
    "layers",
    "layers_table",
    "loads_table",
    "lost_replies",
    "lost_replies_table",
    "open",
    "outages_table",
    "percentile_table",
    "percentiles",
    "persistence",
    "power_loss",
    "rate_sweep",
    "ratios",
    "reconnection",
    "recovery",
    "restore_curve",
    "restore_time",
    "returns_table",
    "setup",
    "shares_table",
    "speed",
    "speed_table",
    "stall",
    "steps_table",
    "sweep",
    "sweep_table",
    "timeline",
]

_HOMES = {
    "account_table": "runbook.report.tables",
    "aof_damage": "runbook.drills",
    "connections": "runbook.drills",
    "cuts": "runbook.report.plots",
    "cuts_table": "runbook.report.tables",
    "damage_table": "runbook.report.tables",
    "deployment": "runbook.drills",
    "findings_table": "runbook.report.tables",
    "heat_map": "runbook.report.latency_plots",
    "latency": "runbook.drills",
    "layers": "runbook.report.latency_plots",
    "layers_table": "runbook.report.latency_tables",
    "loads_table": "runbook.report.latency_tables",
    "lost_replies": "runbook.drills",
    "lost_replies_table": "runbook.report.tables",
    "open": "runbook.session",
    "outages_table": "runbook.report.tables",
    "percentile_table": "runbook.report.latency_tables",
    "percentiles": "runbook.report.latency_plots",
    "persistence": "runbook.drills",
    "power_loss": "runbook.drills",
    "rate_sweep": "runbook.report.latency_plots",
    "ratios": "runbook.report.plots",
    "reconnection": "runbook.drills",
    "recovery": "runbook.report.plots",
    "restore_curve": "runbook.report.plots",
    "restore_time": "runbook.drills",
    "returns_table": "runbook.report.tables",
    "setup": "runbook.drills",
    "shares_table": "runbook.report.latency_tables",
    "speed": "runbook.drills",
    "speed_table": "runbook.report.tables",
    "stall": "runbook.drills",
    "steps_table": "runbook.report.tables",
    "sweep": "runbook.drills",
    "sweep_table": "runbook.report.latency_tables",
    "timeline": "runbook.report.plots",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
