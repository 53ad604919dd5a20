"""Entries of the archive, as tests need them."""

from typing import Any

from runbook.evidence.archive import Entry


def measured(value: Any, threshold: str = "< 1 ms", name: str = "GET p99", unit: str = "ms", **finding: str) -> dict[str, Any]:
    """What is kept of a number, and of the claim for which it was measured."""
    claim = {"criterion": "P-2", "claim": "The 99th percentile of GET is below 1 ms", "verdict": "PASS", "known": "", **finding}
    return {**claim, "name": name, "value": value, "unit": unit, "samples": 1200, "threshold": threshold}


def entry(number: int, *numbers: dict[str, Any], day: str = "2026-03-01", run: str = "", **content: Any) -> Entry:
    """An entry of a notebook that passed, with something different; it began at 10:00 and took a minute."""
    began, ended = f"{day}T10:00:00+00:00", f"{day}T10:01:00+00:00"
    found = {"kind": "notebook", "name": "latency-benchmark", "target": "embedded", "verdict": "PASS", "broken": "", "interrupted": False}
    times = {"started_utc": began, "finished_utc": ended, "duration_s": 60.0}
    engine = {"product": "redis", "version": "7.0.15", "found_by": "redis-server on PATH"}
    host = {"system": "Linux", "kernel": "6.1", "machine": "x86_64", "cpus": 2}
    kept = {**found, **times, "engine": engine, "host": host, "measured": list(numbers), "manifest_sha256": "0" * 64, **content}
    return Entry(number, f"{day}T10:01:01.000000+00:00", "run", run or f"run-{number}", kept, f"{number:064d}")
