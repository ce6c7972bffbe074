"""What is shown of a frame: the stores that it came through, in the same colours on every page."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import depthtok
from depthtok.data import DepthKind
from depthtok.pages.colour import code_colours, colourise
from depthtok.stores.codes import CodeStore
from depthtok.stores.depth import DepthStore
from depthtok.stores.episodes import EpisodeStore
from pipelines.inspect.frame_views import CODES, DECODED, DEPTH, IMAGE, ClipViews, film_of
from pipelines.inspect.store_pages import store_report
from pipelines.inspect.trail import Trail

BEFORE = Path(__file__).parents[2] / "data" / "before"
CPU = {"device": "cpu"}


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    out = tmp_path_factory.mktemp("views")
    book = shutil.copytree(BEFORE / "codebook", out / "codebook")
    episodes, depth, codes = out / "episodes", out / "depth", out / "codes"
    rlds, schema = BEFORE / "rlds" / "1.0.0", str(BEFORE / "schema.toml")
    depthtok.convert(rlds, out=episodes, schema=schema)
    depthtok.annotate(episodes, out=depth, estimator="dataset", size=64, **CPU)
    depthtok.tokenize(depth, out=codes, codebook=book, **CPU)
    depthtok.decode(codes, out=out / "decoded", codebook=book, **CPU)
    return EpisodeStore(episodes), DepthStore(depth), CodeStore(codes), DepthStore(out / "decoded")


def test_a_frame_has_the_same_colours_on_every_page(stores):
    episodes, depth, codes, decoded = stores
    key = next(iter(episodes)).key
    views = [ClipViews(Trail.of(store), key, "image") for store in (depth, codes, decoded)]
    assert views[0].scale == views[1].scale == views[2].scale
    of_depth, of_codes, of_decoded = (view.read(3, 5) for view in views)
    assert set(of_depth) == {IMAGE, DEPTH}
    assert set(of_codes) == {IMAGE, DEPTH, CODES, DECODED}
    assert set(of_decoded) == {IMAGE, DECODED, CODES}
    np.testing.assert_array_equal(of_depth[DEPTH], of_codes[DEPTH])
    clip = depth.find_clip(key, "image")
    assert clip is not None
    quantiles = clip.disparity_quantiles
    true = clip.read(3, 5).to_disparity()
    kind, ends = DepthKind.DISPARITY, (quantiles[1], quantiles[-2])
    expected = colourise(true.values, kind, *ends, true.valid)
    np.testing.assert_array_equal(of_depth[DEPTH], expected)
    grid = codes.grid_of(key, "image")
    np.testing.assert_array_equal(of_codes[CODES], code_colours()[grid.codes[3:5]])
    difference = of_codes[DECODED].astype(int) - of_decoded[DECODED]
    assert np.abs(difference).mean() < 1  # decoded depth is stored in float16


def test_the_film_has_every_view_at_every_step(stores):
    _, depth, codes, _ = stores
    film = film_of(Trail.of(codes))
    assert film is not None
    assert list(film.steps) == list(range(12))
    assert set(film.said) == {"pick up the cup"}
    assert film.fps == 10
    views, bars = film.cameras["image"]
    assert [view.name for view in views] == [IMAGE, DEPTH, CODES, DECODED]
    assert {len(view.frames) for view in views} == {12}
    assert bars[0].title.startswith("Depth in metres")
    clip = ClipViews(Trail.of(depth), next(iter(stores[0])).key, "image")
    np.testing.assert_array_equal(views[1].frames[7], clip.read(7, 8)[DEPTH][0])
    np.testing.assert_array_equal(views[2].frames[7], code_colours()[_codes(codes)[7]])


def _codes(codes: CodeStore) -> np.ndarray:
    part = next(iter(codes.parts()))
    return codes.grid_of(part.episodes[0].key, "image").codes


def test_what_is_gone_is_said_and_the_rest_is_shown(stores, tmp_path):
    _, _, codes, _ = stores
    lonely = tmp_path / "x" / "codes"
    shutil.copytree(codes.path, lonely)
    text = (lonely / "zarr.json").read_text()
    depth = str(stores[1].path)
    assert depth in text
    shutil.move(stores[1].path, tmp_path / "away")
    try:
        page = store_report(CodeStore(lonely)).to_json()
    finally:
        shutil.move(tmp_path / "away", stores[1].path)
    sections = {section["title"]: section for section in page["sections"]}
    (note,) = sections["Not shown"]["paragraphs"]
    assert depth in note
    assert sections["One episode, step by step"]["film"]["views"] == {"image": [CODES, DECODED]}
    assert sections["One episode, step by step"]["film"]["instructions"] == [[0, ""]]
