"""What is concluded from what became of damaged append-only files: pure, so that tests can hand it any outcomes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from runbook.drills.damage.check_aof import MISSING
from runbook.drills.damage.claims import CLAIMS, TOLD, Claim
from runbook.drills.damage.outcome import Held, Outcome
from runbook.evidence import Finding, Measurement, Verdict, judge

CRITERION = "I-4"
UNTOUCHED = "All damage and repair leave the original as it was"


def judge_original(before: str, after: str) -> Finding:
    """Judge the digests of the original's files."""
    same = before == after
    return Finding(CRITERION, UNTOUCHED, Verdict.PASS if same else Verdict.FAIL, "" if same else "its files are others than before")


def judge_outcomes(outcomes: Sequence[Outcome], written: Held, *, has_tool: bool) -> list[Finding]:
    """Judge what became of all cases.

    Args:
        outcomes: of the cases.
        written: what the original holds.
        has_tool: whether there is a redis-check-aof.
    """
    return [_judge(claim, outcomes, written, has_tool) for claim in CLAIMS]


def _judge(claim: Claim, outcomes: Sequence[Outcome], written: Held, has_tool: bool) -> Finding:
    tried = [outcome for outcome in outcomes if outcome.kind in claim.kinds]

    def check() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        if claim.is_of_the_tool and not has_tool:
            return Verdict.INCONCLUSIVE, MISSING, ()
        doubts = [f"{outcome.kind}: {doubt}" for outcome in tried for doubt in outcome.doubts]
        doubts += [f"nothing was done of the kind: {kind}" for kind in claim.kinds if kind not in {outcome.kind for outcome in tried}]
        # What is not known of the server first: it decides, and the first one is told.
        by_news = sorted(tried, key=lambda outcome: claim.is_known(outcome, written))
        problems = [f"{outcome.kind} ({outcome.name}): {told}" for outcome in by_news if (told := claim.problem(outcome, written))]
        measured = (Measurement("as claimed", len(tried) - len(problems), "cases", len(tried)), *_table(claim, tried, written))
        if doubts:
            return Verdict.INCONCLUSIVE, "; ".join(doubts), measured
        if problems:
            # A control that fails makes every other result worthless, but proves no fault of the server.
            verdict = Verdict.INCONCLUSIVE if claim.text.startswith("Control: ") else Verdict.FAIL
            return verdict, f"{len(problems)} of {len(tried)} cases, first {problems[0]}", measured
        return Verdict.PASS, "", measured

    found = judge(CRITERION, claim.text, check, claim.known)
    is_news = found.is_known and any(claim.problem(outcome, written) and not claim.is_known(outcome, written) for outcome in tried)
    return replace(found, known="") if is_news else found


def _table(claim: Claim, tried: Sequence[Outcome], written: Held) -> list[Measurement]:
    """Tell for each kind what the server did, and who accused it."""
    rows = []
    for kind in claim.kinds if claim.text == TOLD else ():
        of_kind = [outcome for outcome in tried if outcome.kind is kind]
        did = Counter(_deed(outcome, written) for outcome in of_kind)
        said = {_deed(outcome, written): f" (“{outcome.said}”)" for outcome in reversed(of_kind) if outcome.said}
        accusers = {
            "our check of the manifest": sum(bool(outcome.accused) for outcome in of_kind),
            "our digest": sum(outcome.held is not None and outcome.held.digest != written.digest for outcome in of_kind),
            "redis-check-aof": sum(bool(outcome.checked and outcome.checked.status) for outcome in of_kind),
        }
        told = ", ".join(f"{who} {count}" for who, count in accusers.items() if count)
        deeds = ", ".join(f"{what} {count}{said.get(what, '')}" for what, count in did.items())
        text = f"{deeds}; accused by {told or 'nobody'}"
        rows.append(Measurement(kind, text, samples=len(of_kind)))
    return rows


def _deed(outcome: Outcome, written: Held) -> str:
    if outcome.held is None:
        return "crashed" if outcome.crashed else "refused"
    if outcome.held.values == written.values:
        return "loaded all"
    return "loaded other data" if outcome.held.values else "started empty"
