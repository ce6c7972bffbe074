"""Reports: the same bytes for the same numbers, nothing from outside, nothing unescaped."""

import base64
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from depthtok.data import DepthKind
from depthtok.errors import OutputError
from depthtok.pages.colour import INVALID, code_picture, colourise
from depthtok.pages.pictures import FrameRow, Picture
from depthtok.pages.plots import MOST_POINTS, TICK, Panel, draw_forest, thinned
from depthtok.pages.report import LIMIT, Report
from depthtok.pages.scale import ColourScale, even_bar
from depthtok.pages.sections import with_drawings

EVIL = "<script>alert('$x$ & \"y\"')</script>"


def sample(word: str = "plain") -> Report:
    steps = np.arange(5000)
    pixels = np.zeros((4, 6, 3), np.uint8)
    return (
        Report(word, word)
        .numbers({word: 0.5, "words": word, "list": [1, float("nan")], "bad": np.float32("inf")})
        .text(word, word, title=word)
        .links(word, {word: Path("b.html")}, Path())
        .curves(word, {word: (steps, np.exp(-steps)), "b": ([0, 1], [1, 2])}, word, word, log=True)
        .histogram(word, [1, 2, 2, np.nan], bins=3, x_label=word)
        .facts(word, {word: word, "path": [1, True, None], "table": {word: 1}})
        .table(word, [word, "n"], [[word, 1], [None, np.int64(2)]])
        .pictures(
            word,
            [Picture(pixels, word, said=word), Picture(pixels[..., 0], "grey", exact=True)],
            columns=2,
            bars=[even_bar(word, 0, 1)],
        )
        .frames(word, [FrameRow(word, [Picture(pixels, word)], [ColourScale(0, 1).bar(word)])])
        .panels(word, [Panel(word, word, [0, 1, 2], [3, 4], word, word, counted=True)], word)
    )


def test_equal_reports_are_equal_bytes(tmp_path):
    first, second = (sample().write(tmp_path / name) for name in "ab")
    assert first.read_bytes() == second.read_bytes()
    assert first.with_suffix(".json").read_bytes() == second.with_suffix(".json").read_bytes()
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["report.html", "report.json"]


def test_nothing_is_loaded_from_outside_and_nothing_runs():
    page = sample().html("report.json")
    links = re.findall(r"""(?:src|href)\s*=\s*["']([^"']*)""", page)
    assert {link for link in links if not link.startswith(("data:", "#"))} == {
        "report.json",
        "b.html",
    }
    assert "<script" not in page
    assert "@import" not in page
    assert "//" not in re.sub(r'xmlns(:xlink)?="[^"]*"', "", re.sub('base64,[^"]*', "", page))


def test_every_text_is_escaped():
    page = sample(EVIL).html("report.json")
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 20


def test_links_lead_from_where_the_page_lies():
    page = Report("t").links("More", {"A": Path("x/y z/p.html"), "B": Path("q.html")}, Path("x"))
    assert re.findall('<a href="(.*?)">(.)</a>', page.html("r.json")) == [
        ("y%20z/p.html", "A"),
        ("../q.html", "B"),
    ]


def test_prose_shows_commands_as_code_and_escapes_them():
    page = (
        Report("title", "of `a < b`").text("`depthtok show <X>` and a lone ` tick").html("r.json")
    )
    assert "of <code>a &lt; b</code>" in page
    assert "<code>depthtok show &lt;X&gt;</code> and a lone ` tick" in page


def test_pictures_have_alternative_texts_and_drawings_have_labels():
    page = sample("name").html("report.json")
    assert page.count('alt="name"') == 1
    assert page.count('alt="name; instruction: name"') == 1
    assert page.count('role="img" aria-label="name"') == 2
    assert page.count('role="img" aria-label="name: name, name"') == 1  # a panel
    assert page.count('role="img" aria-label="name: 0 is blue, 1 is red"') == 1
    assert len(re.findall("<img [^>]*alt=", page)) == page.count("<img ") == 3
    assert '<html lang="en">' in page


def test_json_holds_the_numbers_of_the_page(tmp_path):
    path = sample("name").write(tmp_path, "quality")
    data = json.loads(path.with_suffix(".json").read_text())
    assert path.name == "quality.html"
    assert 'href="quality.json"' in path.read_text()
    assert data["numbers"] == {"name": 0.5, "words": "name", "list": [1, None], "bad": None}
    sections = {section["kind"]: section for section in data["sections"]}
    assert len(sections["curves"]["series"]["name"]["y"]) == 5000
    assert sections["histogram"]["counts"] == [1, 0, 2]
    assert sections["histogram"]["not_finite"] == 1
    assert sections["table"]["rows"] == [["name", 1], [None, 2]]
    assert sections["pictures"]["pictures"] == ["name; instruction: name", "grey"]
    assert sections["pictures"]["colours"] == ["name: 0 is blue, 1 is red"]
    assert sections["frames"]["rows"][0]["heading"] == "name"
    assert sections["panels"]["panels"][0]["y"] == [3, 4]


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(
    "line",
    [([], []), ([0], [1.0]), ([0, 1], [np.nan, np.nan]), ([0, 1], [0, -1]), ([0, 1], [2, 2])],
)
def test_poor_curves_are_drawn_without_a_warning(line, log):
    page = Report("x").curves("y", {"z": line}, "a", "b", log).html("d")
    assert "<svg" in page


