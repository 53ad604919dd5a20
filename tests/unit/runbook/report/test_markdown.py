"""Text of others in Markdown shows as what it is, and marks nothing up."""

import html
import re

import mistune
import pytest

from runbook.report.markdown import escaped, table
from tests.unit.runbook.report.results import HOSTILE

render = mistune.create_markdown(escape=False, plugins=["table", "strikethrough", "url", "footnotes", "math"])

ALLOWED = {"table", "thead", "tbody", "tr", "th", "td", "p"}


def _tags(page: str) -> list[str]:
    return re.findall(r"<\s*/?\s*([a-zA-Z][a-zA-Z0-9]*)", page)


@pytest.mark.parametrize(
    "text",
    [
        "a | b",
        "`a | b`",
        "a \\| b \\\\| c",
        "`` ` ``",
        "<b>bold</b>",
        "<!-- comment",
        "**bold** __bold__ *it* _it_",
        "[text](https://evil.example)",
        "![alt](x.png)",
        "<https://evil.example>",
        "https://evil.example and www.evil.example",
        "me@evil.example",
        "~~gone~~",
        "$x^2$",
        "[^1]: note",
        "&lt;script&gt; &#60; &copy;",
        "\\<b\\>",
    ],
)
def test_a_text_comes_out_as_it_went_in(text: str) -> None:
    page = str(render("\n".join(table(["said"], [[escaped(text)]]))))
    assert set(_tags(page)) <= ALLOWED
    (cell,) = re.findall(r"<td>(.*?)</td>", page, re.DOTALL)
    assert html.unescape(cell) == text


def test_hostile_text_stays_in_its_cell() -> None:
    page = str(render("\n".join(table(["one", "two"], [[escaped(HOSTILE), "safe"], ["safe", escaped(HOSTILE)]]))))
    assert set(_tags(page)) <= ALLOWED
    assert page.count("<td>") == 4
    assert page.count("<td>safe</td>") == 2


def test_that_check_sees_what_is_not_escaped() -> None:
    page = str(render("\n".join(table(["one"], [["<b>bold</b> | `code`"]]))))
    assert not set(_tags(page)) <= ALLOWED


def test_lines_become_one_and_what_can_t_be_seen_is_replaced() -> None:
    assert escaped("a\n\n b\r\tc\x00\u202ed\ud800") == "a b c\ufffd\ufffdd\ufffd"


def test_what_is_too_long_is_cut_and_says_so() -> None:
    assert escaped("x" * 2000, most=10) == "xxxxxxxxxx … (cut off, 2,000 characters)"


def test_there_is_no_table_of_no_rows() -> None:
    assert table(["one"], []) == []
