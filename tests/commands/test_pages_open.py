"""Every kind of page (page_kinds.py), opened in a headless Chromium at both widths, light and dark:
no error, nothing wider than a telephone, no image that does not load, and a slider that works."""

import re
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

from depthtok.pages.colour import code_colours
from depthtok.stores.codes import CodeStore
from depthtok.stores.episodes import EpisodeStore
from tests.browser import faults, needed, opened
from tests.commands import page_kinds
from tools.demo_picture import GAP, HEAD, SIDE, draw

VIEWS = ["camera image", "depth", "codes", "depth decoded from the codes"]
KINDS = [kind for kinds in page_kinds.KINDS.values() for kind in kinds]
CODE_NAME = re.compile(r"\b(?:val|proprio|codes|disparity|metres|flips|constant)[_.][a-z]\w*")
"""Names of keys in files, which no heading, caption or axis shows."""


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    """Pages by what they are of."""
    return page_kinds.written_pages(tmp_path_factory.mktemp("pages"))


def test_every_function_that_begins_a_page_has_its_kinds(pages):
    assert sorted(page_kinds.beginnings()) == sorted(page_kinds.KINDS)
    assert {*KINDS} <= {*pages}


@needed
@pytest.mark.parametrize("kind", KINDS)
def test_a_page_opens_without_a_fault(pages, kind):
    assert faults(pages[kind]) == []


@needed
def test_the_slider_shows_every_view_at_the_same_step(pages):
    tab, wrong = opened(pages["codes"])
    slider = tab.get_by_role("slider", name="Step of the episode")
    assert (slider.get_attribute("min"), slider.get_attribute("max")) == ("0", "11")
    captions = tab.locator(".film article").first.locator("figcaption").all_inner_texts()
    assert captions == VIEWS
    slider.focus()
    for _ in range(5):
        tab.keyboard.press("ArrowRight")
    assert tab.locator(".film output").inner_text() == "step 5"
    assert slider.get_attribute("aria-valuetext") == "step 5: pick up the cup"
    moved = tab.locator(".film .tile img").evaluate_all(
        "tiles => tiles.map(t => t.style.transform)"
    )
    assert len(set(moved)) == 1  # 12 steps are 4 x 3 tiles: step 5 is in the second row and column
    assert moved[0] == "translate(-25%, -33.3333%)"
    tab.keyboard.press("End")
    assert tab.locator(".film output").inner_text() == "step 11"
    tab.close()
    assert wrong == []


@needed
def test_the_film_plays_to_its_end_and_stops(pages):
    tab, wrong = opened(pages["episodes"])
    tab.get_by_role("button", name="Play").click()
    tab.get_by_role("button", name="Pause").wait_for()
    tab.get_by_text("step 11").wait_for()
    tab.get_by_role("button", name="Play").wait_for()
    tab.close()
    assert wrong == []


@needed
def test_links_lead_to_the_pages_and_back(pages):
    tab, _ = opened(pages["codes"])
    tab.get_by_role("link", name="Episodes of before_set").click()
    assert tab.title() == "Episodes of before_set"
    tab.get_by_role("link", name="Codes of before_set").click()
    assert tab.title() == "Codes of before_set"
    tab.close()


@needed
def test_a_fault_is_found(tmp_path):
    page = tmp_path / "page.html"
    page.write_text(
        "<!doctype html><html lang=en><body><div style='width: 500px'>x</div>"
        "<img src='no.png' alt='p'>"
        "<img src='data:image/gif;base64,R0lGODlhAQABAAAAACw=' ><script>missing()</script></body>"
    )
    words = "\n".join(faults(page))
    for part in ("at 390 px, 1", "does not load: p", "has no text: <img", "missing is not defined"):
        assert part in words, words
    assert "no.png" in words


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_needs_nothing_from_elsewhere(pages, kind):
    text = pages[kind].read_text()
    assert len(text) < 2_000_000
    links = re.findall(r"""(?:src|href)\s*=\s*["']([^"']*)""", text)
    outside = [link for link in links if not link.startswith(("data:", "#"))]
    data = f"{pages[kind].stem}.json"
    missing = [link for link in outside if not (pages[kind].parent / unquote(link)).is_file()]
    assert (data in outside, missing) == (True, [])


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_speaks_in_words(pages, kind):
    """Settings are shown as they are typed; they are folded, and left out here."""
    text = re.sub(
        r"<details>.*?</details>|<style>.*?</style>", "", pages[kind].read_text(), flags=re.S
    )
    text = re.sub(r'="[^"]*"', "", text)
    assert CODE_NAME.findall(text) == []


def test_the_picture_of_the_readme_has_the_colours_of_the_pages(pages):
    """The middle of each cell of codes: the colour of its code."""
    demo = pages["demo"].parent
    store = CodeStore(demo / "sample" / "codes")
    codes = store.grid_of(EpisodeStore(demo / "sample" / "episodes").episode(0).key, "image").codes
    left, cell = 2 * (SIDE + GAP), SIDE / 16
    middles = (np.arange(16) * cell + cell / 2).astype(int)
    pixels = np.asarray(draw(demo))[HEAD + middles][:, left + middles]
    np.testing.assert_array_equal(pixels, code_colours()[codes[len(codes) // 2]])
