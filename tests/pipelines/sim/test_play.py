"""The policies that eval plays: their depth codes judged, and what is said of those that fail."""

import threading
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from depthtok.data import DepthKind
from depthtok.errors import (
    ConfigError,
    DepthKindError,
    DepthtokError,
    StaleStore,
    WeightsError,
)
from depthtok.normalisation import Normalisation
from depthtok.orientation import Orientation
from depthtok.sources.schema import Schema
from depthtok.stores.codebook import Codebook
from pipelines.evaluate import play, server
from pipelines.evaluate.judged import knows_codes
from pipelines.evaluate.trials import Arena, Evaluation
from pipelines.evaluate.true_depth import TrueDepth
from pipelines.sim.benchmark import benchmark_of
from pipelines.sim.libero import MEANING as LIBERO
from pipelines.sim.rollout import Rollout, Trial
from pipelines.sim.rollout import play as roll
from tests.pipelines.sim.fake_world import MEANING, FakeWorld, Walker
from tests.pipelines.sim.test_evaluation import CARD, JOBS
from vla.named_configs import load
from vla.serving.policy import Policy
from vla.serving.running import Running
from vla.training import checkpoint

BOOK = Path(str(files("vqvae") / "demo"))


class Knowing:
    """A policy whose depth head always says code 3, of the first of its cameras."""

    meaning = MEANING

    def __init__(self, grid, cameras=("image", "wrist_image")):
        self.cameras = cameras
        self.model = SimpleNamespace(predict_depth=lambda seen: self.logits)
        self.logits = torch.nn.functional.one_hot(torch.full((1, 1, grid[0] * grid[1]), 3), 256)
        self.seeds = []

    def reset(self, seed):
        self.seeds.append(seed)

    def observe(self, observations):
        return observations

    def act(self, observation):
        return np.tile(np.array([[0.2, 0]], np.float32), (3, 1))


def test_predicted_codes_are_judged_by_the_true_depth():
    book = Codebook.load(BOOK)
    seeing = play.Seeing(Knowing(book.grid), BOOK, "cpu")
    rollout = roll(FakeWorld(), seeing, Trial(0, 4, max_steps=9, replan_steps=3))
    figures = play.measure(seeing, rollout)
    assert 0 <= figures["code_agreement"] < 0.5
    assert 0 < figures["disparity_error"] < 1
    assert figures["early_disparity_error"] == figures["disparity_error"]  # three plans
    assert "early_own_error" not in figures  # the trial was decided by then
    assert [len(panel) for panel in rollout.panels] == [rollout.plans] * 2
    true, said = rollout.panels
    assert np.ptp(np.stack(true)) > 0
    assert np.array_equal(said[0], said[-1])


class FromTheHand(FakeWorld):
    """Its wrist camera sees another depth than the main one."""

    def render(self, camera, *, segmentation=False):
        view = super().render(camera, segmentation=segmentation)
        nearer = view.depth_m**3 / 8
        return replace(view, depth_m=nearer) if camera == "wrist_image" else view


def test_codes_are_judged_by_the_depth_of_the_camera_that_they_are_of():
    book = Codebook.load(BOOK)
    figures = {}
    for cameras in (("image", "wrist_image"), ("wrist_image", "image"), ("wrist_image",)):
        seeing, world = play.Seeing(Knowing(book.grid, cameras), BOOK, "cpu"), FromTheHand()
        rollout = roll(world, seeing, Trial(0, 4, max_steps=9, replan_steps=3))
        true_m = world.render(cameras[0]).depth_m
        assert rollout.camera == cameras[0]
        assert len(rollout.depth_m) == rollout.plans + 1
        assert all(np.array_equal(depth_m, true_m) for depth_m in rollout.depth_m)
        figures[cameras] = play.measure(seeing, rollout)
    of_main, *of_wrist = figures.values()
    assert of_wrist[0] == of_wrist[1] != of_main


