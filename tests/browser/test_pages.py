"""Each page as its readers meet it: on a telephone and a wide screen, light and dark, by keyboard, read aloud, printed, from an e-mail."""

from pathlib import Path

import pytest

from tests.browser import checks
from tests.browser.conftest import NARROW, WIDE, Look, Opened, View
from tests.browser.pages import PAGES, content

VIEWS = [View(size, scheme) for size in (NARROW, WIDE) for scheme in ("light", "dark")]
EACH_VIEW = pytest.mark.parametrize("view", VIEWS, ids=str)
EACH_SIZE = pytest.mark.parametrize("view", [View(NARROW), View(WIDE)], ids=str)


@pytest.fixture(scope="module", params=PAGES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def opened(name: str, look: Look) -> Opened:
    return look(content(name))


def test_it_asks_for_nothing_complains_of_nothing_and_fits_into_an_email(name: str, opened: Opened) -> None:
    assert opened.requests == checks.references(opened.page) == []
    assert opened.complaints == []
    assert len(content(name)) < checks.MOST_BYTES


@EACH_VIEW
def test_the_sentence_is_on_the_first_screen_and_the_page_is_as_wide_as_the_screen(
    name: str, opened: Opened, view: View, screenshots: Path
) -> None:
    page = view.of(opened.page)
    page.screenshot(path=screenshots / f"{name}-{view}.png")
    assert checks.sentence_on_first_screen(page) == []
    assert checks.overflow(page) == []


def test_axe_finds_nothing_serious(opened: Opened) -> None:
    """Every rule once, and those on which the screen has a bearing with the other width and the other colours as well."""
    assert checks.accessibility(View(NARROW, "light").of(opened.page)) == []
    assert checks.accessibility(View(WIDE, "dark").of(opened.page), checks.OF_THE_SCREEN) == []


def test_landmarks_headings_tables_and_pictures_can_be_read_aloud(opened: Opened) -> None:
    assert checks.structure(opened.page) == []


@EACH_SIZE
def test_the_tab_key_follows_the_reading_and_shows_where_it_is(opened: Opened, view: View) -> None:
    assert checks.tab_order(view.of(opened.page)) == []


def test_without_scripts_the_same_can_be_read(name: str, opened: Opened, look: Look) -> None:
    opened.page.reload()
    assert look(content(name), scripts=False).page.inner_text("body") == opened.page.inner_text("body")


def test_on_paper_all_is_there_but_the_code(opened: Opened) -> None:
    assert checks.printed(View(WIDE, "dark").of(opened.page)) == []


def test_it_heeds_who_wants_colours_of_his_own_and_no_motion(opened: Opened) -> None:
    page = View(WIDE).of(opened.page)
    assert checks.forced_colours(page) == []
    assert checks.motion(page) == []
