"""The judgement of a deployment, on what files, engines and endpoints could say."""

import pytest

from runbook.drills import deployment
from runbook.drills.service import STORY, differences
from runbook.evidence import Measurement, Verdict

PASS, INCONCLUSIVE, FAIL = Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL
STORY_SETTINGS = {name: value for name, (_, value) in STORY.items()}
RUNNING = {"State": {"Running": True, "Status": "running", "ExitCode": 0}, "RestartCount": 0}


def test_two_files_with_the_storys_settings_pass() -> None:
    findings = deployment.judge_files(dict.fromkeys(deployment.FILES, STORY_SETTINGS))
    assert [(finding.criterion, finding.verdict) for finding in findings] == [("AC-1", PASS), ("AC-3", PASS), ("AC-4", PASS)]


@pytest.mark.parametrize(("name", "criterion"), [(name, criterion) for name, (criterion, _) in STORY.items()])
@pytest.mark.parametrize("file", deployment.FILES)
def test_one_wrong_setting_in_either_file_fails_its_criterion(file: str, name: str, criterion: str) -> None:
    found = dict.fromkeys(deployment.FILES, STORY_SETTINGS) | {file: STORY_SETTINGS | {name: "another"}}
    failed = [finding for finding in deployment.judge_files(found) if finding.verdict is FAIL]
    assert [finding.criterion for finding in failed] == [criterion]
    assert failed[0].reason == f"{file}: {name} is another, not {STORY_SETTINGS[name]}"


def test_a_file_that_was_not_read_decides_nothing() -> None:
    assert {finding.verdict for finding in deployment.judge_files({deployment.DEV: STORY_SETTINGS})} == {INCONCLUSIVE}


def test_the_control_finds_its_seeded_defects() -> None:
    assert [finding.verdict for finding in deployment.control()] == [PASS]


def test_a_comparison_that_is_blind_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployment, "differences", lambda *_: ())
    (finding,) = deployment.control()
    assert finding.verdict is INCONCLUSIVE
    assert all(name in finding.reason for name in STORY)


def test_a_container_that_ended_or_had_to_be_started_again_fails() -> None:
    measured = (Measurement("container", "image"),)
    assert deployment.judge_start(RUNNING, measured) == (PASS, "", measured)
    ended = {"State": {"Running": False, "Status": "exited", "ExitCode": 1}, "RestartCount": 0}
    assert deployment.judge_start(ended, measured)[:2] == (FAIL, "it is exited, with exit status 1")
    assert deployment.judge_start(RUNNING | {"RestartCount": 2}, measured)[0] is FAIL


def test_a_container_that_differs_from_its_file_fails() -> None:
    wrong = differences("the container", STORY_SETTINGS, STORY_SETTINGS | {"restart": "no"})
    assert deployment.judge_container(wrong, 8, "an image")[:2] == (FAIL, "the container: restart is no, not unless-stopped")
    verdict, _, measured = deployment.judge_container((), 8, "image x, a stand-in")
    assert (verdict, measured[0].value) == (PASS, "image x, a stand-in")


@pytest.mark.parametrize(
    ("health", "ready", "verdict"),
    [
        ('{"status": "healthy"}', 200, PASS),
        ('{"status": "healthy"}', 503, FAIL),
        ('{"status": "unhealthy", "reasons": ["unreachable"]}', 503, FAIL),
        ("ConnectionRefusedError(111)", 0, FAIL),
        ("[]", 200, FAIL),
        ("{}", 200, FAIL),
    ],
)
def test_the_endpoint_has_to_say_healthy_and_ready(health: str, ready: int, verdict: Verdict) -> None:
    assert deployment.judge_answer(health, ready)[0] is verdict


def test_production_that_lets_somebody_in_fails() -> None:
    assert deployment.judge_closed({"GET x by a stranger": True}, told=False)[0] is PASS
    assert deployment.judge_closed({"GET x by a stranger": False}, told=False)[:2] == (FAIL, "it accepts GET x by a stranger")
    assert deployment.judge_closed({"GET x by a stranger": True}, told=True)[:2] == (FAIL, "docker inspect shows the password")
