"""Cameras that an episode does not have, from convert to codes and back."""

import numpy as np
import pytest
from typer.testing import CliRunner

from depthtok.cli.main import app
from depthtok.config import RunOptions
from depthtok.errors import ConfigError, SourceError
from depthtok.stores.codebook import Codebook
from depthtok.stores.codes import CodeStore
from depthtok.stores.depth import DepthStore
from depthtok.stores.episodes import EpisodeStore
from depthtok.stores.filling import create
from depthtok.stores.lineage import outdated
from depthtok.stores.verify import verify_store
from depthtok.testing import make_rlds, tree_digest
from pipelines.annotate.fused import FusedStage
from pipelines.annotate.stage import AnnotateStage
from pipelines.config import AnnotateConfig, TokenizeConfig
from pipelines.convert.stage import ConvertStage
from pipelines.decode import DecodeStage
from pipelines.run import run
from pipelines.tokenize import TokenizeStage
from pipelines.verify_codes import verify_sample
from vqvae.data.clips import StoredClips
from vqvae.quality.agreement import Agreement

MAIN, WRIST = "steps/observation/image", "steps/observation/wrist_image"
STEPS = 7


def spoil(number, values):
    """0 has both cameras; 1 no wrist; 2 neither; 3 is dark for a while; 4 stands still; 5 has a
    grey that is all but one colour."""
    if number in (1, 2):
        values[WRIST] = np.zeros_like(values[WRIST])
    if number == 2:
        values[MAIN] = np.full_like(values[MAIN], 255)
    if number == 3:
        values[WRIST][1:] = 0
    if number == 4:
        values[WRIST][:] = values[WRIST][:1]
    if number == 5:
        noise = np.random.default_rng(5).integers(90, 94, values[MAIN].shape)
        values[MAIN] = noise.astype(np.uint8)


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory):
    return make_rlds(tmp_path_factory.mktemp("spoiled") / "1.0.0", steps=STEPS, size=64, edit=spoil)


@pytest.fixture
def made(over, spoiled):
    """Episodes, and their depth by the tiny estimator, at the codebook's size."""
    path = over(spoiled)
    assert path.run("convert").exit_code == 0
    settings = {"estimator": "tiny", "input_size": 28}
    outcome = run(path.stage("annotate", **settings), RunOptions())
    assert [failure.key.index for failure in outcome.failures] == [0]  # episode 2: shard 1, first
    assert "every camera is absent" in outcome.failures[0].reason
    return path


def known(store, cameras=("image", "wrist_image")):
    """(number of the episode, camera) of what is absent, by the keys of two episodes a shard."""
    return {
        (2 * part.shard.shard + index, camera)
        for part in store.parts()
        for camera in cameras
        for index in part.absent.get(camera, ())
    }


def test_convert_finds_those_of_one_colour_without_decoding_others(spoiled, over, monkeypatch):
    from depthtok.sources import pixels

    decoded = []
    real = pixels.PixelFormat.decode
    monkeypatch.setattr(
        pixels.PixelFormat, "decode", lambda self, data: decoded.append(data) or real(self, data)
    )
    path = over(spoiled)
    outcome = path.run("convert")
    store = EpisodeStore(path.root / "convert")
    assert known(store) == {(1, "wrist_image"), (2, "wrist_image"), (2, "image")}
    assert store.absent_counts() == outcome.absent == {"wrist_image": 2, "image": 1}
    assert store.knows_absent
    assert [e.absent("wrist_image") for e in store] == [False, True, True, False, False, False]
    assert len(decoded) == 4  # three of one colour, and the scene that stands still


def test_all_steps_of_ordinary_data_are_told_apart_without_decoding(rlds, over, monkeypatch):
    from depthtok.stores import absent

    monkeypatch.setattr(absent, "blank", lambda *_: pytest.fail("decoded"))
    path = over(rlds)
    assert path.run("convert").absent == {}
    assert all("absent" not in part.meta for part in EpisodeStore(path.root / "convert").parts())


