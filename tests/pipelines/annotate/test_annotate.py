from dataclasses import replace

import numpy as np
import pytest
import zarr

from depthtok.config import RunOptions
from depthtok.data import DepthBlock, DepthClip, DepthKind, EstimatorSpec
from depthtok.errors import ConfigError, MissingParts, SourceError
from depthtok.stores import depth, filling
from depthtok.stores.depth import DepthStore
from depthtok.stores.episodes import EpisodeStore
from depthtok.stores.filling import drop_part
from depthtok.stores.verify import verify_store
from depthtok.testing import make_rlds, tree_digest
from pipelines.annotate import stage as annotate
from pipelines.annotate.stage import cut
from pipelines.depth.registry import ESTIMATORS, EstimatorEntry
from pipelines.run import run
from pipelines.stage import make_part

GARBAGE = b"\x89PNG\r\n\x1a\nthis is no picture"


def spoiled(number, values):
    """Episode 1: a picture that is none. 2: no depth. 3: one depth everywhere."""
    depth = values["steps/observation/depth"]
    if number == 1:
        values["steps/observation/wrist_depth"] = [
            GARBAGE if step == 3 else frame
            for step, frame in enumerate(values["steps/observation/wrist_depth"])
        ]
    if number in (2, 3):
        values["steps/observation/depth"] = np.full_like(depth, 0 if number == 2 else 700)


def test_depth_is_the_data_sets_own(whole):
    episodes, store = EpisodeStore(whole.root / "convert"), DepthStore(whole.root / "annotate")
    assert (store.encoding, store.kind) == (depth.DepthEncoding.UINT16_MM, DepthKind.METRES)
    clips = list(store.clips("wrist_image"))
    assert [clip.key for clip in clips] == [episode.key for episode in episodes]
    for clip, episode in zip(clips, episodes, strict=True):
        true = episode.frames("wrist_image").true_depth(0, len(episode))
        read_back = clip.read()
        np.testing.assert_array_equal(read_back.values, true)
        assert read_back.valid.all()
        millimetres = np.sort(np.rint(true * 1000).ravel())
        assert clip.quantiles[0] * 1000 == pytest.approx(millimetres[0])
        assert clip.quantiles[5] * 1000 == pytest.approx(
            millimetres[round(0.5 * (len(millimetres) - 1))]
        )
        np.testing.assert_array_equal(clip.read(2, 4).values, true[2:4])


def test_other_clients_of_zarr_see_equal_values(whole):
    store = DepthStore(whole.root / "annotate")
    group = zarr.open_group(store.path, mode="r")
    for part in store.parts():
        for name in ("depth/image", "depth/wrist_image"):
            np.testing.assert_array_equal(group[f"parts/{part.name}/{name}"][:], part.read(name))


def test_bad_episodes_fail_alone_and_are_counted_downstream(tmp_path, over):
    path = over(make_rlds(tmp_path / "rlds", edit=spoiled))
    converted, annotated, tokenized = path.run_all()
    assert converted.exit_code == 0
    assert [f.key.index for f in annotated.failures] == [1]
    assert annotated.exit_code == 1
    assert "wrist_image" in annotated.failures[0].reason
    assert "step 3" in annotated.failures[0].reason
    assert (annotated.episodes, annotated.inherited) == (5, 0)
    assert sorted((f.key.shard, f.key.index) for f in tokenized.failures) == [(1, 0), (1, 1)]
    assert (tokenized.episodes, tokenized.inherited, tokenized.exit_code) == (3, 1, 1)
    for name in ("convert", "annotate", "tokenize"):
        assert list(verify_store(path.root / name)) == []
    assert path.run("tokenize", retry_failed=True).made == 1  # of its own failures only


def test_what_is_mended_upstream_is_made_again(tmp_path, over):
    bad, good = tmp_path / "bad", make_rlds(tmp_path / "good")
    path = over(make_rlds(bad, edit=spoiled))
    shard = next(bad.glob("*.tfrecord-00000*"))
    data = shard.read_bytes()
    shard.write_bytes(data[:-1])  # its last episode, which is also the one with the bad picture
    assert [outcome.exit_code for outcome in path.run_all()] == [1, 0, 1]
    shard.write_bytes(data)
    assert path.run("convert", retry_failed=True).remade == 1
    outcome = path.run("annotate")
    assert (outcome.made, outcome.remade, outcome.kept) == (1, 1, 2)
    assert [failure.reason for failure in outcome.failures if "step 3" in failure.reason]
    assert path.run("tokenize").remade == 1
    assert good.is_dir()


