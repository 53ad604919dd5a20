"""A history as a pandas frame: here, so that a process which only offers load need not import pandas."""

import pandas as pd

from runbook.load.history import COLUMNS, History


def frame(history: History) -> pd.DataFrame:
    """Return one row a record, the columns named like its fields; an empty history keeps the columns."""
    return pd.DataFrame([[getattr(record, column) for column in COLUMNS] for record in history], columns=list(COLUMNS))