def test_annotate_decides_over_all_frames_and_keeps_the_rows(made):
    store = DepthStore(made.root / "annotate")
    assert known(store) == {(1, "wrist_image"), (5, "image")}
    assert list(verify_store(made.root / "annotate")) == []
    for part in store.parts():
        clips = list(store.clips_of(part, store.cameras, absent=True))
        assert len(clips) == 2 * len(part.frames)
        for clip in clips:
            assert clip.absent == (not clip.read().valid.any()) == np.isnan(clip.quantiles).all()
            assert len(clip.read()) == STEPS
    assert len(list(store.clips())) == 8  # 5 episodes of two cameras, two absent
    assert not any(clip.absent for clip in store.clips())


def test_the_other_cameras_are_estimated_as_if_nothing_were_absent(made, tmp_path):
    """The same bytes as from a store that knows nothing of absent cameras."""
    config = AnnotateConfig(estimator="tiny", input_size=28, size=32, camera=("image",))
    run(
        AnnotateStage(EpisodeStore(made.root / "convert"), tmp_path / "one", config, "cpu"),
        RunOptions(),
    )
    alone = {clip.key: clip for clip in DepthStore(tmp_path / "one").clips()}
    for clip in DepthStore(made.root / "annotate").clips("image"):
        np.testing.assert_array_equal(clip.read().values, alone[clip.key].read().values)
        assert clip.quantiles == alone[clip.key].quantiles


def test_depth_of_the_data_set_leaves_out_what_convert_found(over, spoiled):
    path = over(spoiled)
    path.run("convert")
    outcome = path.run("annotate")
    assert (outcome.absent, len(outcome.failures)) == ({"wrist_image": 1}, 1)
    assert known(DepthStore(path.root / "annotate")) == {(1, "wrist_image")}


def test_a_failed_episode_before_one_without_cameras_fails_alone(tmp_path, over):
    """The second clip of the failed episode comes when the one without any has ended, too."""

    def edit(number, values):
        if number == 2:
            values["steps/observation/depth"] = [b"\x89PNG\r\n\x1a\nno picture"] * STEPS
        if number == 3:
            values[MAIN], values[WRIST] = np.zeros_like(values[MAIN]), np.zeros_like(values[WRIST])

    path = over(make_rlds(tmp_path / "1.0.0", steps=STEPS, size=64, edit=edit))
    path.run("convert")
    outcome = path.run("annotate")
    reasons = {(f.key.shard, f.key.index): f.reason for f in outcome.failures}
    assert list(reasons) == [(1, 0), (1, 1)]  # episodes 2 and 3: two a shard
    assert reasons[1, 0].startswith("image: ")
    assert "every camera is absent" in reasons[1, 1]
    assert outcome.episodes == 4


def test_a_store_of_the_former_version_is_gone_on_with(over, spoiled):
    path = over(spoiled)
    path.run("convert")
    stage = path.stage("annotate")
    create(stage.out, stage.earlier[0])
    again = path.stage("annotate")
    assert again.spec.stage_version == 1
    assert run(again, RunOptions()).made == 3
    assert DepthStore(stage.out).spec.stage_version == 1


def test_resumed_and_whole_stores_are_the_same_bytes(made, over, tmp_path):
    path = over(made.rlds, tmp_path / "again")
    settings = {"estimator": "tiny", "input_size": 28}
    path.run("convert")
    for limit in (1, 3, None):
        run(path.stage("annotate", **settings), RunOptions(limit=limit))
    for name in ("convert", "annotate"):
        assert tree_digest(path.root / name / "parts") == tree_digest(made.root / name / "parts")


def test_codes_of_absent_cameras_are_not_given_out(made, tmp_path):
    outcome = made.run("tokenize")
    store = CodeStore(made.root / "tokenize")
    assert outcome.exit_code == 0
    assert outcome.absent == {"wrist_image": 1, "image": 1}
    keys = [episode.key for part in store.parts() for episode in part.episodes]
    key, last = keys[1], keys[-1]
    assert store.absent(key, "wrist_image")
    assert not store.absent(key, "image")
    assert store.find_grid(key, "wrist_image") is None
    assert store.find_grid(key, "image").codes.shape == (STEPS, 4, 4)
    with pytest.raises(SourceError, match="does not have camera 'image'"):
        store.grid_of(last, "image")
    part = store.find(key)[0]
    assert not part.map("codes/wrist_image")[STEPS : 2 * STEPS].any()
    assert np.isnan(part.map("range")[1, 1]).all()
    assert np.isfinite(part.map("range")[1, 0]).all()
    depth = DepthStore(made.root / "annotate")
    assert verify_sample(store, depth, made.stage("tokenize").codebook, "cpu", 99) == 8


