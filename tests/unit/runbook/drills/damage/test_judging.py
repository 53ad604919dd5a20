"""What the drill of damaged files concludes, from outcomes made by hand: each claim has a known-bad that it must catch."""

from typing import Any

import pytest

from runbook.drills.damage.cases import CUT_OFF, REWRITTEN, Kind
from runbook.drills.damage.check_aof import Report
from runbook.drills.damage.judging import CLAIMS, Outcome, judge_original, judge_outcomes
from runbook.evidence import Finding, Verdict

PASS, INCONCLUSIVE, FAIL = Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL

WRITTEN = {b"a": "1", b"b": "2", b"c": "3"}
WHOLE = {b"a": "1", b"b": "2"}
CHANGED = {**WRITTEN, b"c": "4"}
VALID, INVALID = Report(0, "valid"), Report(1, "not valid")
MANIFEST_LOSSES = (Kind.NO_MANIFEST, Kind.SHORT)


def outcome(kind: Kind) -> Outcome:
    """Return what becomes of a case where server, tool and our checks are as good as can be."""
    harmless = kind in (Kind.NOTHING, Kind.SKIPPED)
    return Outcome(
        kind,
        "somewhere",
        whole=WHOLE,
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
        (Kind.CUT, {"held": {b"a": "1"}}, {"An increment": FAIL}),
        (Kind.CUT, {"held": {**WHOLE, b"c": "half"}}, {"An increment": FAIL}),
        (Kind.CUT, {"held": None}, {"An increment": FAIL}),
        (Kind.CUT, {"repaired": {b"a": "1"}}, {"redis-check-aof --fix of a copy brings back all": FAIL}),
        (Kind.CUT, {"repaired": WRITTEN}, {"redis-check-aof --fix of a copy brings back all": FAIL}),
        (Kind.FRAMING, {"held": CHANGED}, {"Damage to the framing": FAIL}),
        (Kind.FRAMING, {"repaired": None}, {"redis-check-aof --fix of a copy brings back all": FAIL}),
        (Kind.ZEROS, {"held": WHOLE}, {}),
        (Kind.ZEROS, {"held": CHANGED}, {"A tail of zeros": FAIL}),
        (Kind.FEED, {"held": CHANGED}, {}),
        (Kind.LENGTH, {"repaired": {**WHOLE, b"b": "4"}}, {"redis-check-aof --fix of a copy brings back nothing": FAIL}),
        (Kind.BASE, {"held": CHANGED}, {"A damaged base": FAIL}),
        (Kind.NO_INCREMENT, {"held": WHOLE}, {"A damaged base": FAIL}),
        (Kind.GARBAGE, {"held": {}, "repaired": {}}, {"A damaged base": FAIL, "A manifest written anew": FAIL}),
        (Kind.VALUE, {"held": CHANGED}, {"The server itself notices": FAIL}),
        (Kind.VALUE, {"held": WRITTEN}, {"Our checks": FAIL}),
        (Kind.NO_MANIFEST, {"held": {}}, {"The server itself refuses": FAIL}),
        (Kind.SHORT, {"held": WHOLE}, {"The server itself refuses": FAIL}),
        (Kind.SHORT, {"held": WRITTEN, "accused": ()}, {"Our checks": FAIL}),
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


def test_what_the_server_is_known_for_weighs_nothing() -> None:
    for kind, changes in {Kind.VALUE: {"held": CHANGED}, Kind.SHORT: {"held": WHOLE}, Kind.SKIPPED: {"checked": INVALID}}.items():
        (finding,) = judged(kind, **changes).values()
        assert finding.is_known


def test_the_reason_tells_how_many_keys_differ_and_which_is_the_first() -> None:
    (finding,) = judged(Kind.CUT, held={b"a": "9", b"x": "1"}).values()
    assert "of 2 keys 1 missing, first b; 1 that should not be there, first x; 1 of another value, first a" in finding.reason


def test_an_original_that_changed_fails() -> None:
    assert judge_original("digest", "digest").verdict is PASS
    assert judge_original("digest", "another").verdict is FAIL
