"""A Chromium that is installed, and pages opened in it as from an e-mail: each alone in a folder, without network."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, Route, sync_playwright

from runbook.evidence.store import EvidenceError
from runbook.report.pdf import find_chromium

# Set to anything where no test may be left out, as in CI.
REQUIRE_VARIABLE = "RUNBOOK_REQUIRE_BROWSER"
SCREENSHOTS_VARIABLE = "RUNBOOK_SCREENSHOTS"

NARROW, WIDE = (360, 740), (1440, 900)


@dataclass(frozen=True, slots=True)
class View:
    """How a reader looks at a page: width and height in px, and `light` or `dark`."""

    size: tuple[int, int]
    scheme: Literal["light", "dark"] = "light"

    def __str__(self) -> str:
        return f"{self.size[0]}-{self.scheme}"

    def of(self, page: Page) -> Page:
        """Look at a page anew, with nothing focused and nothing unfolded."""
        page.set_viewport_size({"width": self.size[0], "height": self.size[1]})
        page.emulate_media(color_scheme=self.scheme)
        page.goto(page.url)  # a reload would scroll to where it was
        return page


@dataclass(slots=True)
class Opened:
    """An open page, what it asked for besides itself, and what it complained of."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


Look = Callable[..., Opened]


@pytest.fixture(scope="session")
def chromium() -> str:
    try:
        return find_chromium(os.environ)
    except EvidenceError as error:
        if os.environ.get(REQUIRE_VARIABLE):
            raise pytest.UsageError(f"{REQUIRE_VARIABLE} is set, and {error}") from error
        pytest.skip(f"there is no Chromium to look at the pages with: {error}")


# Not for longer: while it is open, its event loop runs in this thread, and no other test could start one of its own.
@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, chromium_sandbox=os.geteuid() != 0)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def look(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Look]:
    """Open HTML as a reader would who got it alone; what it asks for is written down, and refused."""
    contexts = []

    def open_page(html: bytes, *, scripts: bool = True) -> Opened:
        moved = tmp_path_factory.mktemp("moved") / "page.html"
        moved.write_bytes(html)
        context = browser.new_context(java_script_enabled=scripts)
        contexts.append(context)
        context.set_default_timeout(20_000)
        opened = Opened(context.new_page())

        def answer(route: Route) -> None:
            if route.request.url.partition("#")[0] == moved.as_uri():
                route.continue_()
            else:
                opened.requests.append(route.request.url)
                route.abort()

        context.route("**/*", answer)
        opened.page.on("console", lambda message: opened.complaints.append(f"{message.type}: {message.text}"))
        opened.page.on("pageerror", lambda error: opened.complaints.append(f"error: {error}"))
        opened.page.goto(moved.as_uri())
        return opened

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures of the pages are kept."""
    named = os.environ.get(SCREENSHOTS_VARIABLE)
    folder = Path(named) if named else tmp_path_factory.getbasetemp() / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