def test_parts_of_a_shard_that_is_cut_elsewhere_now_give_way(tmp_path, over, monkeypatch):
    monkeypatch.setattr(annotate, "PART_FRAMES", 10)
    rlds = make_rlds(tmp_path / "rlds", steps=[4, 4, 4, 4, 4, 9], shards=1)
    path, shard = over(rlds), next(rlds.glob("*.tfrecord*"))
    data = shard.read_bytes()
    shard.write_bytes(data[:-1])
    path.run_all()
    pieces = DepthStore(path.root / "annotate").part_names
    assert [name.rsplit(".", 1)[1] for name in pieces] == ["000-of-003", "001-of-003", "002-of-003"]
    shard.write_bytes(data)
    path.run("convert", retry_failed=True)
    outcomes = [path.run(name) for name in ("annotate", "tokenize")]
    assert [outcome.episodes for outcome in outcomes] == [6, 6]
    for name in ("annotate", "tokenize"):
        store = DepthStore(path.root / "annotate")
        assert [part.rsplit("-", 1)[1] for part in store.part_names] == ["004"] * 4
        assert store.missing() == []
        assert list(verify_store(path.root / name)) == []


def test_cuts_hold_whole_episodes():
    assert cut([3, 3, 3], 6) == [(0, 2), (2, 3)]
    assert cut([9, 1, 1], 6) == [(0, 1), (1, 3)]
    assert cut([], 6) == [(0, 0)]
    rng = np.random.default_rng(0)
    for _ in range(100):
        frames = rng.integers(1, 50, rng.integers(1, 40)).tolist()
        cuts = cut(frames, 60)
        assert [row for start, stop in cuts for row in range(start, stop)] == [*range(len(frames))]
        assert all(sum(frames[a:b]) <= 60 or b - a == 1 for a, b in cuts)


def test_what_is_refused(tmp_path, over):
    path = over(make_rlds(tmp_path / "rlds"))
    path.run("convert")
    with pytest.raises(ConfigError, match="no camera 'imag'") as caught:
        run(path.stage("annotate", camera=("imag",)), RunOptions())
    assert "image" in caught.value.remedy
    drop_part(path.root / "convert", EpisodeStore(path.root / "convert").part_names[1])
    with pytest.raises(MissingParts, match="lacks 1") as missing:
        path.run("annotate")
    assert "--partial" in missing.value.remedy
    (tmp_path / "rlds").rename(tmp_path / "moved")
    path.stage("annotate")
    with pytest.raises(SourceError, match="not in"):
        annotate.AnnotateStage(
            EpisodeStore(path.root / "convert"),
            tmp_path / "out",
            path.stage("annotate").config,
            "cpu",
            partial=True,
        ).work()
    assert not (path.root / "annotate").exists()


def test_a_data_set_without_depth_says_so(tmp_path, over):
    path = over(make_rlds(tmp_path / "rlds", depth=False, name="libero_spatial_no_noops"))
    path.run("convert")
    with pytest.raises(ConfigError, match="no depth of its own"):
        path.run("annotate")


class Faulty:
    """An estimator whose clips fail in all the ways there are, by clip number."""

    spec = EstimatorSpec("faulty", DepthKind.DISPARITY, weights="none")
    device = "any"
    degraded = False
    fails_with_depth = False  # a failure is one, whatever comes with it

    def estimate(self, clips):
        for number, clip in enumerate(clips):
            half = len(clip) // 2
            yield DepthBlock(number, values(clip, 0, half))
            if number == 2:
                rest = values(clip, half, len(clip)) if self.fails_with_depth else None
                yield DepthBlock(number, rest, error="out of memory at the smallest window")
            elif number == 5:
                yield DepthBlock(
                    number, DepthClip.of(np.full((1, 32, 32), 1e6), DepthKind.DISPARITY)
                )
            elif number == 6:
                yield DepthBlock(
                    number, DepthClip.of(np.full((1, 32, 32), np.nan), DepthKind.DISPARITY)
                )
                yield DepthBlock(number, values(clip, half + 1, len(clip)))
            else:
                yield DepthBlock(number, values(clip, half, len(clip)))


def values(clip, start, stop):
    return DepthClip.of(clip.read(start, stop)[..., 0] / 8, DepthKind.DISPARITY)


def entry_of(estimator):
    return EstimatorEntry(
        name="faulty",
        kind=DepthKind.DISPARITY,
        licence="",
        notice="",
        input_size=0,
        build=lambda weights, run, device: estimator(),
    )


