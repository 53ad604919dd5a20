"""Text that others wrote, put into Markdown so that it shows as what it is and marks nothing up."""

import re
from collections.abc import Sequence

# By backslash where that is enough. A `|` would still end a cell for some readers, and a `<` still begin a tag, so these become references.
_ESCAPED = {ord(mark): f"\\{mark}" for mark in "\\*_[]~$"}
_ESCAPED |= {ord(mark): f"&#{ord(mark)};" for mark in "|<>&`@"}
# What GitHub makes a link of without being asked.
_LINK = re.compile(r"://|(?i:www)\.")
_REPLACEMENT = "\ufffd"


def escaped(text: object, most: int = 1000) -> str:
    """Put a value into one line of Markdown, or one cell of a table, as plain text.

    Args:
        text: whatever was said.
        most: what is longer is cut after as many characters, and says so.
    """
    line = " ".join(str(text).split())
    if len(line) > most:
        line = f"{line[:most]} … (cut off, {len(line):,} characters)"
    # Not printable are also marks that turn the direction of what follows.
    shown = "".join(character if character.isprintable() else _REPLACEMENT for character in line)
    shown = shown.translate(_ESCAPED)
    return _LINK.sub(lambda found: found[0].replace(":", "&#58;").replace(".", "&#46;"), shown)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Write a table, a line each; the cells are Markdown already."""
    return [_row(heads), _row(["---"] * len(heads)), *map(_row, rows)] if rows else []


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
