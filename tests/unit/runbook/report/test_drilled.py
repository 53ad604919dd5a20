"""What drills found, in one sentence: the same on their page and in the summary."""

import html
from pathlib import Path

import pytest

from runbook.evidence.store import PAGE, RESULT, RunFolder
from runbook.report.drilled import drills_sentence
from runbook.report.page import render
from runbook.report.summary import summary
from tests.unit.runbook.report.results import drills


@pytest.mark.parametrize("interrupted", [False, True])
def test_the_page_and_the_summary_say_the_same(tmp_path: Path, interrupted: bool) -> None:
    result = {**drills(), "interrupted": interrupted}
    RunFolder(tmp_path, {}).write_json(RESULT, result)
    render(tmp_path, tmp_path)
    said = drills_sentence(result)
    assert f">{html.escape(said)}</p>" in (tmp_path / PAGE).read_text(encoding="utf-8")
    assert summary(result).splitlines()[0] == said