def test_long_tables_are_folded_and_very_long_ones_are_in_the_data():
    page = Report("x").table("t", ["n"], [[n] for n in range(1000)])
    html = page.html("r.json")
    shown, _, folded = html.partition("<details>")
    assert (shown.count("<td"), folded.count("<td")) == (12, 288)
    assert "988 more rows" in folded
    assert 'The other 700 are in <a href="r.json">' in folded
    assert len(page.to_json()["sections"][0]["rows"]) == 1000


def test_cells_name_their_column_for_narrow_screens():
    html = Report("x").table("t", ["how & why"], [["text"]]).html("r.json")
    assert '<td data-of="how &amp; why">text</td>' in html


def test_a_folded_section_is_closed_and_shows_its_title():
    html = Report("x").facts("What else", {"a": 1}, folded=True).html("r.json")
    assert "<details><summary><h2>What else</h2></summary>" in html
    assert "<details open" not in html


def test_a_page_of_large_pictures_stays_small():
    noise = np.random.default_rng(0).integers(0, 256, (40, 480, 640, 3), np.uint8)
    page = Report("x").pictures("p", [Picture(frame, "noise") for frame in noise])
    html = page.html("r.json")
    assert len(html) <= LIMIT < 2_000_000
    assert html.count("<img") == 40


def test_an_exact_picture_loses_nothing():
    codes = code_picture(np.arange(256, dtype=np.uint8).reshape(16, 16), cell=40)
    uri = Picture(codes, "codes", exact=True).data_uri(96)
    image = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert np.array_equal(np.asarray(image.convert("RGB")), codes)


def test_a_histogram_of_nothing_is_drawn():
    assert "<svg" in Report("x").histogram("y", [np.nan]).html("d")


def test_the_last_of_an_odd_run_of_halves_is_wide():
    report = Report("x")
    for _ in range(3):
        report.facts("a", {"b": 1})
    report.text("t").facts("a", {}).facts("a", {})
    wide = [section["wide"] for section in with_drawings(report._sections)]
    assert wide == [False, False, True, True, False, False]


def test_thinning_keeps_spikes_and_gaps_do_not_matter():
    x = np.arange(50_000.0)
    y = np.sin(x)
    y[31_234], y[7], y[100:2000] = 9, -9, np.nan
    few_x, few_y = thinned(x, y)
    assert len(few_x) <= MOST_POINTS
    assert np.all(np.diff(few_x) > 0)
    assert np.nanmax(few_y) == 9
    assert np.nanmin(few_y) == -9


def test_an_unwritable_place_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        sample().write(tmp_path / "file" / "below")


def test_near_is_warm_for_both_kinds():
    metres = np.float32([[0.5, 1.0, 2.0, 0.0, np.nan]])
    near, middle, far, zero, nan = colourise(metres, DepthKind.METRES, 0.5, 2.0)[0].astype(int)
    assert near[0] > near[2]  # red above blue
    assert far[2] > far[0]
    assert not np.array_equal(middle, far)
    assert tuple(zero) == tuple(nan) == INVALID
    disparity = colourise(np.float32([[0.0, 2.0]]), DepthKind.DISPARITY, 0.0, 2.0)[0]
    assert tuple(disparity[1]) == tuple(near)
    assert tuple(disparity[0]) == tuple(far)


def test_colours_of_clips_flat_ranges_and_given_masks():
    clip = np.ones((2, 3, 4), np.float32)
    picture = colourise(clip, DepthKind.DISPARITY, 1.0, 1.0, clip > 1)
    assert picture.shape == (2, 3, 4, 3)
    assert picture.dtype == np.uint8
    assert np.all(picture == INVALID)


def test_every_code_has_its_own_colour():
    codes = np.arange(256, dtype=np.uint8).reshape(16, 16)
    picture = code_picture(codes, cell=4)
    assert picture.shape == (64, 64, 3)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) == 256
    assert np.all(picture[4:8, :4] == picture[4, 0])


def test_no_global_state_of_matplotlib_is_touched():
    code = (
        "import matplotlib, sys\n"
        "from depthtok.pages.report import Report\n"
        "before = dict(matplotlib.rcParams.copy())\n"
        "Report('x').histogram('y', [1, 2]).html('d')\n"
        "assert dict(matplotlib.rcParams.copy()) == before\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_forest_shows_intervals_that_are_known():
    page = Report("t").forest(
        "differences", [("a - b", 5.0, -1.0, 11.0), ("one", 2.0, None, None)], "x"
    )
    assert page.to_json()["sections"][0]["rows"] == [
        ["a - b", 5.0, -1.0, 11.0],
        ["one", 2.0, None, None],
    ]
    html = page.html("t.json")
    assert "a - b" in html
    assert html == page.html("t.json")
    lines = html.count("stroke-width: 1.8")
    assert lines == 1  # the one interval


def test_rows_of_a_long_forest_stay_apart():
    rows = [(f"seed {seed}", 1.0, None, None) for seed in range(40)]
    height = float(re.search(r'viewBox="0 0 \S+ (\S+)"', str(draw_forest("t", rows, "x", True)))[1])
    assert height > 40 * TICK * 1.5