@pytest.mark.parametrize("with_depth", [False, True])
def test_an_estimator_that_fails_costs_the_episode(tmp_path, over, monkeypatch, with_depth):
    monkeypatch.setattr(Faulty, "fails_with_depth", with_depth)
    entry = entry_of(Faulty)
    monkeypatch.setitem(ESTIMATORS, "faulty", entry)
    path = over(make_rlds(tmp_path / "rlds", shards=1))
    path.run("convert")
    outcome = run(path.stage("annotate", estimator="faulty"), RunOptions())
    assert [failure.key.index for failure in outcome.failures] == [1, 2]
    assert "out of memory" in outcome.failures[0].reason
    assert "does not fit the encoding" in outcome.failures[1].reason
    store = DepthStore(path.root / "annotate")
    assert [clip.key.index for clip in store.clips("image")] == [0, 3, 4, 5]
    clip = list(store.clips("image"))[1].read()
    assert clip.valid.all(axis=(1, 2)).tolist() == [True, True, False, True, True]
    assert not np.isnan(clip.values).any()
    run(path.stage("annotate", estimator="faulty", out=tmp_path / "again"), RunOptions())
    assert tree_digest(tmp_path / "again") == tree_digest(store.path)


def test_an_estimate_of_no_pixel_costs_the_episode(tmp_path, over, monkeypatch):
    """NaN all over would be a store without depth, and exit code 0. What a sensor did not measure
    is another matter: there the data set itself has none."""

    class Nothing(Faulty):
        def estimate(self, clips):
            for number, clip in enumerate(clips):
                depth = values(clip, 0, len(clip))
                nowhere = np.full(depth.values.shape, np.nan if number == 3 else 1.0)
                yield DepthBlock(number, DepthClip.of(depth.values * nowhere, depth.kind))

    monkeypatch.setitem(ESTIMATORS, "faulty", entry_of(Nothing))

    def emptied(number, made):
        if number == 2:
            made["steps/observation/depth"] = np.zeros_like(made["steps/observation/depth"])

    path = over(make_rlds(tmp_path / "rlds", shards=1, edit=emptied))
    path.run("convert")
    outcome = run(path.stage("annotate", estimator="faulty"), RunOptions())
    (failure,) = outcome.failures
    assert failure.reason == "wrist_image: its estimator gave depth of no pixel"
    assert [clip.key.index for clip in DepthStore(path.root / "annotate").clips("image")] == [
        index for index in range(6) if index != failure.key.index
    ]
    own = run(path.stage("annotate", out=tmp_path / "own"), RunOptions())
    assert (own.failures, own.episodes) == ([], 6)


def test_an_estimator_that_stops_early_is_our_mistake(tmp_path, over, monkeypatch):
    class Lazy(Faulty):
        def estimate(self, clips):
            yield from list(super().estimate(list(clips)[:2]))

    entry = entry_of(Lazy)
    monkeypatch.setitem(ESTIMATORS, "faulty", entry)
    path = over(make_rlds(tmp_path / "rlds", shards=1))
    path.run("convert")
    with pytest.raises(AssertionError, match="stopped in episode 1"):
        run(path.stage("annotate", estimator="faulty"), RunOptions())
    assert DepthStore(path.root / "annotate").part_names == []


def test_the_progress_line_says_how_busy_the_estimator_is(whole, tmp_path):
    reports = []
    stage = whole.stage("annotate", estimator="tiny", input_size=28, out=tmp_path / "depth")
    worker = stage.build("cpu")
    filling.create(stage.out, stage.spec)
    make_part(stage, worker, stage.work()[0], lambda count, **extra: reports.append((count, extra)))
    assert sum(count for count, _ in reports) == 20
    assert all(0 <= extra["busy"] <= 1 for _, extra in reports)


def test_a_worker_with_other_weights_than_the_driver_makes_nothing(whole, tmp_path):
    stage = whole.stage("annotate", estimator="tiny", out=tmp_path / "depth")
    estimator = stage.estimator  # as the driver tells its workers
    stage.__dict__["estimator"] = replace(estimator, weights="of another file")
    with pytest.raises(ConfigError, match="of another file") as raised:
        stage.build("cpu")
    assert "same weights" in raised.value.remedy


def test_a_data_set_elsewhere_gives_the_same_bytes_failures_too(tmp_path, over):
    manifests = []
    for folder in (tmp_path / "here", tmp_path / "there" / "deeper"):
        rlds = make_rlds(folder / "rlds", edit=spoiled)
        cut_one = next(rlds.glob("*.tfrecord-00000*"))
        cut_one.write_bytes(cut_one.read_bytes()[:-1])
        path = over(rlds, folder / "stores")
        failures = [failure for outcome in path.run_all() for failure in outcome.failures]
        assert any(cut_one.name in failure.reason for failure in failures)
        parts = (path.root / name / "parts" for name in ("convert", "annotate", "tokenize"))
        manifests.append([m.read_bytes() for f in parts for m in sorted(f.glob("*/manifest.json"))])
    assert len(manifests[0]) == 9
    assert manifests[0] == manifests[1]


