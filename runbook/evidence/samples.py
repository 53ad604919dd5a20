"""Histories as text: a line for each record, the columns named like its fields."""

import csv
import io

from runbook.load.history import COLUMNS, History


def as_csv(history: History) -> str:
    """Write a history as comma-separated values with a heading."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([getattr(record, column) for column in COLUMNS] for record in history)
    return text.getvalue()
