import threading
from contextlib import closing

import numpy as np
import pytest
import zarr

from depthtok.config import RunOptions
from depthtok.errors import ConfigError, StaleStore, StoreError
from depthtok.stores.codebook import Codebook
from depthtok.stores.codes import CodeStore
from depthtok.stores.depth import DepthStore
from depthtok.testing import make_rlds, tree_digest
from pipelines import tokenize
from pipelines.annotate.ahead import CodesAhead
from pipelines.run import run
from vqvae import codec as codec_module
from vqvae.codec import Codec


def test_codes_are_those_of_the_codec(whole):
    depth, codes = DepthStore(whole.root / "annotate"), CodeStore(whole.root / "tokenize")
    codec = Codec.load(whole.book)
    for clip in depth.clips():
        grid = codes.grid_of(clip.key, clip.camera)
        bounds = codec.codebook.normalisation.range_of(clip.disparity_quantiles)
        np.testing.assert_array_equal(grid.codes, codec.encode(clip.read().to_disparity(), bounds))
        np.testing.assert_allclose(grid.range, bounds, rtol=1e-6)
        assert grid.codebook == codec.codebook.fingerprint
    assert len(np.unique(grid.codes)) > 1


@pytest.mark.parametrize("sticky", [0.0, 0.3])
def test_blocks_do_not_reach_the_codes(whole, tmp_path, monkeypatch, sticky):
    outs = []
    for frames in (1, 2, 64):
        monkeypatch.setattr(tokenize, "READ", frames)
        outs.append(tmp_path / str(frames))
        run(whole.stage("tokenize", outs[-1], sticky=sticky), RunOptions())
    assert tree_digest(outs[0]) == tree_digest(outs[1]) == tree_digest(outs[2])


@pytest.mark.parametrize("sticky", [0.0, 0.3])
@pytest.mark.parametrize("group", [2, 3, 64])
def test_as_for_a_gpu_it_gives_the_same_parts(tmp_path, over, monkeypatch, sticky, group):
    """Read ahead by threads over clips and episodes, of which some fail, at once or midway."""

    def edit(number, values):
        name = "steps/observation/depth"
        for frame in {1: range(9), 3: (9,)}.get(number, ()):
            values[name][frame] = 0

    steps = [7, 9, 1, 11, 5]
    path = over(make_rlds(tmp_path / "rlds", episodes=5, steps=steps, shards=1, edit=edit))
    path.run_all()
    failures = []
    monkeypatch.setattr(codec_module, "GROUP", group)
    outs = [tmp_path / "plain", tmp_path / "ahead"]
    for out, readers in zip(outs, (0, 3), strict=True):
        monkeypatch.setattr(tokenize, "_readers", lambda codec, readers=readers: readers)
        outcome = run(path.stage("tokenize", out, sticky=sticky), RunOptions())
        failures.append(outcome.failures)
        assert [failure.key.index for failure in outcome.failures] == [1, 3]
    assert failures[0] == failures[1]
    assert "frame 9 of the clip has no valid" in failures[0][1].reason
    assert tree_digest(outs[0]) == tree_digest(outs[1])
    assert not [thread for thread in threading.enumerate() if "read-ahead" in thread.name]


def test_a_group_is_begun_before_the_one_before_is_fetched(whole, monkeypatch):
    log = []

    class Watched(codec_module.FrameGroup):
        def codes(self, *given):
            log.append("fetched")
            return super().codes(*given)

    begin = Codec.begin

    def begun(self, images, **named):
        log.append("begun")
        group = begin(self, images, **named)
        return Watched(group.values, group.grid)

    monkeypatch.setattr(Codec, "begin", begun)
    depth, codec = DepthStore(whole.root / "annotate"), Codec.load(whole.book)
    clips = list(depth.clips())[:4]
    with closing(CodesAhead(codec, 0.0, clips, 2)) as stream:
        assert [len(codes) for clip in clips for codes in stream.codes(clip)] == [5] * 4
    assert log == ["begun", *["begun", "fetched"] * 3, "fetched"]


def test_other_clients_of_zarr_see_equal_values(whole):
    store = CodeStore(whole.root / "tokenize")
    group = zarr.open_group(store.path, mode="r")
    for part in store.parts():
        for name in ("codes/image", "codes/wrist_image", "range"):
            values = group[f"parts/{part.name}/{name}"][:]
            np.testing.assert_array_equal(values, part.map(name))


def test_depth_without_a_range_fails_alone(tmp_path, over):
    def edit(number, values):
        name = "steps/observation/depth"
        values[name] = (
            np.full_like(values[name], (0, 700, 0)[number]) if number < 2 else values[name]
        )

    path = over(make_rlds(tmp_path / "rlds", episodes=4, steps=[3, 3, 1, 2], shards=1, edit=edit))
    outcome = path.run_all()[-1]
    assert (outcome.exit_code, outcome.episodes, outcome.steps) == (1, 2, 3)
    assert [failure.key.index for failure in outcome.failures] == [0, 1]
    codes = CodeStore(path.root / "tokenize")
    assert [part.indices.tolist() for part in codes.parts()] == [[2, 3]]


def test_a_camera_may_be_left_out(whole, tmp_path):
    run(whole.stage("tokenize", tmp_path / "out", camera=("wrist_image",)), RunOptions())
    store, both = CodeStore(tmp_path / "out"), CodeStore(whole.root / "tokenize")
    assert store.cameras == ("wrist_image",)
    key = next(iter(both.parts())).episodes[0].key
    one, other = store.grid_of(key, "wrist_image"), both.grid_of(key, "wrist_image")
    np.testing.assert_array_equal(one.codes, other.codes)
    with pytest.raises(ConfigError, match="no codes of camera 'image'") as caught:
        store.grid_of(key, "image")
    assert caught.value.remedy == "its cameras: wrist_image"
    with pytest.raises(ConfigError, match="no depth of camera"):
        run(whole.stage("tokenize", tmp_path / "none", camera=("side",)), RunOptions())


def test_another_codebook_or_size_is_refused(whole, tmp_path, over):
    store = CodeStore(whole.root / "tokenize")
    store.require_codebook(Codebook.load(whole.book).fingerprint)
    with pytest.raises(StaleStore, match="are of codebook"):
        store.require_codebook("0" * 64)
    path = over(whole.rlds)
    path.run("convert")
    run(path.stage("annotate", size=64), RunOptions())
    with pytest.raises(StoreError, match="px") as caught:
        path.run("tokenize")
    assert "--size 32" in caught.value.remedy


def test_other_settings_are_refused_by_name(whole, tmp_path):
    run(whole.stage("tokenize", tmp_path / "out"), RunOptions())
    with pytest.raises(StaleStore, match=r"sticky: 0\.0 there, 0\.3 now"):
        run(whole.stage("tokenize", tmp_path / "out", sticky=0.3), RunOptions())
    with pytest.raises(StaleStore, match="it holds codes made by"):
        run(whole.stage("annotate", tmp_path / "out"), RunOptions())
