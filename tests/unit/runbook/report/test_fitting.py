"""A notebook fitted into a page: headings below the page's own, no id twice, tables in boxes, all else as it was."""

import re
import shutil
from pathlib import Path

import pytest

from runbook.evidence.store import NOTEBOOK, RunFolder
from runbook.notebooks import Notebook, list_notebooks
from runbook.report.fitting import fitted
from runbook.report.narrative import narrative


def _levels(body: str) -> list[str]:
    return re.findall(r"<(h\d)\b", body)


class TestHeadings:
    def test_the_title_is_left_out_where_the_page_has_it(self) -> None:
        assert fitted("<h1>Title <em>x</em></h1><p>p</p><h2>Section</h2>", titled=False) == "<p>p</p><h2>Section</h2>"

    def test_sections_go_below_the_heading_that_stands_above_the_notebook(self) -> None:
        assert fitted("<h2>a</h2><h3>b</h3><h6>c</h6>", below=2) == "<h4>a</h4><h5>b</h5><h6>c</h6>"

    def test_a_second_title_is_a_section_and_not_lost(self) -> None:
        assert fitted("<h1>a</h1><h1>b</h1>", below=1, titled=False) == "<h2>b</h2>"

    def test_attributes_stay(self) -> None:
        assert fitted('<h2 id="a" title="&quot;x&quot; &amp; y">a</h2>', below=1) == ('<h3 id="a" title="&quot;x&quot; &amp; y">a</h3>')


class TestTables:
    def test_a_table_scrolls_in_a_box_that_the_keyboard_reaches_and_that_is_named_by_its_caption(self) -> None:
        body = fitted("<table><caption>Lost &amp; found</caption><tr><td>1</td></tr></table>", prefix="setup-")
        assert body == (
            '<div class="scroll" tabindex="0" role="region" aria-label="setup table 1: Lost &amp; found">'
            "<table><caption>Lost &amp; found</caption><tr><td>1</td></tr></table></div>"
        )

    def test_no_two_boxes_bear_the_same_name(self) -> None:
        labels = re.findall('aria-label="([^"]*)"', fitted("<table></table><table></table>", prefix="setup-"))
        assert labels == ["setup table 1", "setup table 2"]

    def test_a_quote_in_a_caption_does_not_end_the_name(self) -> None:
        assert 'aria-label="setup table 1: a &quot;b"' in fitted('<table><caption>a "b</caption></table>', prefix="setup-")

    def test_headings_of_a_table_say_that_they_head_a_column(self) -> None:
        assert '<th scope="col">a</th><th scope="row">b</th>' in fitted('<table><th>a</th><th scope="row">b</th></table>', prefix="setup-")


@pytest.mark.parametrize(
    "body",
    [
        "<p>a &lt;b&gt; &#8212; &nbsp; <br/>c<br></p>",
        '<img src="data:image/png;base64,AAAA" alt="1 &lt; 2"/>',
        '<svg viewBox="0 0 1 1"><path d="M0 0"/></svg>',
        "<details class=\"code\"><summary>code</summary><pre>if a &lt; b: 'x'</pre></details>",
    ],
)
def test_what_needs_no_fitting_is_handed_on_as_it_is(body: str) -> None:
    assert fitted(body, below=1) == body


def test_ids_and_the_links_to_them_are_told_from_those_of_another_notebook() -> None:
    assert fitted('<a href="#a">a</a><a href="https://redis.io/#a">b</a><p id="a">c</p>', prefix="setup-") == (
        '<a href="#setup-a">a</a><a href="https://redis.io/#a">b</a><p id="setup-a">c</p>'
    )


@pytest.mark.parametrize("notebook", list_notebooks(), ids=lambda notebook: notebook.name)
def test_each_committed_notebook_fits_below_a_heading_of_the_third_level(notebook: Notebook, tmp_path: Path) -> None:
    shutil.copy(notebook.path, tmp_path / NOTEBOOK)
    body = narrative(RunFolder(tmp_path, {}), prefix=f"{notebook.name}-", below=2, titled=False)
    assert set(_levels(body)) == {"h4"}
    assert body.count("<table") == body.count('<div class="scroll"') == body.count("</table></div>") > 0
    assert not re.findall(rf'id="(?!{notebook.name}-)', body)
