"""What is claimed of damaged append-only files, what contradicts that, and what of it is known of the servers."""

from collections.abc import Callable
from typing import NamedTuple

from runbook.drills.damage.cases import CUT_OFF, REWRITTEN, Kind
from runbook.drills.damage.outcome import Held, Outcome, difference, differing

TOLD = "Our checks tell of each start on other data than were written"


class Claim(NamedTuple):
    """A claim on some kinds of damage.

    Attributes:
        text: the claim.
        kinds: on which kinds.
        problem: tells in words how an outcome contradicts it, or nothing.
        known: where the server is documented not to keep it.
        is_known: tells whether an outcome that contradicts it does so in the way that is documented.
        is_of_the_tool: whether there has to be a redis-check-aof.
    """

    text: str
    kinds: tuple[Kind, ...]
    problem: Callable[[Outcome, Held], str]
    known: str = ""
    is_known: Callable[[Outcome, Held], bool] = lambda outcome, written: False
    is_of_the_tool: bool = False


# --- how an outcome contradicts a claim ---


def _accused(outcome: Outcome, written: Held) -> str:
    if outcome.accused:
        return f"our check of the manifest says: {outcome.accused[0]}"
    differs = difference(outcome.held, written.values)
    return differs or ("" if outcome.held and outcome.held.digest == written.digest else "our digest is another one")


def _not_what_is_whole(outcome: Outcome, written: Held) -> str:
    return difference(outcome.held, outcome.whole)


def _served(outcome: Outcome, written: Held) -> str:
    return "" if outcome.held is None else f"the server started, {difference(outcome.held, written.values) or 'with all that was written'}"


def _served_otherwise(outcome: Outcome, written: Held) -> str:
    return "" if outcome.held is None else difference(outcome.held, outcome.whole)


def _unnoticed(outcome: Outcome, written: Held) -> str:
    # Whether there is something to tell is not for the digest to say.
    differs = "" if outcome.held is None else difference(outcome.held, written.values)
    told = outcome.accused or (outcome.held and outcome.held.digest != written.digest)
    return f"none of our checks tells; {differs}" if differs and not told else ""


def _started_on_other_data(outcome: Outcome, written: Held) -> str:
    return "" if outcome.held is None else difference(outcome.held, written.values)


def _not_repaired(outcome: Outcome, written: Held) -> str:
    return difference(outcome.repaired, outcome.whole)


def _not_rewritten(outcome: Outcome, written: Held) -> str:
    return difference(outcome.repaired, written.values)


def _invented(outcome: Outcome, written: Held) -> str:
    other = _never_written(outcome, written)
    return f"{len(other)} keys hold what was never written, first {min(other).decode(errors='replace')}" if other else ""


def _accused_in_full(outcome: Outcome, written: Held) -> str:
    if outcome.held is None or outcome.held.values != written.values or not outcome.checked or not outcome.checked.status:
        return ""
    cut_off = len(written.values) - len(outcome.repaired.values) if outcome.repaired else 0
    return f"the server loads it; the tool says: {outcome.checked.said}" + (f" --fix takes {cut_off} keys away" if cut_off else "")


def _never_written(outcome: Outcome, written: Held) -> list[bytes]:
    repaired = outcome.repaired.values if outcome.repaired else {}
    return [key for key, value in repaired.items() if written.values.get(key) != value]


# --- whether it does so in the way that is documented ---


def _one_value_changed(outcome: Outcome, written: Held) -> bool:
    held = outcome.held.values if outcome.held else {}
    missing, foreign, other = differing(held, written.values)
    if missing or foreign or len(other) != 1:
        return False
    (key,) = other
    return held[key]._replace(content=None) == written.values[key]._replace(content=None)


def _started_on_what_is_named(outcome: Outcome, written: Held) -> bool:
    return outcome.held is not None and outcome.held.values == outcome.whole


def _next_line_swallowed(outcome: Outcome, written: Held) -> bool:
    """Tell whether a single value was never written, and is a written one with the four bytes more that follow it in the file."""
    other = _never_written(outcome, written)
    if len(other) != 1 or not outcome.repaired or other[0] not in written.values:
        return False
    before, after = written.values[other[0]], outcome.repaired.values[other[0]]
    more = after.content[len(before.content) :] if before.type == b"string" else b""
    return len(more) == len(b"\r\n*3") and more.startswith(b"\r\n*") and after == before._replace(content=before.content + more)


def _compared_what_is_skipped(outcome: Outcome, written: Held) -> bool:
    said = outcome.checked.output if outcome.checked else ""
    return "BASE AOF (RESP format)" in said or (outcome.kind is Kind.SKIPPED and "Expected \\r\\n" in said)


_SEEN = "seen of Redis 7.0.15 and Valkey 9.1.2"
CLAIMS = (
    Claim("Control: an undamaged copy loads with the digest of what was written, and our checks accuse nothing", (Kind.NOTHING,), _accused),
    Claim("An increment that was cut off loads what is whole, and nothing else", (Kind.CUT,), _not_what_is_whole),
    Claim("Damage to the framing of commands keeps the server from starting", (Kind.FRAMING, Kind.LENGTH), _served),
    Claim(
        "A tail of zeros keeps the server from starting, or what is whole before it loads, and nothing else",
        (Kind.ZEROS,),
        _served_otherwise,
    ),
    Claim(
        "A damaged base, a missing file and a manifest that can't be read keep the server from starting",
        (Kind.BASE, Kind.NO_BASE, Kind.NO_INCREMENT, Kind.GARBAGE, Kind.EMPTY),
        _served,
    ),
    Claim(
        TOLD,
        tuple(kind for kind in Kind if kind not in (Kind.NOTHING, Kind.SKIPPED)),
        _unnoticed,
    ),
    Claim(
        "The server itself notices that a byte of a value was changed",
        (Kind.VALUE,),
        _started_on_other_data,
        known=f"{_SEEN}: an increment is plain RESP and has no checksum",
        is_known=_one_value_changed,
    ),
    Claim(
        "The server itself does not start on files that its manifest does not name",
        (Kind.NO_MANIFEST, Kind.SHORT),
        _started_on_other_data,
        known=f"{_SEEN}: where the manifest names nothing, `aofOpenIfNeededOnServerStart` makes new files",
        is_known=_started_on_what_is_named,
    ),
    Claim(
        "redis-check-aof --fix of a copy brings back all that stands before the damage, and nothing else",
        tuple(kind for kind in CUT_OFF if kind not in (Kind.LENGTH, Kind.SKIPPED)),
        _not_repaired,
        is_of_the_tool=True,
    ),
    Claim(
        "redis-check-aof --fix of a copy brings back nothing that was never written",
        (Kind.LENGTH,),
        _invented,
        known=f"{_SEEN}: a length that is larger by as much as the next line takes passes for a whole value",
        is_known=_next_line_swallowed,
        is_of_the_tool=True,
    ),
    Claim(
        "redis-check-aof accuses nothing that the server loads in full",
        (Kind.NOTHING, Kind.SKIPPED),
        _accused_in_full,
        known=f"{_SEEN}: the server skips bytes that the tool compares; Valkey's does not know its own base (pull request 4739)",
        is_known=_compared_what_is_skipped,
        is_of_the_tool=True,
    ),
    Claim("A manifest written anew from the names of the files brings back all", REWRITTEN, _not_rewritten),
)