def test_a_video_ends_with_the_camera_that_it_began_with(tmp_path):
    seeing = play.Seeing(Knowing(Codebook.load(BOOK).grid, ("wrist_image",)), BOOK, "cpu")
    rendered, filmed = [], []

    class Noting(FromTheHand):
        def render(self, camera, *, segmentation=False):
            rendered.append(camera)
            return super().render(camera, segmentation=segmentation)

    def measured(player, rollout):
        filmed.append(rollout)
        return play.measure(player, rollout)

    evaluation = Evaluation(tmp_path, CARD)
    evaluation.begin()
    Arena(evaluation, seeing, Noting, 1, measured).do(JOBS[0])
    assert len(evaluation.videos()) == 1
    assert {*rendered} == {"wrist_image"}
    assert len(filmed[0].frames) == filmed[0].plans + 1


def test_trials_whose_codes_were_held_against_another_camera_are_not_gone_on_with(
    monkeypatch, tmp_path
):
    """The main camera's card is as it was; of another one an earlier version's does not fit."""
    config = checkpoint.read_config(checkpoint.find(BEFORE))
    source = play.PolicySource(str(BEFORE), codebook=BOOK, gripper="open1_closed0")
    monkeypatch.setattr(play.PolicySource, "_fingerprint", lambda self, trained: trained)
    cards = {}
    for camera in ("image", "wrist_image"):
        changed = config.updated({"data.cameras": (camera,)})
        monkeypatch.setattr(checkpoint, "read_config", lambda path, config=changed: config)
        cards[camera] = {**CARD, **source.card(LIBERO)}
    assert "judged_camera" not in cards["image"]
    old = {k: v for k, v in cards["wrist_image"].items() if k != "judged_camera"}
    Evaluation(tmp_path, old).begin()
    with pytest.raises(StaleStore, match="the camera whose depth codes are judged"):
        Evaluation(tmp_path, cards["wrist_image"]).begin()
    assert "judged_camera" not in replace(source, codebook=None).card(LIBERO)


def test_an_early_error_does_not_know_how_the_trial_goes_on():
    """Ten plans, and then an arm before the camera at one distance or another."""
    grid, table = Codebook.load(BOOK).grid, np.tile(np.linspace(1.6, 0.9, 64)[:, None], (1, 64))
    figures = []
    for arm_m in (0.9, 0.5):
        near = table.copy()
        near[20:44, 20:44] = arm_m
        depth = [*[table.astype(np.float32)] * 10, *[near.astype(np.float32)] * 20]
        seeing = play.Seeing(Knowing(grid), BOOK, "cpu")
        seeing._seen = [np.full(grid, 3, np.uint8)] * len(depth)
        frames = [np.zeros((64, 64, 3), np.uint8)] * len(depth)
        figures.append(seeing.measure(Rollout(False, 150, len(depth), frames, depth)))
    first, second = figures
    assert first["early_own_error"] == second["early_own_error"]
    assert first["early_disparity_error"] > 1.5 * second["early_disparity_error"]


@pytest.mark.parametrize(
    "change", [{"model.depth.target": "latents"}, {"model.depth.future": 4}], ids=str
)
def test_only_codes_of_the_seen_frame_are_judged(monkeypatch, change):
    """Of latents the largest of 160 numbers would be taken for a code, without a word."""
    config = checkpoint.read_config(checkpoint.find(BEFORE)).updated(change)
    monkeypatch.setattr(checkpoint, "read_config", lambda path: config)
    source = play.PolicySource(str(BEFORE), codebook=BOOK, gripper="open1_closed0")
    with pytest.raises(ConfigError, match="was not trained to predict the depth codes of what it"):
        source.card(LIBERO)


@pytest.mark.parametrize(
    ("change", "known"),
    [
        ({}, True),
        ({"model.depth.target": "input"}, True),
        ({"model.depth.target": "latents"}, False),  # the largest of 160 numbers is no code
        ({"model.depth.target": "pixels"}, False),  # the largest of one number: always code 0
        ({"model.depth.target": "none"}, False),
        ({"model.depth.future": 4}, False),  # a later frame's
        ({"model.depth.expert": False}, False),
    ],
)
def test_whose_codes_can_be_compared_with_those_of_what_is_seen(change, known):
    assert knows_codes(load("tiny", change).model.depth) is known


