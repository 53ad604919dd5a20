"""The drill of the full disk: which spell decides which claim."""

from typing import Any

import pytest

from runbook.drills import disk_full
from runbook.drills.disk_full import judge_spells
from runbook.drills.disks.spell import Spell
from runbook.evidence import Finding, Verdict, verdict_of
from runbook.load import Outcome
from tests.unit.runbook.drills.spells import lost, spell, write

PASS, INCONCLUSIVE, FAIL = Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL

GOOD: dict[str, Spell] = {
    "freed": spell(),
    "killed": spell(lost(399)),
    "always": spell(survived=False),
    "unsaved": spell(lost(*range(400)), writes=(write(0),) * 20),
}


def _judge(**spells: Spell) -> dict[str, Finding]:
    findings = judge_spells(**{name: [each] for name, each in {**GOOD, **spells}.items()})
    return {finding.claim: finding for finding in findings}


def test_a_good_run_passes_and_shows_what_the_server_is_known_for() -> None:
    findings = _judge()
    assert verdict_of(findings.values()) is PASS
    assert [claim for claim, finding in findings.items() if finding.is_known] == [disk_full.ALWAYS_READ]


def test_a_server_that_goes_on_under_always_passes_as_well() -> None:
    assert _judge(always=spell())[disk_full.ALWAYS_READ].verdict is PASS


@pytest.mark.parametrize(
    ("claim", "spells"),
    [
        (disk_full.REFUSED, {"freed": spell(writes=(write(0),) * 20)}),
        (disk_full.READ, {"freed": spell(survived=False)}),
        (disk_full.RETURNED, {"freed": spell(returned_s=None)}),
        (disk_full.RETURNED, {"killed": spell(left=("aof_last_write_status:err",))}),
        (disk_full.KEPT, {"freed": spell(lost(399))}),
        (disk_full.KILLED, {"killed": spell(lost(*range(100, 400)))}),
        (disk_full.READ_AGAIN, {"killed": spell(survived=False)}),
        (disk_full.ALWAYS_KEPT, {"always": spell(lost(399))}),
        (disk_full.ALWAYS_READ, {"always": spell(survived=False, last_words="crashed by signal: 11")}),
    ],
)
def test_each_claim_fails_on_what_breaks_it(claim: str, spells: dict[str, Any]) -> None:
    findings = _judge(**spells)
    assert findings[claim].verdict is FAIL
    assert verdict_of(findings.values()) is FAIL


@pytest.mark.parametrize(
    ("claim", "unsaved"),
    [
        (disk_full.UNREFUSED, spell(lost(*range(400)))),
        (disk_full.UNREFUSED, spell(writes=(write(0, Outcome.UNKNOWN, "OutcomeUnknown: no reply"),) * 20)),
        (disk_full.UNREFUSED, spell(writes=(write(0),) * 20, doubts=("the disk was not full",))),
        (disk_full.LOST, spell(writes=(write(0),) * 20)),
    ],
)
def test_a_control_that_was_not_found_out_is_inconclusive(claim: str, unsaved: Spell) -> None:
    assert _judge(unsaved=unsaved)[claim].verdict is INCONCLUSIVE
