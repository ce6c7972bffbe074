"""Pages in a headless Chromium that is on the machine: none is downloaded.

DEPTHTOK_CHROMIUM names one; else the usual names are looked for. Without one, and without the
package `playwright`, the tests are skipped and say so.
"""

import os
import shutil
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
WIDTHS, SCHEMES = (1280, 390), ("light", "dark")
LIMIT = 2_000_000  # bytes of a page
OVERFLOW = "document.documentElement.scrollWidth - innerWidth"
BROKEN = """[...document.images].filter(i => !(i.complete && i.naturalWidth)).map(i => i.alt)"""
CLIPPED = """[...document.querySelectorAll('article *')].filter(e => {
  if (e.getBoundingClientRect().right <= innerWidth + 1) return false
  for (let box = e; box && box.tagName !== 'ARTICLE'; box = box.parentElement)
    if (['auto', 'scroll'].includes(getComputedStyle(box).overflowX)) return false
  return true
}).slice(0, 3).map(e => e.outerHTML.slice(0, 120))"""
SILENT = """[...document.querySelectorAll('img, svg')].filter(
  e => !(e.getAttribute('alt') || e.getAttribute('aria-label'))).map(e => e.outerHTML)"""


def executable() -> str | None:
    """A Chromium or Chrome; None where there is none."""
    paths = [os.environ.get("DEPTHTOK_CHROMIUM"), *map(shutil.which, NAMES)]
    return next((path for path in paths if path), None)


needed = pytest.mark.skipif(
    executable() is None or find_spec("playwright") is None,
    reason="NO PAGE IS OPENED: no Chromium (DEPTHTOK_CHROMIUM names one), or no playwright",
)


@cache
def browser():
    """A browser, and what stops it: one for the tests of a module."""
    from playwright.sync_api import sync_playwright

    playwright = sync_playwright().start()
    arguments = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    chromium = playwright.chromium.launch(executable_path=executable(), args=arguments)
    return chromium, playwright.stop


def close() -> None:
    """Ends the browser, if there is one: with it ends the event loop that it keeps running, under
    which nothing else of this thread can run one."""
    if browser.cache_info().currsize:
        chromium, stop = browser()
        browser.cache_clear()
        chromium.close()
        stop()


def opened(page: Path, width: int = 1280, scheme: str = "light", root: Path | None = None):
    """A tab that shows the page, and a list that fills with its errors and with what it asks for
    from elsewhere: from outside of `root`, if there is one."""
    tab = browser()[0].new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    wrong: list[str] = []
    tab.on("console", lambda message: wrong.append(f"console: {message.text}"))
    tab.on("pageerror", lambda error: wrong.append(f"script: {error}"))
    local = ((root or page).resolve().as_uri(), "data:")
    tab.on("request", lambda r: None if r.url.startswith(local) else wrong.append(r.url))
    tab.goto(page.resolve().as_uri())
    return tab, wrong


def faults(page: Path) -> list[str]:
    """What is wrong with a page: too large, errors, requests, images that do not load or have no
    text, and what is wider than the window, with all that is folded open."""
    problems = [f"{page.stat().st_size} bytes"] if page.stat().st_size > LIMIT else []
    for width in WIDTHS:
        for scheme in SCHEMES:
            tab, wrong = opened(page, width, scheme)
            beyond = [tab.evaluate(OVERFLOW)]
            tab.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
            beyond.append(tab.evaluate(OVERFLOW))
            problems += wrong + [
                f"at {width} px, {pixels} px too wide" for pixels in beyond if pixels > 0
            ]
            problems += [f"does not load: {alt}" for alt in tab.evaluate(BROKEN)]
            problems += [f"has no text: {element[:200]}" for element in tab.evaluate(SILENT)]
            tab.close()
    return problems


def site_faults(root: Path, pages: Iterable[Path], width: int = 390) -> dict[str, list[str]]:
    """What is wrong with pages of a site, by page: errors, requests to elsewhere, images that do
    not load, what is wider than the window, and what is cut off there instead of scrolling."""
    problems = {}
    for page in pages:
        tab, wrong = opened(page, width, root=root)
        if (pixels := tab.evaluate(OVERFLOW)) > 0:
            wrong.append(f"{pixels} px too wide")
        wrong += [f"does not load: {alt}" for alt in tab.evaluate(BROKEN)]
        wrong += [f"is cut off: {element}" for element in tab.evaluate(CLIPPED)]
        tab.close()
        if wrong:
            problems[page.relative_to(root).as_posix()] = wrong
    return problems
