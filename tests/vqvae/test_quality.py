from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import SIZE, array_clip, scene, scenes, tiny

from depthtok.codebook import Codebook
from depthtok.data import DepthKind
from depthtok.errors import DepthKindError, SourceError
from vqvae import export
from vqvae.clips import ClipSource
from vqvae.codec import Codec
from vqvae.config import TrainOptions
from vqvae.gate import default_limits, judge
from vqvae.quality import Examples, assess, code_pictures
from vqvae.train import train


@pytest.fixture(scope="module")
def codec(tmp_path_factory):
    out = tmp_path_factory.mktemp("quality") / "cb"
    return Codec.load(train(tiny(6), [ClipSource("s", "f", scenes(6))], out, TrainOptions()))


def test_metres_are_judged_in_metres_and_disparity_is_not(codec):
    metric = assess(codec, scenes(2, frames=40))
    assert metric["frames"] == 80
    assert metric["episodes"] == 2
    assert metric["kind"] == "metres"
    assert sum(metric["histogram"]) == 80 * 64
    json.dumps(metric, allow_nan=False)
    relative = assess(codec, [array_clip(1 / scene(0), kind=DepthKind.DISPARITY)])
    assert "metres" not in relative
    assert relative["disparity"]["l1"] > 0


def test_blocks_do_not_change_the_figures(codec, monkeypatch):
    clips = scenes(1, frames=40)
    whole = assess(codec, clips)
    monkeypatch.setattr("vqvae.quality.BLOCK", 7)
    parts = assess(codec, clips)
    assert parts["histogram"] == whole["histogram"]
    assert parts["flips"] == whole["flips"]
    assert parts["metres"] == pytest.approx(whole["metres"])


def test_sticky_flips_do_not_depend_on_blocks(codec, monkeypatch):
    clips = scenes(1, frames=40)
    whole = assess(codec, clips, sticky=0.5)
    monkeypatch.setattr("vqvae.quality.BLOCK", 9)
    assert assess(codec, clips, sticky=0.5)["flips"] == whole["flips"]


def test_regions_are_judged_by_their_masks(codec):
    def masks(clip, start, stop):
        near = np.zeros((stop - start, SIZE, SIZE), bool)
        near[:, :8] = True
        return {"arm": near}

    found = assess(codec, scenes(1), masks=masks)
    arm = found["regions"]["arm"]
    assert arm["metres"]["pixels"] == arm["disparity"]["pixels"] == 12 * 8 * SIZE
    assert arm["metres"]["abs_rel"] != found["metres"]["abs_rel"]
    assert arm["disparity"]["l1"] != found["disparity"]["l1"]


def test_broken_clips_are_listed_and_mixed_kinds_refused(codec):
    constant = array_clip(np.ones((3, SIZE, SIZE), np.float32), "constant")
    found = assess(codec, [*scenes(1), constant])
    assert [item[0] for item in found["failed"]] == ["constant"]
    with pytest.raises(SourceError, match="no clip could be judged: the depth is constant"):
        assess(codec, [constant])
    with pytest.raises(DepthKindError):
        assess(codec, [*scenes(1), array_clip(1 / scene(0), "d", kind=DepthKind.DISPARITY)])


def test_examples_hold_the_worst_frames(codec):
    kept = Examples(number=3)
    assess(codec, scenes(4), examples=kept)
    assert len(kept.spread) == 3
    assert len(kept.worst) == 3
    assert kept.worst[0].l1 >= kept.worst[1].l1 >= kept.worst[2].l1
    assert code_pictures(codec).shape == (32, 8, 8)


def test_a_new_judgement_keeps_the_fingerprint(codec):
    path = codec.codebook.path
    export.rejudge(path, {**codec.codebook.quality, "note": 1})
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
    assert judge(GOOD) == []
    assert judge({**GOOD, "kind": "disparity"}) == []
    collapsed = {**GOOD, "codes": {"used": 1, "perplexity": 1.0}}
    assert len(judge(collapsed)) == 2
    assert "codes.used is 1" in judge(collapsed)[0]


def test_where_no_camera_stands_still_flips_are_not_asked_for():
    assert judge({name: value for name, value in GOOD.items() if name != "flips"}) == []
    assert "flips.far was not measured" in judge({**GOOD, "flips": {}})[0]


def test_the_gate_fails_closed():
    assert judge({})
    assert any("not measured" in line for line in judge({**GOOD, "metres": {}}))
    broken = {**GOOD, "disparity": {"l1": float("nan"), "edge_f1": 0.5}}
    assert len(judge(broken)) == 1
    assert judge(GOOD, {"metres": {"metres.abs_rel_max": 0.01}})
    assert set(default_limits()) == {"metres", "disparity"}
