"""The drill of the deployment against live projects: both files pass, and what was changed behind their back is found."""

import functools
from collections.abc import Callable

import pytest

from cachelib import connect
from runbook.drills import deployment
from runbook.evidence import Finding, Verdict
from runbook.targets import Embedded, TargetError
from runbook.targets.compose import DEV, PROD, Compose
from runbook.targets.docker import Docker

PASS, FAIL = Verdict.PASS, Verdict.FAIL


def verdicts(findings: tuple[Finding, ...]) -> list[tuple[str, Verdict, str]]:
    return [(finding.criterion, finding.verdict, finding.reason) for finding in findings]


def test_both_files_are_what_the_story_asks_for(compose: Compose) -> None:
    assert verdicts(deployment.check_files(compose)) == [("AC-1", PASS, ""), ("AC-3", PASS, ""), ("AC-4", PASS, "")]


def test_the_container_of_development_is_what_its_file_says(compose: Compose) -> None:
    assert verdicts(deployment.check_container(compose)) == [("I-1", PASS, ""), ("AC-1", PASS, ""), ("AC-2", PASS, "")]


def test_in_production_nobody_sees_the_configuration_so_that_it_stays_open(open_compose: Callable[..., Compose]) -> None:
    starts, as_file, settings = verdicts(deployment.check_container(open_compose(PROD)))
    assert (starts[1], as_file[1]) == (PASS, PASS)
    assert settings == ("AC-2", Verdict.INCONCLUSIVE, "the server does not tell appendfsync: grant +config|get")


@pytest.mark.parametrize("file", [PROD, pytest.param(DEV, marks=pytest.mark.nightly)])
def test_each_file_stands_beside_the_other(file: str, open_compose: Callable[..., Compose]) -> None:
    assert verdicts(deployment.check_other(open_compose(file))) == [("D-2", PASS, ""), ("D-2", PASS, "")]


def test_a_policy_and_a_setting_that_were_changed_by_hand_are_found(own_compose: Compose, docker: Docker) -> None:
    docker.run("update", "--restart", "no", own_compose.container.name)
    with connect(own_compose.config) as client:
        client.config_set("appendfsync", "no")
    _, as_file, settings = verdicts(deployment.check_container(own_compose))
    assert as_file == ("AC-1", FAIL, "the container: restart is no, not unless-stopped")
    assert settings == ("AC-2", FAIL, "appendfsync is no, not everysec")


def test_a_server_that_is_away_fails_endpoint_and_engine(own_compose: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_compose, "await_health", functools.partial(own_compose.await_health, timeout_s=0.5))
    own_compose.pause()
    endpoint, engine = verdicts(deployment.check_health(own_compose))
    assert (endpoint[:2], engine[:2]) == (("I-2", FAIL), ("AC-4", FAIL))
    assert "unhealthy" in endpoint[2]
    assert "was not healthy within 0.5 s; its probes:" in engine[2]


def test_an_endpoint_that_does_not_start_fails_and_one_that_can_not_be_made_leaves_it_open(own_compose: Compose) -> None:
    own_compose._project.variables["REDIS_POOL_SIZE"] = "0"
    assert deployment.check_health(own_compose)[0].verdict is FAIL
    own_compose._project.variables["PYTHON_IMAGE"] = "redis-runbook-no-such-image:1"
    open_finding = deployment.check_health(own_compose)[0]
    assert open_finding.verdict is Verdict.INCONCLUSIVE
    assert "an image is missing and can't be pulled" in open_finding.reason


def test_a_target_without_containers_is_refused(server: Embedded) -> None:
    with pytest.raises(TargetError, match="the target embedded has no container: choose compose or compose-prod"):
        deployment.check_files(server)
