"""What is concluded from what became of damaged append-only files: pure, so that tests can hand it any outcomes."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from runbook.drills.damage.cases import CUT_OFF, REWRITTEN, Kind
from runbook.drills.damage.check_aof import MISSING, Report
from runbook.drills.digest import combined
from runbook.evidence import Finding, Measurement, Verdict, judge

CRITERION = "I-4"
TOLD = "Our checks tell of each start on other data than were written"
UNTOUCHED = "All damage and repair leave the original as it was"

Digests = Mapping[bytes, str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one case; digests are by key.

    Attributes:
        kind: what was damaged.
        name: where exactly.
        whole: what stands before the damage.
        held: what the server held when it served; None if it refused to start.
        said: what it said when it refused.
        accused: what our check of the manifest found before the start.
        checked: what the server's own tool said; None if there is none.
        repaired: what a server held after the repair; None if it refused, or if nothing was repaired.
        doubts: why the damage is not proven.
    """

    kind: Kind
    name: str
    whole: Digests
    held: Digests | None
    said: str = ""
    accused: tuple[str, ...] = ()
    checked: Report | None = None
    repaired: Digests | None = None
    doubts: tuple[str, ...] = ()


def judge_original(before: str, after: str) -> Finding:
    """Judge the digests of the original's files."""
    same = before == after
    return Finding(CRITERION, UNTOUCHED, Verdict.PASS if same else Verdict.FAIL, "" if same else "its files are others than before")


def judge_outcomes(outcomes: Sequence[Outcome], written: Digests, *, has_tool: bool) -> list[Finding]:
    """Judge what became of all cases.

    Args:
        outcomes: of the cases.
        written: what the original holds.
        has_tool: whether there is a redis-check-aof.
    """
    return [_judge(claim, outcomes, written, has_tool) for claim in CLAIMS]


class Claim(NamedTuple):
    """A claim on some kinds of damage; `problem` tells in words how an outcome contradicts it, or nothing."""

    text: str
    kinds: tuple[Kind, ...]
    problem: Callable[[Outcome, Digests], str]
    known: str = ""
    is_of_the_tool: bool = False


def _judge(claim: Claim, outcomes: Sequence[Outcome], written: Digests, has_tool: bool) -> Finding:
    def check() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        if claim.is_of_the_tool and not has_tool:
            return Verdict.INCONCLUSIVE, MISSING, ()
        tried = [outcome for outcome in outcomes if outcome.kind in claim.kinds]
        doubts = [f"{outcome.kind}: {doubt}" for outcome in tried for doubt in outcome.doubts]
        doubts += [f"nothing was done of the kind: {kind}" for kind in claim.kinds if kind not in {outcome.kind for outcome in tried}]
        problems = [f"{outcome.kind} ({outcome.name}): {told}" for outcome in tried if (told := claim.problem(outcome, written))]
        measured = (Measurement("as claimed", len(tried) - len(problems), "cases", len(tried)), *_table(claim, tried, written))
        if doubts:
            return Verdict.INCONCLUSIVE, "; ".join(doubts), measured
        if problems:
            # A control that fails makes every other result worthless, but proves no fault of the server.
            verdict = Verdict.INCONCLUSIVE if claim.text.startswith("Control: ") else Verdict.FAIL
            return verdict, f"{len(problems)} of {len(tried)} cases, first {problems[0]}", measured
        return Verdict.PASS, "", measured

    return judge(CRITERION, claim.text, check, claim.known)


def _table(claim: Claim, tried: Sequence[Outcome], written: Digests) -> list[Measurement]:
    """Tell for each kind what the server did, and who accused it."""
    rows = []
    for kind in claim.kinds if claim.problem is _unnoticed else ():
        of_kind = [outcome for outcome in tried if outcome.kind is kind]
        did = Counter(_deed(outcome, written) for outcome in of_kind)
        accusers = {
            "our check of the manifest": sum(bool(outcome.accused) for outcome in of_kind),
            "our digest": sum(outcome.held is not None and combined(outcome.held) != combined(written) for outcome in of_kind),
            "redis-check-aof": sum(bool(outcome.checked and outcome.checked.status) for outcome in of_kind),
        }
        told = ", ".join(f"{who} {count}" for who, count in accusers.items() if count)
        said = next((f" (“{outcome.said}”)" for outcome in of_kind if outcome.said), "")
        text = f"{', '.join(f'{what} {count}' for what, count in did.items())}{said}; accused by {told or 'nobody'}"
        rows.append(Measurement(kind, text, samples=len(of_kind)))
    return rows