def test_a_plain_policy_is_not_judged():
    assert play.measure(Knowing((2, 2)), object.__new__(Rollout)) == {}


def test_there_is_no_run(tmp_path):
    with pytest.raises(WeightsError, match="no checkpoint"):
        play.PolicySource(str(tmp_path)).card(MEANING)


def test_a_server_does_not_tell_codes():
    with pytest.raises(ConfigError, match="depth codes"):
        play.PolicySource("ws://127.0.0.1:9", codebook=BOOK).card(MEANING)


def test_no_server_answers():
    pytest.importorskip("websockets", reason="needs the extra `serve`")
    with pytest.raises(ConfigError, match="no policy server answers at ws://127"):
        play.PolicySource("ws://127.0.0.1:9").open(MEANING)


BEFORE = Path(__file__).parents[2] / "data" / "before" / "run"
ROBOT = replace(LIBERO, gripper="open1_closed0")


def test_a_run_from_before_meaning_was_kept_is_asked_for_its_gripper():
    with pytest.raises(ConfigError, match="does not say what its gripper"):
        play.PolicySource(str(BEFORE)).card(LIBERO)
    stated = play.PolicySource(str(BEFORE), gripper="open1_closed0")
    assert stated.card(LIBERO)["meaning"] == ROBOT.to_json()
    assert stated.open(LIBERO).meaning == ROBOT
    with pytest.raises(ConfigError, match="--accept = 'rate' is not known"):
        play.PolicySource(str(BEFORE), accepted=("rate",)).card(LIBERO)


def test_a_run_from_before_on_data_with_a_shipped_schema_is_taken_as_that_says(monkeypatch, capsys):
    schema = Schema.load("libero")
    monkeypatch.setattr(Schema, "find", lambda name: {"before_set": schema}.get(name), raising=True)
    source = play.PolicySource(str(BEFORE))
    card = source.card(LIBERO)
    assert card["meaning"]["gripper"] == "open-1_closed1"
    assert card["accepted"] == []
    assert "shipped schema of before_set, gripper open-1_closed1" in capsys.readouterr().err
    assert source.open(LIBERO).meaning == schema.meaning


def test_how_the_policy_runs_is_on_the_card(monkeypatch):
    source = play.PolicySource(str(BEFORE), gripper="open1_closed0")
    card = source.card(LIBERO)
    assert (card["precision"], card["sampler"]) == ("float32", "plain")
    half = replace(source, precision="bfloat16")
    card = half.card(LIBERO)
    assert (card["precision"], card["sampler"]) == ("bfloat16", "folded")
    assert half.open(LIBERO).running.told() == {k: card[k] for k in RUNNING}
    with pytest.raises(ConfigError, match="tf32 is for NVIDIA GPUs"):
        replace(source, precision="tf32").card(LIBERO)


def learnt_from(monkeypatch, ways):
    """The run, as if it had learnt from pictures that were published so."""
    state = replace(
        checkpoint.read_state(checkpoint.find(BEFORE)), orientations={"before_set": ways}
    )
    monkeypatch.setattr(checkpoint, "read_state", lambda path: state)
    return play.PolicySource(str(BEFORE), gripper="open1_closed0")


def test_a_policy_that_learnt_from_pictures_another_way_up_is_refused(monkeypatch):
    """LIBERO's HDF5 against its evaluation: pictures would be turned by 180 degrees."""
    ways = {"image": Orientation.FLIP, "wrist_image": Orientation.MIRROR}
    source = learnt_from(monkeypatch, ways)
    with pytest.raises(ConfigError, match=r"policy, benchmark\): image: flip, mirror\n") as raised:
        source.card(LIBERO, benchmark_of("libero_goal").view)
    assert 'orientation = "mirror"' in raised.value.remedy
    assert "--accept orientation" in raised.value.remedy
    accepted = replace(source, accepted=("orientation",))
    assert accepted.card(LIBERO, Orientation.MIRROR)["accepted"] == ["orientation"]
    with pytest.raises(ConfigError, match=r"wrist_image: mirror, identity\n"):
        source.card(LIBERO, benchmark_of("metaworld_mt50").view)


