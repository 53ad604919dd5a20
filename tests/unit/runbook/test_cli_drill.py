"""The token that confirms a plan: printed, valid once, for a while, and for this plan only."""

import argparse
import re
from pathlib import Path
from typing import Any

import pytest

from runbook import cli_drill
from runbook.drilling import Done, Order
from runbook.drills.catalogue import DRILLS
from runbook.drills.undo import STATE_VARIABLE
from runbook.evidence import Finding, Verdict
from runbook.notebooks import UsageError


class Performed(Exception):
    """Nothing was refused."""


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    def perform(*arguments: Any) -> None:
        permit = arguments[-1]
        permit()
        raise Performed

    monkeypatch.setattr(cli_drill, "perform", perform)
    return {STATE_VARIABLE: str(tmp_path / "state")}


def _options(name: str = "stop", *, target: str = "compose", confirm: str | None = None, **more: Any) -> argparse.Namespace:
    defaults = {"all": False, "profile": "quick", "times": None, "seed": 1, "runs": Path("runs")}
    return argparse.Namespace(name=[name], target=target, confirm=confirm, **{**defaults, **more})


def _plan(environ: dict[str, str], capsys: pytest.CaptureFixture[str], **options: Any) -> str:
    cli_drill.plan_command(_options(**options), environ)
    found = re.search(r"--confirm ([0-9a-f]{8})$", capsys.readouterr().out.strip())
    assert found
    return found[1]


def _perform(environ: dict[str, str], **options: Any) -> None:
    chosen = _options(**options)
    cli_drill.perform_command(cli_drill.orders_of(chosen), chosen, environ)


def test_the_printed_token_confirms_the_plan(environ: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    token = _plan(environ, capsys)
    with pytest.raises(Performed):
        _perform(environ, confirm=token)


def test_it_confirms_once(environ: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    token = _plan(environ, capsys)
    with pytest.raises(Performed):
        _perform(environ, confirm=token)
    with pytest.raises(UsageError, match="no plan waits"):
        _perform(environ, confirm=token)


def test_without_a_token_nothing_is_done(environ: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="asks for a confirmation: read what would happen with `runbook plan`"):
        _perform(environ)


@pytest.mark.parametrize("token", ["yes", "true", "1", "00000000"])
def test_nothing_else_than_the_token_confirms(environ: dict[str, str], capsys: pytest.CaptureFixture[str], token: str) -> None:
    _plan(environ, capsys)
    with pytest.raises(UsageError, match="not the token of the last plan"):
        _perform(environ, confirm=token)


@pytest.mark.parametrize("other", [{"target": "compose-prod"}, {"times": 9}, {"profile": "full"}])
def test_another_plan_is_not_confirmed_by_it(environ: dict[str, str], capsys: pytest.CaptureFixture[str], other: dict[str, Any]) -> None:
    token = _plan(environ, capsys)
    with pytest.raises(UsageError, match="the plan was another one"):
        _perform(environ, confirm=token, **other)


def test_it_expires(environ: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runbook.cli_drill.CONFIRMATION_S", -1)
    token = _plan(environ, capsys)
    with pytest.raises(UsageError, match="the plan is older than"):
        _perform(environ, confirm=token)


def test_the_token_itself_is_not_stored(environ: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    token = _plan(environ, capsys)
    assert token not in (Path(environ[STATE_VARIABLE]) / "plan.json").read_text()


def test_a_server_of_our_own_needs_none(environ: dict[str, str]) -> None:
    with pytest.raises(Performed):
        _perform(environ, target="embedded")


def test_a_known_failure_of_the_server_is_named_as_such() -> None:
    finding = Finding("I-4", "Redis notices a changed byte", Verdict.FAIL, "1 of 1 loaded", known="it checks no value")
    text = cli_drill.results_text([Done(Order(DRILLS["stop"], "embedded", "quick", 1), (finding, Finding("I-4", "We do", Verdict.PASS)))])
    assert "stop: PASS" in text
    assert "FAIL (known)  Redis notices a changed byte" in text
    assert "known of the server: it checks no value" in text