def test_fused_codes_are_those_of_the_two_stages(made, tmp_path):
    made.run("tokenize")
    apart = made.stage("tokenize")
    settings = {"estimator": "tiny", "input_size": 28}
    annotate = made.stage("annotate", tmp_path / "fused", **settings)
    fused = FusedStage(annotate, apart.codebook, tmp_path / "fused", TokenizeConfig(), {})
    run(fused, RunOptions())
    one, two = CodeStore(made.root / "tokenize"), CodeStore(tmp_path / "fused")
    for a, b in zip(one.parts(), two.parts(), strict=True):
        assert a.absent == b.absent
        for name in ("codes/image", "codes/wrist_image", "range"):
            np.testing.assert_array_equal(a.map(name), b.map(name))
    same = Agreement.of(one, two)
    assert [len(same.cameras[name].episodes) for name in one.cameras] == [4, 4]
    assert all(camera.estimate("same").mean == 1 for camera in same.cameras.values())


def test_cameras_that_no_episode_has_are_not_compared(made, tmp_path, monkeypatch):
    made.run("tokenize")
    store = CodeStore(made.root / "tokenize")
    real = CodeStore.absent
    monkeypatch.setattr(
        CodeStore,
        "absent",
        lambda self, key, camera: camera == "image" or real(self, key, camera),
    )
    assert list(Agreement.of(store, store).cameras) == ["wrist_image"]
    monkeypatch.setattr(CodeStore, "absent", lambda self, key, camera: True)
    with pytest.raises(ConfigError, match="no episode"):
        Agreement.of(store, store)


def test_decoded_depth_has_no_absent_camera_either(made, tmp_path):
    made.run("tokenize")
    book = made.stage("tokenize").codebook
    stage = DecodeStage(CodeStore(made.root / "tokenize"), book, tmp_path / "back", "cpu")
    assert run(stage, RunOptions()).exit_code == 0
    store = DepthStore(tmp_path / "back")
    assert known(store) == {(1, "wrist_image"), (5, "image")}
    assert len(list(store.clips())) == 8
    part = next(iter(store.parts()))
    assert np.isnan(part.map("quantiles")[1, 1]).all()


def test_a_chosen_camera_that_an_episode_lacks_is_absent_there(made, tmp_path):
    """Not a failure, which no --retry-failed could mend: the episode has another camera. Only one
    that has none at all has failed."""
    config = AnnotateConfig(estimator="tiny", input_size=28, size=32, camera=("wrist_image",))
    episodes = EpisodeStore(made.root / "convert")
    outcome = run(AnnotateStage(episodes, tmp_path / "depth", config, "cpu"), RunOptions())
    assert outcome.absent == {"wrist_image": 1}
    assert [(f.key.shard, f.key.index) for f in outcome.failures] == [(1, 0)]
    store = DepthStore(tmp_path / "depth")
    assert known(store, ["wrist_image"]) == {(1, "wrist_image")}
    both = {(c.key, c.camera): c for c in DepthStore(made.root / "annotate").clips("wrist_image")}
    assert len(list(store.clips())) == len(both) == 4
    for clip in store.clips():
        np.testing.assert_array_equal(clip.read().values, both[clip.key, clip.camera].read().values)
    assert list(verify_store(tmp_path / "depth")) == []

    codes = TokenizeStage(
        store, made.stage("tokenize").codebook, tmp_path / "codes", TokenizeConfig(), "cpu", {}
    )
    outcome = run(codes, RunOptions())
    assert (outcome.absent, outcome.failures) == ({"wrist_image": 1}, [])
    fused = FusedStage(
        AnnotateStage(episodes, tmp_path / "fused", config, "cpu"),
        codes.codebook,
        tmp_path / "fused",
        TokenizeConfig(),
        {},
    )
    run(fused, RunOptions())
    pairs = zip(CodeStore(codes.out).parts(), CodeStore(fused.out).parts(), strict=True)
    for one, two in pairs:
        assert one.absent == two.absent
        for name in ("codes/wrist_image", "range"):
            np.testing.assert_array_equal(one.map(name), two.map(name))


