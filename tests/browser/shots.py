"""Pictures of the page, to be looked at: `python -m tests.browser.shots FOLDER [NAME ...]`."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from langchain_sgd.runnable import SGDRunnable
from tests.browser import scenes
from tests.browser.conftest import NAMES, opened
from tests.browser.test_page import PHONE, ask, ended, shown
from tests.support.proxy import serving

SAMPLES = ("How do tides work?", scenes.QUESTION)
PACE_S = 0.02


def _empty(_: Any) -> None:
    pass


def _done(page: Any) -> None:
    ask(page)
    ended(page)


def _plain(page: Any) -> None:
    page.select_option("#model", "plain")
    _done(page)


def _race(page: Any) -> None:
    ask(page, race=True)
    ended(page)


def _turn(page: Any) -> None:
    """A race whose second run is being written."""
    ask(page, race=True)
    page.wait_for_function(
        "() => [...document.querySelectorAll('.answer')].filter((a) => a.textContent.length > 300).length === 2"
    )


def _twenty(page: Any) -> None:
    ask(page, "Twenty parts?")
    ended(page)


def _history(page: Any) -> None:
    _race(page)
    _plain(page)
    page.reload()
    page.click("#runs button >> nth=1")  # the race
    ended(page)


def _list(page: Any) -> None:
    _race(page)
    _plain(page)
    page.reload()
    page.wait_for_selector("#runs button")


def _options(page: Any) -> None:
    page.click("summary")


def _writing(page: Any, stage: scenes.ByHand) -> None:
    ask(page)
    stage.let("planner", 100)
    stage.let("2", 1000)
    stage.let("1", 16)
    stage.let("5", 5)
    shown(page, complete=1, running=3, waiting=2)
    page.wait_for_function("() => document.querySelector('.answer').textContent.length > 60")
    page.wait_for_timeout(800)  # so that the bars have a length


def _report(page: Any) -> None:
    _race(page)
    with page.expect_download() as saved:
        page.click("#save")
    file = Path(saved.value.path()).rename(Path(saved.value.path()).with_suffix(".html"))
    page.goto(file.as_uri())


Do = Callable[[Any], None]
SHOTS: Mapping[str, tuple[Callable[[], SGDRunnable], Do]] = {
    "empty": (scenes.travel, _empty),
    "options": (scenes.travel, _options),
    "plain": (lambda: scenes.travel(PACE_S), _plain),
    "done": (lambda: scenes.travel(PACE_S), _done),
    "race": (lambda: scenes.travel(PACE_S), _race),
    "race-turn": (lambda: scenes.travel(PACE_S), _turn),
    "failing": (lambda: scenes.failing(PACE_S), _done),
    "twenty": (lambda: scenes.twenty(PACE_S), _twenty),
    "injecting": (scenes.injecting, _done),
    "history": (lambda: scenes.travel(PACE_S), _history),
    "list": (lambda: scenes.travel(PACE_S), _list),
    "report": (lambda: scenes.travel(PACE_S), _report),
}
LOOKS: Mapping[str, Mapping[str, Any]] = {
    "": {"viewport": {"width": 1440, "height": 900}},
    "-dark": {"viewport": {"width": 1440, "height": 900}, "color_scheme": "dark"},
    "-phone": PHONE,
}


def main(folder: Path, names: list[str]) -> None:
    """Make the pictures of these names, or all."""
    folder.mkdir(parents=True, exist_ok=True)
    chromium = next(filter(None, map(shutil.which, NAMES)))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])

        def shoot(name: str, sgd: SGDRunnable, do: Do, look: str) -> None:
            if names and f"{name}{look}" not in names:
                return
            with serving(sgd, samples=SAMPLES) as url:
                context = browser.new_context(**LOOKS[look])
                page = opened(context.new_page(), url)
                do(page)
                page.screenshot(path=folder / f"{name}{look}.png", full_page=True)
                context.close()

        for look in LOOKS:
            for name, (sgd, do) in SHOTS.items():
                shoot(name, sgd(), do, look)
            stage = scenes.ByHand()
            stage.hold("planner", "1", "2", "3", "5")
            shoot("writing", scenes.travel(0, stage=stage), partial(_writing, stage=stage), look)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
