"""What a result tells of its circumstances, and what it must not tell."""

import platform
from pathlib import Path

import pytest

from cachelib import Config
from runbook.evidence.environment import CIRCUMSTANCES, circumstances, describe_client, describe_host, describe_versions

ENGINE = {
    "product": "redis",
    "version": "7.0.15",
    "found_by": "running",
    "settings": {"appendonly": "yes"},
    "image": {"reference": "redis:7-alpine", "digest": "redis@sha256:12"},
}


def test_the_engine_is_told_apart_from_its_settings_and_its_image() -> None:
    told = circumstances(ENGINE, Config(), "compose", 7)
    assert tuple(told) == CIRCUMSTANCES
    assert told["engine"] == {"product": "redis", "version": "7.0.15", "found_by": "running"}
    assert told["configuration"]["server"] == {"appendonly": "yes"}
    assert told["image"] == ENGINE["image"]
    assert told["seed"] == 7


def test_a_server_that_did_not_answer_leaves_its_part_empty() -> None:
    told = circumstances(None, Config(), "remote", None)
    assert (told["engine"], told["image"], told["configuration"]["server"], told["seed"]) == (None, None, {}, None)


def test_of_the_client_no_password_and_no_path_is_told(tmp_path: Path) -> None:
    (tmp_path / "authority.pem").touch()
    told = describe_client(Config(password="open-sesame-7", tls=True, tls_ca_file=tmp_path / "authority.pem"), endpoint=True)
    assert told["password"] == "'********'"
    assert told["tls_ca_file"] == "authority.pem"
    assert told["tls_key_file"] == "not set"
    assert str(tmp_path) not in str(told)


@pytest.mark.parametrize(("target", "is_told"), [("remote", True), ("embedded", False), ("compose-prod", False)])
def test_an_address_that_is_made_up_for_the_run_is_not_told(target: str, is_told: bool) -> None:
    told = circumstances(ENGINE, Config(host="cache.example"), target, None)["configuration"]["client"]
    assert ("host" in told, "port" in told) == (is_told, is_told)
    assert told["pool_size"] == "10"


def test_the_host_is_described_without_its_name() -> None:
    told = describe_host()
    assert told["kernel"] == platform.release()
    assert platform.node() not in map(str, told.values())


def test_packages_that_a_result_depends_on_have_their_versions() -> None:
    assert {"python", "redis", "numpy", "hdrhistogram", "nbconvert", "jinja2", "granian", "redis-runbook"} <= set(describe_versions())