def _deed(outcome: Outcome, written: Digests) -> str:
    if outcome.held is None:
        return "refused"
    if outcome.held == written:
        return "loaded all"
    return "loaded other data" if outcome.held else "started empty"


def _difference(held: Digests | None, wanted: Digests) -> str:
    """Tell how what a server holds differs from what it should hold."""
    if held is None:
        return "the server refused to start"
    missing, foreign = wanted.keys() - held.keys(), held.keys() - wanted.keys()
    other = [key for key in wanted.keys() & held.keys() if wanted[key] != held[key]]
    counts = {"missing": missing, "that should not be there": foreign, "of another value": other}
    told = [f"{len(keys)} {what}, first {min(keys).decode(errors='replace')}" for what, keys in counts.items() if keys]
    return f"of {len(wanted)} keys {'; '.join(told)}" if told else ""


# --- how an outcome contradicts a claim ---


def _accused(outcome: Outcome, written: Digests) -> str:
    return f"our check of the manifest says: {outcome.accused[0]}" if outcome.accused else _difference(outcome.held, written)


def _not_what_is_whole(outcome: Outcome, written: Digests) -> str:
    return _difference(outcome.held, outcome.whole)


def _served(outcome: Outcome, written: Digests) -> str:
    return "" if outcome.held is None else f"the server started, {_difference(outcome.held, written) or 'with all that was written'}"


def _served_otherwise(outcome: Outcome, written: Digests) -> str:
    return "" if outcome.held is None else _difference(outcome.held, outcome.whole)


def _unnoticed(outcome: Outcome, written: Digests) -> str:
    caught = outcome.held is None or outcome.accused or combined(outcome.held) != combined(written)
    return "" if caught else "the server started, and none of our checks tells"


def _started_on_other_data(outcome: Outcome, written: Digests) -> str:
    return "" if outcome.held is None else _difference(outcome.held, written)


def _not_repaired(outcome: Outcome, written: Digests) -> str:
    return _difference(outcome.repaired, outcome.whole)


def _not_rewritten(outcome: Outcome, written: Digests) -> str:
    return _difference(outcome.repaired, written)


def _invented(outcome: Outcome, written: Digests) -> str:
    other = [key for key, digest in (outcome.repaired or {}).items() if written.get(key) != digest]
    return f"{len(other)} keys hold what was never written, first {min(other).decode(errors='replace')}" if other else ""


def _accused_in_full(outcome: Outcome, written: Digests) -> str:
    if outcome.held != written or not outcome.checked or not outcome.checked.status:
        return ""
    cut_off = len(written) - len(outcome.repaired) if outcome.repaired is not None else 0
    return f"the server loads it; the tool says: {outcome.checked.said}" + (f" --fix takes {cut_off} keys away" if cut_off else "")


_SEEN = "seen of Redis 7.0.15 and Valkey 9.1.2"
CLAIMS = (
    Claim("Control: an undamaged copy loads with the digest of what was written, and our checks accuse nothing", (Kind.NOTHING,), _accused),
    Claim("An increment that was cut off loads what is whole, and nothing else", (Kind.CUT,), _not_what_is_whole),
    Claim("Damage to the framing of commands is refused", (Kind.FRAMING, Kind.LENGTH), _served),
    Claim("A tail of zeros is refused, or what is whole before it loads, and nothing else", (Kind.ZEROS,), _served_otherwise),
    Claim(
        "A damaged base, a missing file and a manifest that can't be read are refused",
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
    ),
    Claim(
        "The server itself refuses to start on files that its manifest does not name",
        (Kind.NO_MANIFEST, Kind.SHORT),
        _started_on_other_data,
        known=f"{_SEEN}: where the manifest names nothing, `aofOpenIfNeededOnServerStart` makes new files",
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
        is_of_the_tool=True,
    ),
    Claim(
        "redis-check-aof accuses nothing that the server loads in full",
        (Kind.NOTHING, Kind.SKIPPED),
        _accused_in_full,
        known=f"{_SEEN}: the server skips bytes that the tool compares; Valkey's does not know its own base (pull request 4739)",
        is_of_the_tool=True,
    ),
    Claim("A manifest written anew from the names of the files brings back all", REWRITTEN, _not_rewritten),
)
