"""The templates share what they have in common, and style nothing that no page holds."""

import re

from runbook.evidence.decision import Decision
from runbook.report.rendering import TEMPLATES

TEXTS = {path.name: path.read_text(encoding="utf-8") for path in sorted(TEMPLATES.rglob("*.j2"))}


def test_the_box_in_which_a_table_scrolls_is_written_once() -> None:
    assert [name for name, text in TEXTS.items() if 'class="scroll"' in text] == ["macros.html.j2"]


def test_each_class_that_every_page_styles_is_one_that_some_page_holds() -> None:
    style, _, rest = TEXTS["frame.html.j2"].partition("</style>")
    pages = "\n".join([rest, *(text for name, text in TEXTS.items() if name != "frame.html.j2")])
    held = {name for classes in re.findall(r'class="([^"]*)"', pages) for name in re.findall(r"[\w-]+", classes)}
    verdicts = {"PASS", "FAIL", "INCONCLUSIVE", "BROKEN", *Decision}
    assert set(re.findall(r"(?<![\d)])\.([A-Za-z][\w-]*)", style.partition("<style>")[2])) - held - verdicts == set()
