"""The workflow for GitHub: valid, harmless, and in step with the command line and with the names of what it keeps."""

import importlib.resources
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator
from jsonschema.exceptions import best_match

from runbook import cli
from runbook.coverage import COVERAGE
from runbook.evidence.store import SUMMARY
from runbook.report.latest import COPIES, LATEST

REPOSITORY = Path(__file__).resolve().parents[3]
WORKFLOW = REPOSITORY / ".github" / "workflows" / "verify.yml"
CONTENT: dict[Any, Any] = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
TRIGGERS = CONTENT[True]  # YAML 1.1 takes `on` for a truth value
JOBS: dict[str, dict[str, Any]] = CONTENT["jobs"]
STEPS: list[dict[str, Any]] = [step for job in JOBS.values() for step in job["steps"]]
COMMANDS = [command.strip() for step in STEPS for command in re.split(r"&&|\n", step.get("run", "")) if command.strip()]
UPLOADS = [step for step in STEPS if "upload-artifact" in step.get("uses", "")]


def _complaint(content: dict[Any, Any]) -> str:
    """Hold a workflow against GitHub's schema, of which check-jsonschema carries a copy along."""
    schema = importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / "github-workflows.json"
    named = {"on" if key is True else key: value for key, value in content.items()}
    error = best_match(Draft7Validator(json.loads(schema.read_text(encoding="utf-8"))).iter_errors(named))
    return f"{error.json_path}: {error.message}" if error else ""


def test_it_is_a_workflow_as_github_describes_them() -> None:
    assert _complaint(CONTENT) == ""


@pytest.mark.parametrize(
    ("before", "after"),
    [("runs-on:", "run-on:"), ("timeout-minutes: 45", "timeout-minutes: soon"), ("uses:", "use:"), ("on:\n", "when:\n")],
)
def test_that_check_sees_what_is_wrong(before: str, after: str) -> None:
    text = WORKFLOW.read_text(encoding="utf-8")
    assert before in text
    assert _complaint(yaml.safe_load(text.replace(before, after)))


def test_it_runs_on_each_change_and_once_a_week() -> None:
    assert {"push", "pull_request", "schedule"} <= set(TRIGGERS)
    (cron,) = [entry["cron"] for entry in TRIGGERS["schedule"]]
    assert re.fullmatch(r"\d+ \d+ \* \* [0-6]", cron)


def test_it_may_do_nothing_but_read_and_always_ends() -> None:
    assert CONTENT["permissions"] == {"contents": "read"}
    assert CONTENT["concurrency"]["group"]
    assert all("permissions" not in job and 0 < job["timeout-minutes"] <= 120 for job in JOBS.values())


def test_every_action_is_github_s_own_and_pinned() -> None:
    actions = [step["uses"] for step in STEPS if "uses" in step]
    assert actions
    assert all(re.fullmatch(r"actions/[a-z-]+@(v\d+|[0-9a-f]{40})", action) for action in actions)


def test_what_it_runs_is_understood_by_the_command_line() -> None:
    lines = [re.sub(r"^sudo ", "", command) for command in COMMANDS]
    ours = [line.split()[1:] for line in lines if line.startswith(".venv/bin/runbook ")]
    parsed = [cli._parser().parse_args(arguments) for arguments in ours]
    assert {options.command for options in parsed} == {cli.verify_command}
    assert {str(options.runs) for options in parsed} == {"runs"}
    assert [(options.target, options.profile) for options in parsed] == [("compose", "default")]


def test_what_it_makes_is_in_the_makefile() -> None:
    made = [found[1] for command in COMMANDS if (found := re.match(r"(?:sudo --preserve-env )?make (\S+)", command))]
    targets = re.findall(r"^(\S+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {"test", "nightly", ".venv/runtime"} <= set(made) <= set(targets)


def test_nothing_hides_an_exit_status() -> None:
    assert all("continue-on-error" not in part for part in (*STEPS, *JOBS.values()))
    assert not any("||" in command or ";" in command for command in COMMANDS)


def test_what_it_keeps_is_what_is_written() -> None:
    """A name that is written no more would else be found out by an empty artefact, on the day on which somebody needs it."""
    paths = [path for step in UPLOADS for path in step["with"]["path"].split()]
    assert {"runs/", "screenshots/", COVERAGE} < set(paths)
    views = set(paths) - {"runs/", "screenshots/", COVERAGE}
    assert views <= {f"runs/{LATEST}/{copy}" for copy in COPIES.values()}
    assert {f"runs/{LATEST}/{COPIES[name]}" for name in ("index.html", "junit.xml")} <= views
    shown = [command for command in COMMANDS if "GITHUB_STEP_SUMMARY" in command]
    assert shown == [f'cat runs/{LATEST}/{SUMMARY} >> "$GITHUB_STEP_SUMMARY"'] * 2


def test_a_verification_is_told_what_the_tests_cover() -> None:
    """Without it no page that it keeps could ever be accepted."""
    assert JOBS["verify"]["needs"] == "test"
    (taken,) = [step for step in JOBS["verify"]["steps"] if "download-artifact" in step.get("uses", "")]
    (kept,) = [step for step in JOBS["test"]["steps"] if step in UPLOADS and step["with"]["path"] == COVERAGE]
    assert taken["with"]["name"] == kept["with"]["name"]
    assert JOBS["verify"]["if"] == "${{ !cancelled() }}"  # and all else is verified where they fail


def test_it_keeps_and_shows_what_failed_too() -> None:
    shows = [step for step in STEPS if "GITHUB_STEP_SUMMARY" in step.get("run", "")]
    assert all(step["if"] == "always()" for step in (*UPLOADS, *shows))
    assert all(step["with"]["if-no-files-found"] == "error" for step in UPLOADS)
    names = [step["with"]["name"] for step in UPLOADS]
    assert len(set(names)) == len(names) >= len(JOBS)
