"""What `import runbook` gives and costs, and that every package hands on what it says."""

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import runbook

REPOSITORY = Path(__file__).resolve().parents[3]
PACKAGES = ["runbook", *(module.name for module in pkgutil.walk_packages(runbook.__path__, "runbook.") if module.ispkg)]
EXPORTS = [(name, export) for name in PACKAGES for export in getattr(importlib.import_module(name), "__all__", ())]

# Each of them takes longer to import than a command like `runbook list` should take as a whole.
HEAVY = ("pandas", "matplotlib", "nbconvert", "papermill")


def _order(name: str) -> tuple[int, str]:
    """CONSTANTS, then Classes, then functions and modules, as isort has it."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


@pytest.mark.parametrize("package", PACKAGES)
def test_exported_names_are_sorted_and_named_once(package: str) -> None:
    names = list(getattr(importlib.import_module(package), "__all__", ()))
    assert names == sorted(set(names), key=_order)


@pytest.mark.parametrize(("package", "name"), EXPORTS)
def test_each_exported_name_can_be_imported(package: str, name: str) -> None:
    assert getattr(importlib.import_module(package), name) is not None


@pytest.mark.parametrize("name", runbook.__all__)
def test_what_a_notebook_calls_explains_itself(name: str) -> None:
    assert getattr(runbook, name).__doc__


def test_a_notebook_finds_what_it_calls() -> None:
    assert {"latency", "open", "percentiles", "persistence", "setup", "timeline"} <= set(runbook.__all__)


def test_a_name_that_there_is_not_is_an_ordinary_error() -> None:
    with pytest.raises(AttributeError, match="module 'runbook' has no attribute 'opne'"):
        runbook.opne  # noqa: B018


@pytest.mark.parametrize(
    "statement", ["import runbook", "import runbook.cli", "import runbook.cleanup", "import runbook.evidence.notebook"]
)
def test_what_the_command_line_needs_is_imported_without_the_heavy_packages(statement: str) -> None:
    program = f"import sys; {statement}; print(*[name for name in {HEAVY} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.split() == []


@pytest.mark.parametrize("name", ["persistence", "timeline"])
def test_a_name_resolves_in_a_fresh_interpreter_whichever_comes_first(name: str) -> None:
    """The names are loaded on first use, so an import circle would show only for whoever comes first."""
    program = f"from runbook import {name}; print({name})"
    result = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr


def test_the_imported_package_is_the_one_of_this_repository() -> None:
    assert Path(runbook.__file__).resolve() == REPOSITORY / "runbook" / "__init__.py"