STATED = """
datasets = ["libero_sim_depth"]
status = "unseen"
fps = 20.0
instruction = "steps/language_instruction"
gripper = "open-1_closed1"
[[camera]]
name = "image"
key = "steps/observation/image"
orientation = "mirror"
depth_key = "steps/observation/depth"
DEPTH
[[action]]
from = "steps/action"
dims = ["x", "y", "z", "rx", "ry", "rz", "gripper"]
[[proprio]]
from = "steps/observation/state"
take = "0:3"
dims = ["x", "y", "z"]
"""


def own_depth(path, tmp_path, depth):
    """The DepthStore of the data set's own depth, with a schema that says `depth` of it."""
    (tmp_path / "stated.toml").write_text(STATED.replace("DEPTH", depth))
    run(path.stage("convert", schema=str(tmp_path / "stated.toml")), RunOptions())
    return path.run("annotate"), DepthStore(path.root / "annotate")


def blind(number, values):
    """A band that only one of the two eyes sees, and a far wall."""
    depth = values["steps/observation/depth"]
    depth[:, :, :5] = 65535
    depth[:, :4, 5:] = 9000
    values["steps/observation/depth"] = depth


def test_pixels_that_hold_a_placeholder_are_not_valid_and_are_counted(tmp_path, over):
    path = over(make_rlds(tmp_path / "rlds", episodes=3, shards=2, edit=blind))
    outcome, store = own_depth(path, tmp_path, 'depth_unit = "mm"')
    assert store.encoding is depth.DepthEncoding.UINT16_MM
    for clip in store.clips("image"):
        valid = clip.read().valid
        assert not valid[:, :, :5].any()
        assert valid[:, :, 5:].all()
        assert clip.quantiles[-1] == 9.0
    assert outcome.not_measured == {"image": {"pixels": 3 * 5 * 32 * 32, "65535": 3 * 5 * 32 * 5}}


@pytest.mark.parametrize(
    ("stated", "top", "counts"),
    [
        ("depth_invalid = [65535, 9000]", 2.743, {"65535": 2400, "9000": 1620}),
        ("depth_max = 3.0", 2.743, {"beyond 3 m": 4020}),
        ("depth_max = 9.0", 9.0, {"beyond 9 m": 2400}),
    ],
)
def test_what_the_schema_calls_no_measurement_is_none(tmp_path, over, stated, top, counts):
    path = over(make_rlds(tmp_path / "rlds", episodes=3, shards=1, edit=blind))
    outcome, store = own_depth(path, tmp_path, f'depth_unit = "mm"\n{stated}')
    assert outcome.not_measured == {"image": {"pixels": 15360, **counts}}
    farthest = max(clip.quantiles[-1] for clip in store.clips("image"))
    assert farthest == pytest.approx(top, abs=0.002)


@pytest.mark.parametrize(
    ("unit", "scale", "encoding"),
    [
        ("m/10000", 1e-4, "float32"),
        ("m/5000", 2e-4, "float32"),
        ("m/1024", 1 / 1024, "float32"),
        ("mm", 1e-3, "uint16_mm"),
        ("m/1000", 1e-3, "uint16_mm"),
        ("m/500", 2e-3, "uint16_mm"),
    ],
)
def test_depth_of_any_scale_is_stored_without_loss(tmp_path, over, unit, scale, encoding):
    stored = {}

    def keep(number, values):
        stored[number] = values["steps/observation/depth"][..., 0]

    path = over(make_rlds(tmp_path / "rlds", episodes=2, shards=1, edit=keep))
    outcome, store = own_depth(path, tmp_path, f'depth_unit = "{unit}"')
    assert store.encoding == encoding
    for number, clip in enumerate(store.clips("image")):
        exact = (stored[number] * np.float64(scale)).astype(np.float32)
        np.testing.assert_allclose(clip.read().values, exact, rtol=1e-7)
    assert outcome.not_measured == {}


def test_depth_beyond_all_bounds_fails_loudly():
    """No placeholder that is known, and no unit of any camera: told, not stored as infinity."""
    clip = DepthClip.of(np.float32([[[0.5, 70000.0]]]), DepthKind.METRES)
    with pytest.raises(SourceError, match="does not fit the encoding float32") as caught:
        depth.pack(clip, depth.DepthEncoding.FLOAT32)
    assert "depth_max" in caught.value.remedy