def test_a_camera_that_no_episode_has_is_refused_with_those_there_are(tmp_path, over):
    def blind(number, values):
        values[WRIST] = np.zeros_like(values[WRIST])

    path = over(make_rlds(tmp_path / "rlds", steps=2, size=64, edit=blind))
    path.run("convert")
    tiny = {"estimator": "tiny", "input_size": 28}
    with pytest.raises(ConfigError, match=r"no episode of .* has camera 'wrist_image'") as caught:
        run(path.stage("annotate", camera=("image", "wrist_image"), **tiny), RunOptions())
    assert caught.value.remedy == "cameras that there are: image"
    assert not (path.root / "annotate").exists()
    assert run(path.stage("annotate", **tiny), RunOptions()).absent == {"wrist_image": 6}
    stage = path.stage("tokenize")
    chosen = TokenizeConfig(camera=("wrist_image",))
    with pytest.raises(ConfigError, match=r"no episode of .* has camera 'wrist_image'") as caught:
        _ = TokenizeStage(stage.depth, stage.codebook, tmp_path / "c", chosen, "cpu", {}).spec
    assert caught.value.remedy == "cameras that there are: image"


def test_depth_of_absent_cameras_alone_is_absent_too(made, tmp_path):
    depth = DepthStore(made.root / "annotate")
    config = TokenizeConfig(camera=("wrist_image",))
    stage = made.stage("tokenize")
    alone = TokenizeStage(depth, stage.codebook, tmp_path / "wrist", config, "cpu", {})
    outcome = run(alone, RunOptions())
    assert outcome.failures == []
    assert known(CodeStore(tmp_path / "wrist"), ["wrist_image"]) == {(1, "wrist_image")}


def test_clips_of_a_codebook_leave_them_out(made):
    store = DepthStore(made.root / "annotate")
    clips = StoredClips(store, store.cameras)
    assert (len(clips), clips.absent) == (8, 2)
    listed = [(clip.key, clip.camera, clip.quantiles, clip.start) for clip in clips]
    assert listed == [(c.key, c.camera, c.quantiles, c.start) for c in store.clips()]
    assert clips.lengths.tolist() == [STEPS] * 8
    assert (StoredClips(store, ["image"]).absent, len(StoredClips(store, ["image"]))) == (1, 4)


def test_it_is_said(made, over, tmp_path):
    result = CliRunner().invoke(app, ["inspect", str(made.root / "convert")])
    assert "wrist_image in 2 episodes, image in 1 episodes" in result.output.replace("\n", " ")
    made.run("tokenize")
    for store in ("annotate", "tokenize"):
        result = CliRunner().invoke(app, ["inspect", str(made.root / store)])
        assert "wrist_image in 1 episodes" in result.output
    for store in ("convert", "annotate", "tokenize"):
        page = ["report", str(made.root / store), "--out", str(tmp_path / store)]
        result = CliRunner().invoke(app, page)
        assert result.exit_code == 0, result.output
    again = over(made.rlds, tmp_path / "again")
    arguments = ["convert", made.rlds, "--out", again.root / "convert"]
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert "wrist_image: absent in 2 episodes" in result.output