@pytest.mark.parametrize(
    ("suite", "schema"),
    [
        ("libero_goal", "libero"),
        ("libero_90", "libero_90"),
        ("libero_object", "libero_depth"),
        ("metaworld_mt50", "metaworld_depth"),
        ("libero_goal", None),  # not known
    ],
)
def test_published_and_collected_pictures_are_those_of_the_benchmark(monkeypatch, suite, schema):
    cameras = Schema.load(schema).cameras if schema else ()
    ways = {camera.name: camera.orientation for camera in cameras} or {"image": Orientation.UNKNOWN}
    source = learnt_from(monkeypatch, ways)
    assert source.card(LIBERO, benchmark_of(suite).view)["accepted"] == []


@pytest.mark.parametrize("name", ["precision", "sampler"])
def test_how_a_server_runs_is_its_own_affair(name):
    source = play.PolicySource("ws://127.0.0.1:9", **{name: "plain"})
    with pytest.raises(ConfigError, match=f"--{name} is decided where the policy runs"):
        source.card(MEANING)


RUNNING = ("precision", "sampler", "batch")


def test_evaluations_from_before_precision_was_told_go_on_in_float32(tmp_path):
    card = {
        "policy": "p",
        "trials": 2,
        "suite": "s",
        "weights": "w",
        "tasks": {"0": "go"},
        "versions": {},
        "seed": 7,
        "max_steps": 9,
        "replan_steps": 3,
        "size": 8,
    }
    Evaluation(tmp_path, card).begin()
    recorded = {**card, "precision": "float32", "sampler": "plain", "batch": 1}
    Evaluation(tmp_path, recorded).begin()
    with pytest.raises(StaleStore, match="--precision, --set sampler"):
        Evaluation(tmp_path, recorded | {"precision": "bfloat16", "sampler": "folded"}).begin()
    Evaluation(tmp_path / "s", {**card, "says": {"name": "n"}}).begin()
    says = {"name": "n", "precision": "float32", "sampler": "plain", "batch": 1}
    Evaluation(tmp_path / "s", {**card, "says": says}).begin()
    with pytest.raises(StaleStore, match="the policy served"):
        Evaluation(tmp_path / "s", {**card, "says": {**says, "batch": 8}}).begin()


def test_older_evaluations_go_on(tmp_path):
    card = {
        "policy": "p",
        "trials": 2,
        "suite": "s",
        "tasks": {"0": "go"},
        "versions": {},
        "seed": 7,
        "max_steps": 9,
        "replan_steps": 3,
        "size": 8,
    }
    Evaluation(tmp_path, card).begin()
    Evaluation(tmp_path, {**card, "meaning": None, "accepted": []}).begin()
    new = {**card, "meaning": {"gripper": "open1_closed0"}, "accepted": []}
    Evaluation(tmp_path / "new", new).begin()
    with pytest.raises(StaleStore, match=r"what the policy's actions mean \(--gripper\)"):
        Evaluation(tmp_path / "new", {**new, "meaning": {"gripper": "open0_closed1"}}).begin()


def test_a_server_says_what_its_actions_mean(served, monkeypatch):
    monkeypatch.setenv(server.API_KEY, "abc")
    with pytest.raises(ConfigError, match="does not say what its gripper"):
        play.PolicySource(served).card(MEANING)
    said["meaning"] = replace(MEANING, gripper="open1_closed0")
    source = play.PolicySource(served)
    card = source.card(MEANING)
    assert card["meaning"]["gripper"] == "open1_closed0"
    assert not {"meaning", "orientations"} & card["says"].keys()  # that of older servers goes on
    assert source.open(MEANING).meaning == said["meaning"]
    with pytest.raises(ConfigError, match=r"action\.names: x, gripper; x, y"):
        source.card(LIBERO)
    said["orientations"] = {"image": Orientation.FLIP}
    with pytest.raises(ConfigError, match="image: flip, mirror"):
        source.card(MEANING, Orientation.MIRROR)


