"""Every kind of page, as commands write them of small stores, opened in a headless Chromium: no
error, nothing wider than a telephone, no image that does not load, and a slider that works."""

import re
from pathlib import Path

import pytest

import depthtok
from tests.browser import faults, needed, opened

BEFORE = Path(__file__).parents[1] / "data" / "before"
ROOT = BEFORE / "rlds" / "1.0.0"
CPU = {"device": "cpu"}
VIEWS = ["camera image", "depth", "codes", "depth decoded from the codes"]


def page_of(path: Path) -> Path:
    return depthtok.report(path).page


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    """Pages by what they are of."""
    out = tmp_path_factory.mktemp("pages")
    episodes, depth, codes = out / "episodes", out / "depth", out / "codes"
    depthtok.convert(ROOT, out=episodes, schema=str(BEFORE / "schema.toml"))
    depthtok.annotate(episodes, out=depth, estimator="dataset", size=64, **CPU)
    depthtok.tokenize(depth, out=codes, codebook=BEFORE / "codebook", **CPU)
    pages = {path.name: page_of(path) for path in (episodes, depth, codes)}
    for name in ("codebook", "run"):
        pages[name] = depthtok.report(BEFORE / name, out=out / name).page
    audit = depthtok.audit_depth(estimated=depth, truth=depth, out=out / "audit")
    pages["audit"] = audit.page
    two = depthtok.audit_depth(estimated=[depth, BEFORE / "depth"], truth=depth, out=out / "two")
    pages["estimators"] = two.page
    compared = depthtok.compare(BEFORE / "codes", codes, out=out / "compared").page
    assert compared is not None
    mask = depthtok.inspect_mask("tiny", out=out / "mask").page
    return {**pages, "compared": compared, "mask": mask}


KINDS = (
    *("episodes", "depth", "codes", "codebook", "run", "audit", "estimators", "compared", "mask"),
)


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
    assert {
        x for x in links if not x.startswith(("data:", "#")) and not x.endswith("report.html")
    } <= {f"{pages[kind].stem}.json"}
    assert "val_action" not in text
