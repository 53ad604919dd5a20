"""What the tests cover decides a criterion, as long as the code is the one that was tested."""

import json
from pathlib import Path

import pytest

from runbook.coverage import COVERAGE, coverage_finding, note
from runbook.evidence import Verdict


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for package in ("cachelib", "runbook"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "code.py").write_text("print('tested')\n")
    return tmp_path


def _note(root: Path, percent: float) -> None:
    report = root / "report.json"
    report.write_text(json.dumps({"totals": {"percent_covered": percent, "num_statements": 8000, "num_branches": 2000}}))
    note(report, root)


@pytest.mark.parametrize(("percent", "verdict"), [(93.4, Verdict.PASS), (80.01, Verdict.PASS), (80.0, Verdict.FAIL), (12.0, Verdict.FAIL)])
def test_it_takes_more_than_eighty_percent(root: Path, percent: float, verdict: Verdict) -> None:
    _note(root, percent)
    finding = coverage_finding(root)
    assert finding
    assert (finding.criterion, finding.verdict) == ("D-1", verdict)
    assert finding.measured[0].value == percent


def test_code_that_was_never_tested_is_not_examined(root: Path) -> None:
    assert coverage_finding(root) is None


@pytest.mark.parametrize("change", ["edit", "add", "remove", "rename"])
def test_code_that_was_changed_since_is_not_examined(root: Path, change: str) -> None:
    _note(root, 99.0)
    code = root / "runbook" / "code.py"
    {
        "edit": lambda: code.write_text("print('edited')\n"),
        "add": lambda: (root / "cachelib" / "new.py").write_text(""),
        "remove": code.unlink,
        "rename": lambda: code.rename(root / "runbook" / "renamed.py"),
    }[change]()
    assert coverage_finding(root) is None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"percent_covered": "many"}', "no json"])
def test_what_cannot_be_read_decides_nothing(root: Path, content: str) -> None:
    (root / COVERAGE).write_text(content)
    finding = coverage_finding(root)
    assert finding
    assert finding.verdict is Verdict.INCONCLUSIVE
