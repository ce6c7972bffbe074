"""A film has a tile a step, in order, and says the instruction of each."""

import base64
import html
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from depthtok.pages.film import BUDGET, Film, FilmView, shown_steps, tile_size
from depthtok.pages.report import Report
from depthtok.pages.scale import even_bar


def film(steps: int, exact: bool = True) -> Film:
    """Every frame is of one colour, its step."""
    frames = np.zeros((steps, 16, 32, 3), np.uint8) + np.arange(steps)[:, None, None, None]
    said = ["one"] * (steps // 2) + ['<two> "2"'] * (steps - steps // 2)
    views = [FilmView("codes", frames.astype(np.uint8), exact)]
    return Film("key", steps, range(steps), said, {"front": (views, [even_bar("b", 0, 1)])})


@pytest.mark.parametrize("steps", [1, 2, 10, 64])
def test_the_image_of_a_view_has_a_tile_a_step(steps):
    shown = film(steps)
    (uri,) = shown.sheets()["front"]
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))
    view = shown.views[0]
    assert sheet.shape == (16 * view.rows, 32 * view.columns, 3)
    for step in range(steps):
        row, column = divmod(step, view.columns)
        tile = sheet[16 * row : 16 * (row + 1), 32 * column : 32 * (column + 1)]
        assert np.all(tile == step)


def test_the_page_has_one_slider_and_its_steps():
    page = Report("x").film("f", film(10))
    text = page.html("r.json")
    assert len(re.findall('<input type="range" min="0" max="9" step="1"', text)) == 1
    (steps,) = re.findall('data-steps="(.*?)"', text)
    (said,) = re.findall('data-said="(.*?)"', text)
    assert json.loads(html.unescape(steps)) == list(range(10))
    assert json.loads(html.unescape(said)) == [[0, "one"], [5, '<two> "2"']]
    assert text.count("<script>") == 1
    assert "<two>" not in text
    assert page.to_json()["sections"][0]["film"]["views"] == {"front": ["codes"]}


def test_long_episodes_are_thinned_evenly():
    assert list(shown_steps(300)) == list(range(300))
    assert list(shown_steps(301)) == list(range(0, 301, 2))
    assert len(shown_steps(10_000)) <= 300


def test_thinned_episodes_play_as_fast_as_they_were_recorded():
    """A tenth of the steps, each for ten times as long."""
    assert replace(film(30), fps=20.0).rate == 20
    assert replace(film(30), fps=20.0, length=300, steps=range(0, 300, 10)).rate == 2
    assert replace(film(1), fps=5.0).rate == 5
    assert 'data-rate="10.0"' in Report("x").film("f", film(10)).html("r.json")


def test_tiles_get_smaller_with_more_steps():
    assert tile_size(64, 6) == (128, 128)
    assert tile_size(1, 1) == (160, 160)
    assert tile_size(300, 6) == (48, 48)
    assert tile_size(12, 2, 32, 48) == (32, 48)  # nothing is enlarged
    tall, wide = tile_size(64, 2, 480, 640)
    assert wide / tall == pytest.approx(4 / 3, rel=0.15)
    assert tall % 16 == wide % 16 == 0


def test_noise_stays_within_the_budget():
    size = tile_size(300, 2)
    noise = np.random.default_rng(0).integers(0, 256, (300, *size, 3), np.uint8)
    shown = Film("k", 300, range(300), [""] * 300, {"c": ([FilmView("a", noise)] * 2, [])})
    small = sum(len(uri) for uri in shown.sheets()["c"])
    assert small <= 1_950_000
    assert BUDGET * 4 / 3 < 1_300_000
