"""A browser and servers on loopback; without chromium or playwright all of this is skipped."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.proxy import serving

PATIENCE_S = 300
"""Of each wait, and half of each test's: a limit for what never comes, not for a machine that is busy."""
NAMES = ("chromium", "chromium-browser", "google-chrome")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(2 * PATIENCE_S))


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Start a proxy; it ends with the test."""
    with ExitStack() as stack:
        yield lambda sgd, **options: stack.enter_context(serving(sgd, **options))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One chromium for all tests of a file: while it is open, no other event loop can run here."""
    api = pytest.importorskip("playwright.sync_api", reason="`make browser` installs playwright")
    chromium = next(filter(None, map(shutil.which, NAMES)), None)
    if chromium is None:
        pytest.skip("there is no chromium on this machine")
    with api.sync_playwright() as playwright:
        # Without its sandbox it runs as root too; it sees nothing but our own pages.
        launched = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox"], timeout=1000 * PATIENCE_S
        )
        yield launched
        launched.close()


def opened(page: Any, url: str) -> Any:
    """The page at this URL, ready to be asked."""
    page.set_default_timeout(1000 * PATIENCE_S)
    page.goto(url)
    page.wait_for_selector("#model option", state="attached")
    return page


@pytest.fixture
def new_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """A page that fails its test for errors in the console and for requests elsewhere."""
    problems: list[str] = []

    def heard(said: Any) -> None:
        if said.type == "error":
            problems.append(said.text)

    def asked(url: str, request: Any) -> None:
        if not request.url.startswith((url, "data:", "blob:")):
            problems.append(f"asked for {request.url}")

    with ExitStack() as stack:

        def make(url: str, **options: Any) -> Any:
            context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **options})
            stack.callback(context.close)
            page = context.new_page()
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on("console", heard)
            page.on("request", functools.partial(asked, url))
            return opened(page, url)

        yield make
    assert problems == []
