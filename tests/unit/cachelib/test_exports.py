"""What `import cachelib` gives, and what it costs."""

import subprocess
import sys
from pathlib import Path

import pytest

import cachelib

REPOSITORY = Path(__file__).resolve().parents[3]


def test_exported_names_are_sorted() -> None:
    assert list(cachelib.__all__) == sorted(cachelib.__all__)


@pytest.mark.parametrize("name", cachelib.__all__)
def test_exported_name_is_importable_and_explains_itself(name: str) -> None:
    assert getattr(cachelib, name).__doc__


def test_every_public_name_of_the_package_is_exported() -> None:
    modules = {path.stem for path in (REPOSITORY / "cachelib").glob("*.py")}
    public = {name for name in vars(cachelib) if not name.startswith("_")} - modules
    assert public == set(cachelib.__all__) - modules


def test_the_imported_package_is_the_one_of_this_repository() -> None:
    """The package index holds another package of the same name."""
    assert Path(cachelib.__file__).resolve() == REPOSITORY / "cachelib" / "__init__.py"


def test_import_pulls_in_nothing_of_the_runbook_and_of_the_health_endpoint() -> None:
    heavy = ("pandas", "matplotlib", "papermill", "IPython", "runbook", "cachelib.asgi", "cachelib.metrics", "granian", "prometheus_client")
    program = f"import sys, cachelib; print(*[name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=30)
    assert result.stdout.split() == []
