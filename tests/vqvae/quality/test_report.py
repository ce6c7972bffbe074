from __future__ import annotations

import json
import re

import numpy as np
import pytest

from depthtok.errors import SourceError
from tests.vqvae.synthetic import scenes, tiny
from tools.compact_codebook import compact
from vqvae.codec import Codec
from vqvae.config import TrainOptions
from vqvae.data.clips import ClipSource
from vqvae.quality.examples import Examples
from vqvae.quality.quality import assess
from vqvae.quality.report import build, of_codebook, sheet
from vqvae.training import export
from vqvae.training.train import train


def of(clips) -> list[ClipSource]:
    """Clips as the one source."""
    return [ClipSource("s", "f", clips)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A codebook and its continuous twin."""
    out = tmp_path_factory.mktemp("report")
    source = ClipSource("s", "f", scenes(6))
    for name, config in (("cb", tiny(6)), ("twin", tiny(6).continuous())):
        train(config, [source], out / name, TrainOptions())
    export.add_twin(out / "cb", out / "twin")
    export.add_sticky(out / "cb", [source], None, 0.5, "cpu")
    return out / "cb", out / "twin"


def sections(page) -> dict:
    return {section["title"]: section for section in page.to_json()["sections"] if section["title"]}


def test_the_page_of_a_codebook_needs_its_directory_alone(trained, tmp_path):
    page = of_codebook(Codec.load(trained[0]))
    page_sections = sections(page)
    assert {"Frames", "The worst frames", "All codes, most used first"} <= set(page_sections)
    rows = {row[0] for row in page_sections["Reconstruction errors"]["rows"]}
    assert rows == {
        "everywhere",
        "everywhere, codes bypassed",
        "trained without codes",
        "sticky 0.5",
    }
    bits = [row[1] for row in page_sections["Rate and distortion"]["rows"]]
    assert bits[0] == 64 * 8
    assert bits[0] >= bits[1]
    assert bits[2] == bits[3] == 64 * 16 * 32
    html = page.write(tmp_path).read_text()
    assert html.count("data:image/webp") > 8
    json.loads((tmp_path / "report.json").read_text())


def test_a_continuous_codebook_has_a_page_without_codes(trained):
    page_sections = sections(of_codebook(Codec.load(trained[1])))
    assert "All codes, most used first" not in page_sections
    assert "Frames" in page_sections


def test_without_kept_frames_the_page_says_how_to_get_them(trained):
    codec = Codec.load(trained[0])
    page_sections = sections(build(codec, codec.codebook.quality, None, dataset="nothing"))
    assert "eval-vqvae" in page_sections["Frames"]["paragraphs"][0]


def test_a_codebook_that_was_never_judged_has_no_page(trained, tmp_path):
    with pytest.raises(SourceError, match="never evaluated"):
        of_codebook(Codec.load(compact(trained[0], tmp_path / "small")))


def test_examples_survive_their_file(trained, tmp_path):
    _, examples = assess(Codec.load(trained[0]), of(scenes(3)), pictures=2)
    examples.save(tmp_path)
    back = Examples.load(tmp_path)
    assert [(e.clip, e.frame, e.l1) for e in back.worst] == [
        (e.clip, e.frame, e.l1) for e in examples.worst
    ]
    for one, two in zip(examples.spread, back.spread, strict=True):
        np.testing.assert_allclose(one.true, two.true, atol=4e-5)
        np.testing.assert_array_equal(one.codes, two.codes)
    np.testing.assert_array_equal(examples.cells, back.cells)
    assert Examples.load(tmp_path / "none") is None


def test_the_mean_cell_of_a_code_is_that_of_all_frames(monkeypatch, trained):
    codec, clips = Codec.load(trained[0]), scenes(2, frames=20)
    _, examples = assess(codec, of(clips))
    monkeypatch.setattr("vqvae.quality.quality.BLOCK", 7)
    examples_in_parts, parts = assess(codec, of(clips))
    np.testing.assert_array_equal(examples.uses, examples_in_parts["histogram"])
    np.testing.assert_array_equal(examples.uses, parts.uses)
    np.testing.assert_allclose(examples.cells, parts.cells, rtol=1e-5, atol=1e-6)


def test_the_worst_frames_are_of_different_clips(trained):
    _, examples = assess(Codec.load(trained[0]), of(scenes(4)), pictures=3)
    assert len({e.clip for e in examples.worst}) == 3


def test_a_sheet_holds_every_tile():
    tiles = np.ones((5, 4, 4), np.float32)
    assert sheet(tiles, columns=2).shape == (18, 12)
    assert (sheet(tiles, columns=2) == 255).sum() == 5 * 16


def test_a_page_names_every_limit_of_the_gate_in_words(trained):
    page = of_codebook(Codec.load(trained[0])).to_json()
    (gate,) = (section for section in page["sections"] if section["title"] == "The quality gate")
    assert len(gate["rows"]) == 7  # all of limits.toml for depth in metres
    rows = {row[0]: row[1:] for row in gate["rows"]}
    assert rows["number of codes used"][1:] == ["at least 180", "missed"]
    assert not [name for name in rows if re.search(r"[._]", name.replace("1.25", ""))]
    failed = sum(row[2] == "missed" for row in rows.values())
    assert page["numbers"]["quality gate"] == f"failed: {failed}"
