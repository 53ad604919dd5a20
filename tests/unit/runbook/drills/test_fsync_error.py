"""The drill of the failing fsync: which spell decides which claim."""

from typing import Any

import pytest

from runbook.drills import fsync_error
from runbook.drills.disks.spell import Spell
from runbook.drills.fsync_error import judge_spells
from runbook.evidence import Finding, Verdict, verdict_of
from runbook.load import Outcome
from tests.unit.runbook.drills.spells import MISCONF, lost, spell, write

PASS, INCONCLUSIVE, FAIL = Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL

REFUSED = write(0, Outcome.FAIL, MISCONF)
GOOD: dict[str, Spell] = {
    "once": spell(lost(), lost()),
    "sustained": spell(),
    "half": spell(lost(*range(400))),
    "always": spell(survived=False),
}


def _judge(**spells: Spell) -> dict[str, Finding]:
    findings = judge_spells(**{name: [each] for name, each in {**GOOD, **spells}.items()})
    return {finding.claim: finding for finding in findings}


def test_a_good_run_passes_and_shows_what_the_server_is_known_for() -> None:
    findings = _judge()
    assert verdict_of(findings.values()) is PASS
    assert [claim for claim, finding in findings.items() if finding.is_known] == [fsync_error.BY_ITSELF, fsync_error.ALWAYS_LIVES]


def test_a_server_that_is_better_than_documented_passes() -> None:
    findings = _judge(once=spell(late_writes=(write(0),)), always=spell())
    assert {finding.verdict for finding in findings.values()} == {PASS}


@pytest.mark.parametrize("case", ["once", "sustained"])
@pytest.mark.parametrize(
    ("claim", "broken"),
    [
        (fsync_error.REFUSED, spell(writes=(write(0),) * 20)),
        (fsync_error.READ, spell(survived=False)),
        (fsync_error.RECOVERED, spell(left=("aof_last_write_status:err",))),
        (fsync_error.KEPT, spell(lost(), lost(399))),
    ],
)
def test_each_claim_fails_on_what_breaks_it(claim: str, broken: Spell, case: str) -> None:
    findings = _judge(**{case: broken})
    assert findings[claim].verdict is FAIL
    assert verdict_of(findings.values()) is FAIL


@pytest.mark.parametrize(
    ("claim", "spells"),
    [
        (fsync_error.BY_ITSELF, {"once": spell(late_writes=(REFUSED, write(0, Outcome.UNKNOWN, "OutcomeUnknown: no reply")))}),
        (fsync_error.BY_ITSELF, {"once": spell(late_writes=(REFUSED, write(0, Outcome.FAIL, "ResponseError: WRONGTYPE")))}),
        (fsync_error.ALWAYS_LIVES, {"always": spell(survived=False, last_words="crashed by signal: 11")}),
    ],
)
def test_what_is_not_documented_beside_what_is_weighs(claim: str, spells: dict[str, Any]) -> None:
    findings = _judge(**spells)
    assert findings[claim].verdict is FAIL
    assert verdict_of(findings.values()) is FAIL


def test_a_loss_under_always_fails() -> None:
    assert _judge(always=spell(lost(399), survived=False))[fsync_error.ALWAYS_KEPT].verdict is FAIL


@pytest.mark.parametrize(
    ("claim", "spells"),
    [
        (fsync_error.BY_ITSELF, {"once": spell(late_writes=())}),
        (fsync_error.BY_ITSELF, {"once": spell(doubts=("strace bent no fsync of the server",))}),
        (fsync_error.ALWAYS_LIVES, {"always": spell(doubts=("strace bent no fsync of the server",))}),
        (fsync_error.EARLY, {"sustained": spell(early_left=())}),
        (fsync_error.EARLY, {"sustained": spell(early_left=None)}),
        (fsync_error.EARLY, {"sustained": spell(early_left=("aof_rewrite_in_progress:1",))}),
        (fsync_error.EARLY, {"sustained": spell(doubts=("strace bent no fsync of the server",))}),
        (fsync_error.HALF, {"half": spell()}),
    ],
)
def test_a_fault_that_is_doubted_and_a_control_that_was_not_found_out_are_inconclusive(claim: str, spells: dict[str, Any]) -> None:
    assert _judge(**spells)[claim].verdict is INCONCLUSIVE
