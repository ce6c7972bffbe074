from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from depthtok.data import DepthClip, DepthKind
from depthtok.errors import DepthKindError, SourceError
from depthtok.stores.codebook import Codebook
from tests.vqvae.synthetic import SIZE, ArrayClip, array_clip, scene, scenes, tiny
from vqvae.codec import Codec
from vqvae.config import TrainOptions
from vqvae.data.clips import ClipSource
from vqvae.quality.gate import FIGURES, default_limits, failed_limits, shortfalls
from vqvae.quality.quality import assess, code_pictures
from vqvae.quality.report import of_codebook
from vqvae.training import export
from vqvae.training.train import train


def of(*clips) -> list[ClipSource]:
    """Clips as the one source."""
    return [ClipSource("s", "f", clips)]


def figures(codec, clips, **options) -> dict:
    return assess(codec, of(*clips), **options)[0]


@pytest.fixture(scope="module")
def codec(tmp_path_factory):
    out = tmp_path_factory.mktemp("quality") / "cb"
    return Codec.load(train(tiny(6), [ClipSource("s", "f", scenes(6))], out, TrainOptions()))


def test_metres_are_judged_in_metres_and_disparity_is_not(codec):
    metric = figures(codec, scenes(2, frames=40))
    assert metric["frames"] == 80
    assert metric["episodes"] == 2
    assert metric["kind"] == "metres"
    assert sum(metric["histogram"]) == 80 * 64
    json.dumps(metric, allow_nan=False)
    relative = figures(codec, [array_clip(1 / scene(0), kind=DepthKind.DISPARITY)])
    assert "metres" not in relative
    assert relative["disparity"]["l1"] > 0


def test_blocks_do_not_change_the_figures(codec, monkeypatch):
    clips = scenes(1, frames=40)
    at_once = figures(codec, clips)
    monkeypatch.setattr("vqvae.quality.quality.BLOCK", 7)
    parts = figures(codec, clips)
    assert parts["histogram"] == at_once["histogram"]
    assert parts["flips"] == at_once["flips"]
    assert parts["metres"] == pytest.approx(at_once["metres"])


def test_sticky_flips_do_not_depend_on_blocks(codec, monkeypatch):
    clips = scenes(1, frames=40)
    at_once = figures(codec, clips, sticky=0.5)
    monkeypatch.setattr("vqvae.quality.quality.BLOCK", 9)
    assert figures(codec, clips, sticky=0.5)["flips"] == at_once["flips"]


def test_regions_are_judged_by_their_masks(codec):
    def masks(clip, start, stop):
        near = np.zeros((stop - start, SIZE, SIZE), bool)
        near[:, :8] = True
        return {"arm": near}

    quality = figures(codec, scenes(1), masks=masks)
    arm = quality["regions"]["arm"]
    assert arm["metres"]["pixels"] == arm["disparity"]["pixels"] == 12 * 8 * SIZE
    assert arm["metres"]["abs_rel"] != quality["metres"]["abs_rel"]
    assert arm["disparity"]["l1"] != quality["disparity"]["l1"]


def test_broken_clips_are_listed_and_mixed_kinds_refused(codec):
    constant = array_clip(np.ones((3, SIZE, SIZE), np.float32), "constant")
    quality = figures(codec, [*scenes(1), constant])
    assert [item[0] for item in quality["failed"]] == ["constant"]
    with pytest.raises(SourceError, match="no clip could be evaluated: the depth is constant"):
        figures(codec, [constant])
    with pytest.raises(DepthKindError):
        figures(codec, [*scenes(1), array_clip(1 / scene(0), "d", kind=DepthKind.DISPARITY)])


class Cut(ArrayClip):
    """A clip whose frames from `stop` on cannot be read."""

    def __init__(self, clip: ArrayClip, stop: int) -> None:
        vars(self).update(vars(clip), stop=stop)

    def read(self, start: int, stop: int) -> DepthClip:
        if start < self.stop < stop:
            raise SourceError("the file ends", remedy="-")
        return super().read(start, stop)


