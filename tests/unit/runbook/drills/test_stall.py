"""The judgement of what was told of a server that stalled."""

import dataclasses

import pytest

from runbook.drills import stall
from runbook.drills.stall import Probe, Result
from runbook.evidence import Verdict

PASS, INCONCLUSIVE, FAIL = Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL
TOLD = Result(24.0, (Probe("/livez", 200, 0.002), Probe("/readyz", 503, 0.51)), 0.02, 9.8, observed=True)


def verdicts(result: Result) -> tuple[Verdict, ...]:
    findings = stall.judge_result(result)
    assert [finding.criterion for finding in findings] == ["AC-4", "I-6", "I-2"]
    return tuple(finding.verdict for finding in findings)


def test_a_stall_that_is_told_in_time_passes() -> None:
    assert verdicts(TOLD) == (PASS, PASS, PASS)


@pytest.mark.parametrize("unhealthy_s", [None, 30.1])
def test_an_engine_that_says_so_late_or_never_fails(unhealthy_s: float | None) -> None:
    assert verdicts(dataclasses.replace(TOLD, unhealthy_s=unhealthy_s)) == (FAIL, PASS, PASS)


@pytest.mark.parametrize(
    "wrong",
    [
        Probe("/livez", 503, 0.002),
        Probe("/livez", 0, 3.0),
        Probe("/readyz", 200, 0.002),
        Probe("/readyz", 0, 3.0),
        Probe("/readyz", 503, 1.1),
    ],
)
def test_an_endpoint_that_is_wrong_silent_or_late_fails(wrong: Probe) -> None:
    assert verdicts(dataclasses.replace(TOLD, probes=(*TOLD.probes, wrong))) == (PASS, FAIL, PASS)


def test_an_endpoint_that_was_not_asked_decides_nothing() -> None:
    assert verdicts(dataclasses.replace(TOLD, probes=())) == (PASS, INCONCLUSIVE, PASS)


def test_a_server_that_went_on_answering_decides_nothing() -> None:
    assert verdicts(dataclasses.replace(TOLD, observed=False)) == (INCONCLUSIVE, INCONCLUSIVE, PASS)


@pytest.mark.parametrize("silent", ["ready_s", "healthy_s"])
def test_who_does_not_say_that_it_is_well_again_fails(silent: str) -> None:
    result = dataclasses.replace(TOLD, **{silent: None})
    assert verdicts(result) == (PASS, PASS, FAIL)
    assert {"ready_s": "endpoint", "healthy_s": "engine"}[silent] in stall.judge_result(result)[2].reason