said: dict = {}


@pytest.fixture
def served(monkeypatch):
    """A server of no policy in particular that asks for the key `abc` and leaves when asked. What
    `said` has as `meaning` is its actions'."""
    pytest.importorskip("websockets", reason="needs the extra `serve`")
    from websockets.sync.server import serve

    from vla.serving.server import describe
    from vla.serving.wire import pack

    data = SimpleNamespace(cameras=["image"])
    model = SimpleNamespace(chunk=3, action_dim=2, proprio_dim=0)
    config = SimpleNamespace(name="tiny", data=data, model=model)
    said.clear()

    def admit(connection, request):
        if request.headers.get("Authorization") == "Api-Key abc":
            return None
        return connection.respond(HTTPStatus.UNAUTHORIZED, "wrong or missing API key\n")

    def talk(connection):
        spoken, running = said.get("meaning"), Running()
        policy = object.__new__(Policy)
        vars(policy).update(config=config, place=None, meaning=spoken, running=running)
        policy.orientations = said.get("orientations", {})
        connection.send(pack(describe(policy)))
        connection.recv()
        connection.close()

    server = serve(talk, "127.0.0.1", 0, process_request=admit)
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        server.shutdown()


SERVED = partial(play.PolicySource, gripper="open-1_closed1")


def test_a_server_that_asks_for_a_key_and_goes_away(served, monkeypatch):
    monkeypatch.delenv(server.API_KEY, raising=False)
    with pytest.raises(ConfigError, match=rf"401(.|\n)*{server.API_KEY}"):
        SERVED(served).card(MEANING)
    monkeypatch.setenv(server.API_KEY, "abc")
    assert SERVED(served).card(MEANING)["says"]["name"] == "tiny"
    player = SERVED(served).open(MEANING)
    with pytest.raises(DepthtokError, match=r"went away(.|\n)*finished trials are kept"):
        player.act({"images": {}, "proprio": np.zeros(1), "instruction": "go"})


class Guided:
    """A policy that notes the codes that it is given, of the camera that it looks at."""

    meaning, cameras = MEANING, ("image",)

    def __init__(self):
        self.codes = []

    def reset(self, seed):
        self.codes = []

    def act(self, observation):
        self.codes.append(observation["codes"]["image"])
        return np.tile(np.array([[0.2, 0]], np.float32), (3, 1))


def test_true_depth_is_given_as_codes_where_a_policy_takes_it():
    """In a still world the codes are those of the whole clip, at every plan; and no other policy is
    handed depth."""
    policy = Guided()
    player = TrueDepth(policy, ("image",), BOOK, "cpu")
    rollout = roll(FakeWorld(), player, Trial(0, 4, max_steps=9, replan_steps=3))
    seeing = play.Seeing(Knowing(Codebook.load(BOOK).grid), BOOK, "cpu")
    expected = seeing._true_codes(rollout, rollout.plans)
    assert len(policy.codes) == rollout.plans == len(expected)
    assert all(map(np.array_equal, policy.codes, expected))
    walker = Walker()
    roll(FakeWorld(), walker, Trial(0, 4, max_steps=3, replan_steps=3))
    assert "depth_m" not in walker.seen[0]


def test_a_codebook_of_another_kind_of_depth_judges_no_metres(monkeypatch):
    """One with a fixed range of disparity without a unit, from estimates, has no codes of them."""
    fixed = Normalisation("dataset", lo=0.0, hi=1.0, kind=DepthKind.DISPARITY)
    monkeypatch.setattr(Codebook, "normalisation", fixed)
    with pytest.raises(DepthKindError, match="is of depth in"):
        play.PolicySource("run", codebook=BOOK)._fingerprint(Codebook.load(BOOK).fingerprint)
