"""A notebook becomes a story within a page: below its headings, with ids of its own, and what looks like a tag in its text stays text."""

import json
import re
from pathlib import Path

from runbook.evidence.store import NOTEBOOK, RunFolder
from runbook.report.narrative import narrative

SOURCE = '# Kill it\n\n## How\n\n```html\n<h1 id="mine">as text</h1>\n```\n\n`<h2>`'


def _folder(path: Path) -> RunFolder:
    cells = [
        {"cell_type": "markdown", "id": "m1", "metadata": {}, "source": SOURCE},
        {"cell_type": "code", "id": "c1", "metadata": {}, "execution_count": 1, "outputs": [], "source": "book.verdict()"},
    ]
    (path / NOTEBOOK).write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return RunFolder(path, {})


def test_its_headings_are_lowered(tmp_path: Path) -> None:
    story = narrative(_folder(tmp_path), below=1)
    assert "<h1" not in story
    assert "<h2>Kill it</h2>" in story
    assert "<h3>How</h3>" in story


def test_its_ids_are_its_own(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    ids = [re.findall(r'<[^>]* id="([^"]*)"', narrative(folder, prefix=prefix)) for prefix in ("first-", "second-")]
    assert ids[0]
    assert not set(ids[0]) & set(ids[1])


def test_what_only_looks_like_a_tag_is_left_alone(tmp_path: Path) -> None:
    story = narrative(_folder(tmp_path), prefix="drill-", below=2)
    assert "&lt;h2&gt;" in story
    assert "mine" in story
    assert "drill-mine" not in story


def test_the_code_is_folded(tmp_path: Path) -> None:
    assert '<details class="code">' in narrative(_folder(tmp_path))


def test_a_notebook_that_never_started_tells_nothing(tmp_path: Path) -> None:
    assert narrative(RunFolder(tmp_path, {})) == ""