def flagged(tmp_path, flags):
    """A data set with a flag of its wrist camera, and its schema that names it."""
    import json

    from depthtok.sources.features import Feature
    from depthtok.sources.write import RldsWriter
    from depthtok.testing import _episode, _features

    flag = "episode_metadata/has_wrist"
    features = {feature.path: feature for feature in _features(64, depth=True)}
    features[flag] = Feature(flag, "scalar", "bool", (), "none", per_step=False)
    writer = RldsWriter(tmp_path / "1.0.0", "flagged", "1.0.0", features, "flags")

    def values(number):
        episode = _episode(number, STEPS, 64, np.random.default_rng(number))
        spoil(number, episode)
        return {**{k: v for k, v in episode.items() if k in features}, flag: flags[number]}

    writer.write_shard("train", 0, 1, map(values, range(len(flags))))
    from importlib import resources

    text = (resources.files("depthtok.sources.schemas") / "libero_depth.toml").read_text()
    lines = text.splitlines()
    at = lines.index('key = "steps/observation/wrist_image"')
    schema = tmp_path / "flagged.toml"
    schema.write_text(
        "\n".join([*lines[: at + 1], f"present_key = {json.dumps(flag)}", *lines[at + 1 :]])
    )
    return writer.finish(), schema


def test_a_flag_that_is_right_is_followed_and_one_that_is_wrong_is_said(tmp_path):
    rlds, schema = flagged(tmp_path, [True, False, False, True, False])
    arguments = ["convert", rlds, "--schema", schema, "--out", tmp_path / "episodes"]
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    store = EpisodeStore(tmp_path / "episodes")
    assert [e.absent("wrist_image") for e in store] == [False, True, True, False, True]
    assert "wrist_image: its present_key is false in 1 episodes whose pictures show" in (
        result.output
    )
    rlds, schema = flagged(tmp_path / "right", [True, False, False, True, True])
    arguments = ["convert", rlds, "--schema", schema, "--out", tmp_path / "right/episodes"]
    assert "present_key" not in CliRunner().invoke(app, list(map(str, arguments))).output


@pytest.mark.parametrize("restored", [True, False])
def test_a_flag_that_is_corrected_makes_depth_and_codes_anew(tmp_path, over, book, restored):
    """The pictures are the same: a camera that is restored gets depth, one that is withdrawn loses
    it."""
    for version, flag in enumerate((not restored, restored)):
        rlds, schema = flagged(tmp_path / str(version), [True, False, False, flag])
        path = over(rlds)
        arguments = ["convert", rlds, "--schema", schema, "--out", path.root / "convert"]
        CliRunner().invoke(app, list(map(str, arguments)))
        annotate = path.stage("annotate", estimator="tiny", input_size=28)
        codebook, out = Codebook.load(book), path.root / "fused"
        fused = FusedStage(annotate, codebook, out, TokenizeConfig(), {"failures": []})
        if version:
            assert len(outdated(DepthStore(annotate.out))) == 1
            assert len(list(verify_store(out))) == 1
        for stage in (annotate, fused):
            assert [run(stage, RunOptions()).made for _ in range(2)] == [1, 0]
        for store in (DepthStore(annotate.out), CodeStore(out)):
            (part,) = store.parts()
            assert part.lacks("wrist_image", 3) != flag
            assert outdated(store) == []


def test_a_flag_that_says_yes_to_black_is_said_and_not_followed(tmp_path):
    rlds, schema = flagged(tmp_path, [True, True])
    arguments = ["convert", rlds, "--schema", schema, "--out", tmp_path / "episodes"]
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert "true in 1 whose pictures are one flat colour" in result.output
    assert [e.absent("wrist_image") for e in EpisodeStore(tmp_path / "episodes")] == [False, True]


def test_real_bridge_has_no_fourth_camera_whatever_its_flags_say(tmp_path):
    from depthtok.sources.rlds import RldsDirectory
    from pipelines.config import ConvertConfig

    rlds = RldsDirectory.open("tests/data/real/bridge_dataset/1.0.0")
    flags = [f"episode_metadata/has_image_{n}" for n in range(4)]
    for shard in next(iter(rlds.splits.values())).shards:
        for raw in rlds.records(shard):
            assert not any(raw.values(flag) for flag in flags)
    outcome = run(ConvertStage(rlds, tmp_path / "episodes", ConvertConfig()), RunOptions())
    store = EpisodeStore(tmp_path / "episodes")
    assert outcome.absent == {"image_3": len(store)}
