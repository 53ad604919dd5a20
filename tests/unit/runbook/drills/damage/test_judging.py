"""What the drill of damaged files concludes, from outcomes made by hand: each claim has a known-bad that it must catch."""

from dataclasses import replace
from typing import Any

import pytest

from runbook.drills.damage.cases import CUT_OFF, REWRITTEN, Kind
from runbook.drills.damage.check_aof import Report
from runbook.drills.damage.claims import CLAIMS
from runbook.drills.damage.items import Value, Values
from runbook.drills.damage.judging import judge_original, judge_outcomes
from runbook.drills.damage.outcome import Held, Outcome
from runbook.evidence import Finding, Verdict

PASS, INCONCLUSIVE, FAIL = Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL


def values(**contents: str) -> Values:
    """Return strings by key."""
    return {key.encode(): Value(b"string", content.encode()) for key, content in contents.items()}


def held(values: Values, digest: str | None = None) -> Held:
    """Return what a server holds, by default as a digest tells it that sees everything."""
    return Held(values, repr(sorted(values.items())) if digest is None else digest)


A, B, C = (dict([item]) for item in values(a="1", b="2", c="3").items())
WRITTEN = held(A | B | C)
WHOLE, NONE = held(A | B), held({})
CHANGED = held(A | B | values(c="4"))
TWO_CHANGED = held(A | values(b="4", c="4"))
BLIND = WRITTEN.digest
SWALLOWED = held(A | values(b="2\r\n*5"))
VALID, INVALID = Report(0, "valid"), Report(1, "not valid")
SKIPS = Report(1, "0x 7: Expected \\r\\n, got: 0c0a\nincr.aof is not valid")
FOREIGN = Report(1, "Start to check BASE AOF (RESP format).\nbase.rdb is not valid")


def outcome(kind: Kind) -> Outcome:
    """Return what becomes of a case where server, tool and our checks are as good as can be."""
    harmless = kind in (Kind.NOTHING, Kind.SKIPPED)
    return Outcome(
        kind,
        "somewhere",
        whole={} if kind is Kind.NO_MANIFEST else WHOLE.values,
        held=WRITTEN if harmless else WHOLE if kind is Kind.CUT else None,
        accused=("a problem",) if kind in REWRITTEN else (),
        checked=VALID if harmless else INVALID,
        repaired=WHOLE if kind in CUT_OFF else WRITTEN if kind in REWRITTEN else None,
    )


def judged(kind: Kind | None = None, has_tool: bool = True, **changes: Any) -> dict[str, Finding]:
    """Judge good outcomes, with those of one kind changed; return the findings that are no PASS, by the claim's first words."""
    outcomes = [outcome(each) for each in Kind]
    if kind:
        at = list(Kind).index(kind)
        outcomes[at] = Outcome(**{**{name: getattr(outcomes[at], name) for name in Outcome.__slots__}, **changes})
    findings = judge_outcomes(outcomes, WRITTEN, has_tool=has_tool)
    assert len(findings) == len(CLAIMS)
    return {finding.claim: finding for finding in findings if finding.verdict is not PASS}


def test_the_best_that_can_be_passes() -> None:
    assert judged() == {}


@pytest.mark.parametrize(
    ("kind", "changes", "verdicts"),
    [
        (Kind.NOTHING, {"held": CHANGED}, {"Control": INCONCLUSIVE}),
        (Kind.NOTHING, {"held": None}, {"Control": INCONCLUSIVE}),
        (Kind.NOTHING, {"accused": ("a problem",)}, {"Control": INCONCLUSIVE}),
        (Kind.NOTHING, {"checked": INVALID}, {"redis-check-aof accuses": FAIL}),
        (Kind.SKIPPED, {"checked": INVALID}, {"redis-check-aof accuses": FAIL}),
        (Kind.CUT, {"held": held(A)}, {"An increment": FAIL}),
        (Kind.CUT, {"held": CHANGED}, {"An increment": FAIL}),
        (Kind.CUT, {"held": None}, {"An increment": FAIL}),
        (Kind.CUT, {"repaired": held(A)}, {"redis-check-aof --fix of a copy brings back all": FAIL}),
        (Kind.CUT, {"repaired": WRITTEN}, {"redis-check-aof --fix of a copy brings back all": FAIL}),
        (Kind.FRAMING, {"held": CHANGED}, {"Damage to the framing": FAIL}),
        (Kind.FRAMING, {"repaired": None}, {"redis-check-aof --fix of a copy brings back all": FAIL}),
        (Kind.ZEROS, {"held": WHOLE}, {}),
        (Kind.ZEROS, {"held": CHANGED}, {"A tail of zeros": FAIL}),
        (Kind.FEED, {"held": CHANGED}, {}),
        (Kind.LENGTH, {"repaired": held(A | values(b="4"))}, {"redis-check-aof --fix of a copy brings back nothing": FAIL}),
        (Kind.BASE, {"held": CHANGED}, {"A damaged base": FAIL}),
        (Kind.NO_INCREMENT, {"held": WHOLE}, {"A damaged base": FAIL}),
        (Kind.GARBAGE, {"held": NONE, "repaired": NONE}, {"A damaged base": FAIL, "A manifest written anew": FAIL}),
        (Kind.VALUE, {"held": CHANGED}, {"The server itself notices": FAIL}),
        (Kind.VALUE, {"held": WRITTEN}, {}),
        (Kind.VALUE, {"held": held(CHANGED.values, BLIND)}, {"Our checks": FAIL, "The server itself notices": FAIL}),
        (Kind.CUT, {"held": held(WHOLE.values, BLIND)}, {"Our checks": FAIL}),
        (Kind.NOTHING, {"held": held(WRITTEN.values, "another")}, {"Control": INCONCLUSIVE}),
        (Kind.NO_MANIFEST, {"held": NONE}, {"The server itself does not start": FAIL}),
        (Kind.SHORT, {"held": WHOLE}, {"The server itself does not start": FAIL}),
        (Kind.SHORT, {"held": held(WHOLE.values, BLIND)}, {"The server itself does not start": FAIL}),
        (Kind.SHORT, {"held": held(WHOLE.values, BLIND), "accused": ()}, {"The server itself does not start": FAIL, "Our checks": FAIL}),
        (Kind.SHORT, {"held": WRITTEN, "accused": ()}, {}),
    ],
)
def test_what_contradicts_a_claim_is_caught_and_contradicts_no_other(kind: Kind, changes: Any, verdicts: dict[str, Verdict]) -> None:
    found = judged(kind, **changes)
    assert len(found) == len(verdicts)
    for words, verdict in verdicts.items():
        (finding,) = (finding for claim, finding in found.items() if claim.startswith(words))
        assert (finding.verdict, bool(finding.reason)) == (verdict, True)


