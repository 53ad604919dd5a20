"""What became of a case of damage, and how what a server holds differs from what it should hold."""

from dataclasses import dataclass
from typing import NamedTuple

from runbook.drills.damage.cases import Kind
from runbook.drills.damage.check_aof import Report
from runbook.drills.damage.items import Values


class Held(NamedTuple):
    """What a server holds, or was written to it: the values by key, and what our digest makes of them."""

    values: Values
    digest: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one case.

    Attributes:
        kind: what was damaged.
        name: where exactly.
        whole: what stands before the damage, or the server can know of.
        held: what the server held when it served; None if it refused to start, or crashed.
        said: what it said when it refused, or before it crashed.
        crashed: whether it crashed over the files instead of refusing them.
        accused: what our check of the manifest found before the start.
        checked: what the server's own tool said; None if there is none.
        repaired: what a server held after the repair; None if it did not start, or if nothing was repaired.
        doubts: why the damage is not proven.
    """

    kind: Kind
    name: str
    whole: Values
    held: Held | None
    said: str = ""
    crashed: bool = False
    accused: tuple[str, ...] = ()
    checked: Report | None = None
    repaired: Held | None = None
    doubts: tuple[str, ...] = ()


def difference(held: Held | None, wanted: Values) -> str:
    """Tell how the values that a server holds differ from those that it should hold."""
    if held is None:
        return "the server did not start"
    missing, foreign, other = differing(held.values, wanted)
    counts = {"missing": missing, "that should not be there": foreign, "of another value": other}
    told = [f"{len(keys)} {what}, first {min(keys).decode(errors='replace')}" for what, keys in counts.items() if keys]
    return f"of {len(wanted)} keys {'; '.join(told)}" if told else ""


def differing(held: Values, wanted: Values) -> tuple[set[bytes], set[bytes], set[bytes]]:
    """Return the keys that are missing, those that should not be there, and those of another value."""
    both = wanted.keys() & held.keys()
    return wanted.keys() - both, held.keys() - both, {key for key in both if wanted[key] != held[key]}
