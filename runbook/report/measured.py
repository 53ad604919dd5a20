"""Measurements as text: the number, its limit, and from how many samples it was taken."""

from collections.abc import Iterable

from runbook.evidence.verdict import Measurement

MISSING = "—"


def measured_text(measured: Iterable[Measurement]) -> str:
    """Write measurements in one line, each with its limit and its number of samples."""
    return "; ".join(map(_measurement_text, measured))


def _measurement_text(measurement: Measurement) -> str:
    if measurement.value is None:
        text = f"{measurement.name}: {MISSING}"
    else:
        value = f"{measurement.value:,}" if isinstance(measurement.value, int) else measurement.value
        text = f"{measurement.name}: {value} {measurement.unit}".rstrip()
    notes = [measurement.threshold] if measurement.threshold else []
    notes += [f"of {measurement.samples:,}"] if measurement.samples is not None else []
    return f"{text} ({', '.join(notes)})" if notes else text