@pytest.mark.parametrize("kind", Kind)
def test_damage_that_is_not_proven_proves_nothing(kind: Kind) -> None:
    found = judged(kind, doubts=("the damaged files are the same as before",), held=CHANGED)
    assert {finding.verdict for finding in found.values()} == {INCONCLUSIVE}


def test_a_kind_that_was_not_tried_leaves_its_claims_open() -> None:
    findings = judge_outcomes([outcome(kind) for kind in Kind if kind is not Kind.VALUE], WRITTEN, has_tool=True)
    unknown = [finding for finding in findings if finding.verdict is not PASS]
    assert {finding.verdict for finding in unknown} == {INCONCLUSIVE}
    assert all("nothing was done of the kind: byte of a value changed" in finding.reason for finding in unknown)


def test_without_the_tool_its_claims_stay_open_and_the_reason_says_what_to_install() -> None:
    found = judged(has_tool=False)
    assert {finding.verdict for finding in found.values()} == {INCONCLUSIVE}
    assert all(claim.startswith("redis-check-aof") and "redis-tools" in finding.reason for claim, finding in found.items())
    assert len(found) == 3


@pytest.mark.parametrize(
    ("kind", "changes", "is_known"),
    [
        (Kind.VALUE, {"held": CHANGED}, True),
        (Kind.VALUE, {"held": TWO_CHANGED}, False),
        (Kind.VALUE, {"held": WHOLE}, False),
        (Kind.VALUE, {"held": held({**WRITTEN.values, b"c": Value(b"string", b"3", 7)})}, False),
        (Kind.VALUE, {"held": held({**WRITTEN.values, b"c": Value(b"list", [b"3"])})}, False),
        (Kind.VALUE, {"held": held({**WRITTEN.values, b"d": Value(b"string", b"4")})}, False),
        (Kind.NO_MANIFEST, {"held": NONE}, True),
        (Kind.NO_MANIFEST, {"held": WHOLE}, False),
        (Kind.SHORT, {"held": WHOLE}, True),
        (Kind.SHORT, {"held": NONE}, False),
        (Kind.SHORT, {"held": CHANGED}, False),
        (Kind.LENGTH, {"repaired": SWALLOWED}, True),
        (Kind.LENGTH, {"repaired": held(values(a="1", b="2\r\n*"))}, False),
        (Kind.LENGTH, {"repaired": held(values(a="1", b="4\r\n*5"))}, False),
        (Kind.LENGTH, {"repaired": held(values(a="4", b="2\r\n*5"))}, False),
        (Kind.LENGTH, {"repaired": held(values(a="1", d="2\r\n*5"))}, False),
        (Kind.SKIPPED, {"checked": SKIPS}, True),
        (Kind.SKIPPED, {"checked": FOREIGN}, True),
        (Kind.SKIPPED, {"checked": INVALID}, False),
        (Kind.NOTHING, {"checked": FOREIGN}, True),
        (Kind.NOTHING, {"checked": SKIPS}, False),
        (Kind.NOTHING, {"checked": INVALID}, False),
    ],
)
def test_only_the_very_failure_that_the_server_is_known_for_weighs_nothing(kind: Kind, changes: Any, is_known: bool) -> None:
    (finding,) = judged(kind, **changes).values()
    assert (finding.verdict, finding.is_known) == (FAIL, is_known)


def test_one_failure_that_is_not_known_outweighs_those_that_are_and_is_told_first() -> None:
    outcomes = [outcome(kind) for kind in Kind]
    value = next(each for each in outcomes if each.kind is Kind.VALUE)
    outcomes += [replace(value, held=CHANGED), replace(value, held=TWO_CHANGED)]
    (finding,) = (each for each in judge_outcomes(outcomes, WRITTEN, has_tool=True) if each.verdict is not PASS)
    assert (finding.is_known, "2 of 3 cases" in finding.reason, "2 of another value" in finding.reason) == (False, True, True)


def test_the_reason_tells_how_many_keys_differ_and_which_is_the_first() -> None:
    (finding,) = judged(Kind.CUT, held=held(values(a="9", x="1"))).values()
    assert "of 2 keys 1 missing, first b; 1 that should not be there, first x; 1 of another value, first a" in finding.reason


def test_an_original_that_changed_fails() -> None:
    assert judge_original("digest", "digest").verdict is PASS
    assert judge_original("digest", "another").verdict is FAIL
