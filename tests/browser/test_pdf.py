"""A page printed by a real Chromium: all pages are there on A4, with the sentence, and without a path of this machine."""

import html
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from runbook.report.pdf import CHROMIUM_VARIABLE, print_page
from tests.browser.conftest import REQUIRE_VARIABLE
from tests.browser.pages import content


@pytest.fixture(scope="module")
def pdf(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("pdf") / "page.pdf"
    file.write_bytes(print_page(content("verification").decode(), {**os.environ, CHROMIUM_VARIABLE: chromium}))
    return file


def _told(program: str, *arguments: object) -> str:
    if not shutil.which(program):
        if os.environ.get(REQUIRE_VARIABLE):
            raise pytest.UsageError(f"{REQUIRE_VARIABLE} is set, and there is no {program}: install poppler-utils")
        pytest.skip(f"there is no {program}, which is in poppler-utils")
    return subprocess.run([program, *map(str, arguments)], check=True, capture_output=True, text=True).stdout


def _words(text: str) -> str:
    """What is read of HTML or of text, without blanks and hyphens, since lines break elsewhere on paper."""
    return re.sub(r"[\s-]", "", html.unescape(re.sub(r"<[^>]*>", " ", text)))


def test_it_is_several_pages_of_a4_with_the_title_of_the_page(pdf: Path) -> None:
    told = _told("pdfinfo", pdf)
    assert int(re.findall(r"Pages: *(\d+)", told)[0]) > 5
    assert "A4" in told
    assert re.search(r"Title: +Redis runbook", told)


def test_its_first_page_holds_the_sentence_and_the_rest_the_stories_without_code(pdf: Path) -> None:
    sentence = re.findall(r'(?s)<p class="sentence[^>]*>(.*?)</p>', content("verification").decode())[0]
    assert _words(sentence) in _words(_told("pdftotext", "-l", 1, pdf, "-"))
    text = _told("pdftotext", pdf, "-")
    assert _words("Stop and kill Redis under load, and account for every write") in _words(text)
    assert "import runbook" not in text
    assert "Skip to content" not in text


def test_what_folds_is_unfolded_on_paper(pdf: Path) -> None:
    folded = re.findall(r'(?s)<details class="more">.*?</summary>\s*<div><span[^>]*>.*?</span>(.*?)<', content("verification").decode())
    printed = _words(_told("pdftotext", "-raw", pdf, "-"))
    assert folded
    assert [claim for claim in folded if _words(claim) not in printed] == []


def test_no_path_of_this_machine_is_in_it(pdf: Path) -> None:
    assert b"file:" not in pdf.read_bytes()
    assert "file:///" not in _told("pdftotext", pdf, "-")
