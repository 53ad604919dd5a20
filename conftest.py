"""Options and markers of all tests.

Leaves out what needs a Docker engine where none answers, and says so in one line; where there has to be one, that is an error.
Leaves out the tests marked `nightly` unless `--nightly` is given. Marks the notebooks that measure, which run alone, and those that no
verification runs, which are nightly.
"""

import functools
import os
from pathlib import Path
from typing import Any

import pytest

from runbook.notebooks import FOLDER, NO_PROFILE, read_notebook
from runbook.targets import TargetError
from runbook.targets.docker import Docker

# Set to anything where nothing may be left out, as in CI.
REQUIRE_VARIABLE = "RUNBOOK_REQUIRE_ENGINE"
COMPOSE_TESTS = Path(__file__).parent / "tests" / "compose"

left_out: set[str] = set()

MARKERS = (
    "measures: measures time, so that nothing else of ours may run beside it",
    "nightly: a repetition, a full cross product or a long soak; runs with --nightly only",
    "covers_processes: the coverage measurement includes the processes that the test starts",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--nightly", action="store_true", help="run the tests marked `nightly` as well")


def pytest_configure(config: pytest.Config) -> None:
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.suffix == ".ipynb":
            notebook = read_notebook(item.path)
            if notebook.pace == "measures":
                item.add_marker("measures")
            if notebook.profile == NO_PROFILE:
                item.add_marker("nightly")
    if config.getoption("nightly"):
        return
    if deselected := [item for item in items if item.get_closest_marker("nightly")]:
        config.hook.pytest_deselected(items=deselected)
        items[:] = [item for item in items if not item.get_closest_marker("nightly")]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    of_compose = collection_path.is_relative_to(COMPOSE_TESTS)
    if not (of_compose or _needs_engine(collection_path)) or not (reason := _no_engine()):
        return None
    if os.environ.get(REQUIRE_VARIABLE):
        raise pytest.UsageError(f"{REQUIRE_VARIABLE} is set, and {reason}")
    left_out.add(str((COMPOSE_TESTS if of_compose else collection_path).relative_to(config.rootpath)))
    return True


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where several workers share the tests, they collect and the main process speaks."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = sorted(left_out)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    left_out.update(getattr(node, "workeroutput", {}).get("left_out", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if left_out:
        terminalreporter.write_line(f"left out {', '.join(sorted(left_out))}: {_no_engine().splitlines()[0]}")


def _needs_engine(path: Path) -> bool:
    return path.suffix == ".ipynb" and path.parent == FOLDER and read_notebook(path).default_target.startswith("compose")


@functools.cache
def _no_engine() -> str:
    """Say why there is no engine; empty if there is one."""
    try:
        Docker.find(os.environ)
    except TargetError as error:
        return str(error)
    return ""
