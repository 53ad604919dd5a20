"""Each check of a page catches what it is for: a good page passes all of them, and each bad one fails the one that it is bad for."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.browser import checks
from tests.browser.conftest import NARROW, Look

GOOD = """<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Good</title>
<link rel="icon" href="data:,"><style>:focus-visible { outline: 3px solid #0b57a4; } .scroll { overflow-x: auto; }
@media print { .scroll { overflow: visible; } .skip, details.code { display: none; } /*print*/ } /*style*/</style></head>
<body><a class="skip" href="#content">Skip to content</a><header><h1>A page</h1><p class="sentence">PASS: all of it.</p></header>
<main id="content" tabindex="-1"><h2 id="numbers">Numbers</h2><p>Prose with <a href="#numbers">a link</a>.</p>
<div class="scroll" role="region" tabindex="0" aria-label="Numbers"><table><thead><tr><th scope="col">a</th></tr></thead>
<tbody><tr><td>1</td></tr></tbody></table></div>
<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=" width="9" height="9" alt="Nobody was served for a second.">
<details class="code"><summary>code</summary><pre>x = 1</pre></details></main><footer><p>Run 1.</p></footer></body></html>"""


def printed_on_dark(page: Page) -> list[str]:
    page.emulate_media(color_scheme="dark")
    return checks.printed(page)


CHECKS: dict[str, Callable[[Page], list[str]]] = {
    "references": checks.references,
    "sentence": checks.sentence_on_first_screen,
    "overflow": checks.overflow,
    "structure": checks.structure,
    "tab order": checks.tab_order,
    "print": printed_on_dark,
    "motion": checks.motion,
    "forced colours": checks.forced_colours,
    "accessibility": checks.accessibility,
    "touch": lambda page: checks.accessibility(page, checks.OF_THE_SCREEN),
}
# The check, what of the good page is replaced, by what, and a part of the complaint.
BAD = [
    ("references", "data:,", "https://redis.io/favicon.ico", "link href"),
    ("references", "/*style*/", "@font-face { font-family: x; src: url(https://redis.io/x.woff2); }", "x.woff2"),
    ("references", "/*style*/", "@import 'other.css';", "other.css"),
    ("references", "</main>", "<img src='../plot.png' alt='A plot of what happened.'></main>", "plot.png"),
    ("references", "</main>", "<script src='//redis.io/x.js'></script></main>", "script src"),
    ("references", "</main>", "<iframe srcdoc='x'></iframe></main>", "<iframe>"),
    ("sentence", 'class="sentence"', "", "there is no sentence"),
    ("sentence", 'class="sentence"', 'class="sentence" hidden', "hidden"),
    ("sentence", 'class="sentence"', 'class="sentence" style="margin-top: 800px"', "not in the first screen"),
    ("sentence", 'class="sentence"', 'class="sentence" style="height: 5px; overflow: hidden"', "clipped"),
    ("sentence", "<h1>", '<div style="position: fixed; inset: 0; background: red"></div><h1>', "covered"),
    ("overflow", "Prose", "<span style='display: block; width: 500px'>Prose</span>", "reaches 5"),
    ("overflow", 'class="scroll"', "class='x'", "", "<td>1", "<td style='min-width: 500px'>1"),
    ("structure", "<h1>A page</h1>", "", "0 of h1"),
    ("structure", '<h2 id="numbers">Numbers</h2>', '<h1 id="numbers">Numbers</h1>', "2 of h1"),
    ("structure", '<h2 id="numbers">Numbers</h2>', '<h3 id="numbers">Numbers</h3>', "follows <h1>"),
    ("structure", "<main id", "<div id", "0 of body > main"),
    ("structure", ' alt="Nobody was served for a second."', "", "a picture says only"),
    ("structure", "Nobody was served for a second.", "persistence-drill-7.png", "a picture says only"),
    ("structure", "Nobody was served for a second.", "No description has been provided for this image", "a picture says only"),
    ("structure", ' scope="col"', "", "without scope"),
    ("structure", ' tabindex="0"', "", "no keyboard reaches"),
    ("structure", ' aria-label="Numbers"', "", "no name"),
    ("structure", 'class="scroll"', "", "in no box"),
    ("structure", 'href="#numbers">a link', 'href="#gone">a link', "not there"),
    ("structure", 'id="numbers"', 'id="content"', "twice"),
    ("tab order", '<a class="skip" href="#content">Skip to content</a>', "", "does not skip"),
    ("tab order", "3px solid #0b57a4", "none", "has no ring"),
    ("tab order", "<footer><p>", '<footer><p><a href="#content" style="opacity: 0">x</a>', "out of sight"),
    ("tab order", "</footer>", '<a href="#content" tabindex="1">first</a></footer>', ""),
    ("print", "/*print*/", ".sentence { display: none; }", "PASS: all of it. is hidden"),
    ("print", "</main>", "<details><summary>more</summary><p>what decided it</p></details></main>", "what decided it is hidden"),
    ("print", "details.code { display: none; }", "", "is printed"),
    ("print", "/*print*/", "thead { display: table-row-group; }", "not repeated"),
    ("print", ".scroll { overflow: visible; }", "", "cut off"),
    ("print", "<td>1", f"<td>{'x' * 200}", "px wide, and the paper"),
    ("print", "/*style*/", "body { background: #14181f; }", "the paper is"),
    ("motion", "/*style*/", ".sentence { transition: opacity 1s; }", "moves"),
    ("forced colours", "/*style*/", ".sentence { forced-color-adjust: none; }", "keeps its own colours"),
    ("accessibility", "/*style*/", "main p { color: #bbb; }", "color-contrast"),
    ("accessibility", "x = 1", '<span style="color: #ccc">folded</span>', "color-contrast"),
    ("touch", "<summary>code", "<summary style='font-size: 9px; width: 3em'>code</summary></details><details><summary>more", "target-size"),
    ("accessibility", ' alt="Nobody was served for a second."', "", "image-alt"),
]


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    """One page that shows in turn what is given to it; those who must come from a file are opened with `look`."""
    with browser.new_context(viewport={"width": NARROW[0], "height": NARROW[1]}, offline=True) as context:
        yield context.new_page()


def _show(page: Page, html: str) -> Page:
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": NARROW[0], "height": NARROW[1]})
    page.goto("about:blank")
    page.set_content(html, wait_until="domcontentloaded")
    return page


@pytest.mark.parametrize("name", CHECKS)
def test_a_good_page_passes(name: str, page: Page) -> None:
    assert CHECKS[name](_show(page, GOOD)) == []


@pytest.mark.parametrize(("name", "good", "bad", "complaint", "more"), [(*case[:4], case[4:]) for case in BAD])
def test_a_bad_page_is_caught(name: str, good: str, bad: str, complaint: str, more: tuple[str, ...], page: Page) -> None:
    assert good in GOOD
    complaints = CHECKS[name](_show(page, GOOD.replace(good, bad).replace(*(more or ("", "")))))
    assert complaints
    assert complaint in "\n".join(complaints)


@pytest.mark.parametrize(
    "bad", ["<img src='https://redis.io/x.png' alt=''>", "<style>p { background: url(https://redis.io/y.png) }</style>"]
)
def test_a_request_is_seen_and_refused(bad: str, look: Look) -> None:
    assert look(GOOD.replace("</main>", bad).encode()).requests[0].startswith("https://redis.io/")


def test_a_file_beside_it_is_a_request_too(look: Look) -> None:
    assert look(GOOD.replace("data:,", "style.css").replace("icon", "stylesheet").encode()).requests[0].endswith("/style.css")


@pytest.mark.parametrize("bad", ["console.warn('odd')", "undefined_function()"])
def test_a_complaint_of_the_console_is_seen(bad: str, look: Look) -> None:
    assert look(GOOD.replace("</main>", f"<script>{bad}</script>").encode()).complaints


def test_what_only_a_script_shows_is_missing_without_scripts(look: Look) -> None:
    html = GOOD.replace("</main>", "<p id='late'></p><script>document.getElementById('late').textContent = 'FAIL'</script></main>").encode()
    assert "FAIL" in look(html).page.inner_text("body")
    assert "FAIL" not in look(html, scripts=False).page.inner_text("body")