def test_nothing_is_counted_of_a_clip_that_fails_in_its_last_block(codec, monkeypatch):
    monkeypatch.setattr("vqvae.quality.quality.BLOCK", 5)
    good, bad = scenes(2)
    expected, expected_examples = assess(codec, of(good))
    quality, examples = assess(codec, of(Cut(bad, 8), good, Cut(bad, 8)))
    assert [problem for _, _, problem in quality.pop("failed")] == ["the file ends"] * 2
    assert quality == {name: value for name, value in expected.items() if name != "failed"}
    np.testing.assert_array_equal(examples.uses, expected_examples.uses)
    assert [e.clip for e in examples.worst] == [e.clip for e in expected_examples.worst]


def test_stores_with_episodes_of_equal_names_are_told_apart(codec):
    one, other = scenes(1), [array_clip(scene(9), "episode-0")]
    quality, examples = assess(codec, [*of(*one), *of(*other)])
    assert quality["episodes"] == 2
    assert {e.clip for e in examples.spread} == {
        "store 1: episode-0 front",
        "store 2: episode-0 front",
    }


def test_metres_of_ranges_that_codes_do_not_keep_are_said_to_be(tmp_path):
    config = replace(tiny(6), normalisation="per_frame")
    out = train(config, of(*scenes(6)), tmp_path / "cb", TrainOptions())
    page = of_codebook(Codec.load(out)).to_json()
    assert "each frame's true range" in json.dumps(page)


def test_examples_hold_the_worst_frames(codec):
    _, examples = assess(codec, of(*scenes(4)), pictures=3)
    assert len(examples.spread) == 3
    assert len(examples.worst) == 3
    assert examples.worst[0].l1 >= examples.worst[1].l1 >= examples.worst[2].l1
    assert code_pictures(codec).shape == (32, 8, 8)


def test_a_new_judgement_keeps_the_fingerprint(codec):
    path = codec.codebook.path
    export.write_quality(path, {**codec.codebook.quality, "note": 1})
    assert Codebook.load(path).fingerprint == codec.codebook.fingerprint
    assert Codebook.load(path).quality["note"] == 1


GOOD = {
    "kind": "metres",
    "codes": {"used": 250, "perplexity": 140.0},
    "disparity": {"l1": 0.02, "edge_f1": 0.5},
    "flips": {"far": 0.001},
    "metres": {"abs_rel": 0.03, "delta_1_25": 0.97},
}


def test_the_gate_passes_a_good_codebook_and_names_what_falls_short():
    assert failed_limits(GOOD) == []
    assert failed_limits({**GOOD, "kind": "disparity"}) == []
    collapsed = {**GOOD, "codes": {"used": 1, "perplexity": 1.0}}
    assert len(failed_limits(collapsed)) == 2
    assert failed_limits(collapsed)[0] == "codes.used is 1, the limit is min 180"  # codes keep it
    assert shortfalls(collapsed)[0] == "number of codes used: 1 (needed: at least 180)"


def test_where_no_camera_stands_still_flips_are_not_asked_for():
    assert failed_limits({name: value for name, value in GOOD.items() if name != "flips"}) == []
    assert "flips.far was not measured" in failed_limits({**GOOD, "flips": {}})[0]


def test_the_gate_fails_closed():
    assert failed_limits({})
    assert any("not measured" in line for line in failed_limits({**GOOD, "metres": {}}))
    broken = {**GOOD, "disparity": {"l1": float("nan"), "edge_f1": 0.5}}
    assert len(failed_limits(broken)) == 1
    assert failed_limits(GOOD, {"metres": {"metres.abs_rel_max": 0.01}})
    assert set(default_limits()) == {"metres", "disparity", "relative_depth"}
    limits = {name.rsplit("_", 1)[0] for table in default_limits().values() for name in table}
    assert limits == set(FIGURES)  # each has words
