"""Data sets of one mixture mean the same, are converted, or are refused."""

from dataclasses import replace

import numpy as np
import pytest

from depthtok.errors import ConfigError
from depthtok.meaning import Column
from depthtok.orientation import Orientation
from depthtok.sources.schema import Schema
from tests.vla import fakes
from tests.vla.fakes import MEANING
from vla.data import meanings
from vla.data.dataset import Dataset
from vla.data.member import member
from vla.data.tokenizer import ByteTokenizer
from vla.run_options import TrainingOptions
from vla.serving.policy import Policy
from vla.serving.server import describe
from vla.training import checkpoint
from vla.training.train import train

JOINTS = (*(Column(f"j{n}") for n in range(6)), Column("gripper"))
NO_GRIPPER = tuple(Column(f"j{n}") for n in range(7))
DELTA = tuple(Column(c.name, "delta", "m") for c in MEANING.action)
KNOWN = replace(
    MEANING, action=DELTA, proprio=tuple(Column(c.name, "absolute", "rad") for c in MEANING.proprio)
)
ABSOLUTE = tuple(Column(c.name, "absolute", "m") for c in MEANING.action)


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ({"gripper": "open0_closed1"}, {}, "gripper: a and b: open0_closed1, open1_closed-1"),
        ({}, {"action": JOINTS}, r"action.names: a and b: x, y, z, roll, .*; j0, j1"),
        ({"action": DELTA}, {"action": ABSOLUTE}, "action.reference: a and b: x: delta, absolute"),
        ({}, {"fps": 5.0}, "fps: a and b: 10 Hz, 5 Hz"),
        ({}, {"proprio": (Column("q"),) * 8}, r"proprio.names: a and b: s0, "),
    ],
)
def test_data_sets_that_mean_something_else_are_refused(micro, first, second, said):
    meanings_by_name = {"a": replace(MEANING, **first), "b": replace(MEANING, **second)}
    with pytest.raises(ConfigError, match=said) as raised:
        meanings.require_same(meanings_by_name, micro())
    aspect = said.partition(":")[0]
    assert f'data.mix=["{aspect}"]' in raised.value.remedy
    assert ("data.gripper" in raised.value.remedy) == (aspect == "gripper")
    meanings.require_same(meanings_by_name, micro(data__mix=(aspect,)))
    with pytest.raises(ConfigError, match=said):
        meanings.require_same(meanings_by_name, micro(data__mix=("action.unit",)))


def test_states_do_not_matter_to_a_model_without_states(micro):
    meanings_by_name = {"a": MEANING, "b": replace(MEANING, proprio=())}
    meanings.require_same(meanings_by_name, micro(model__proprio_dim=0))
    with pytest.raises(ConfigError, match=r"proprio\.names"):
        meanings.require_same(meanings_by_name, micro())


def test_settings_name_what_there_is(micro):
    with pytest.raises(ConfigError, match=r"data\.mix = 'grippers'"):
        micro(data__mix=("grippers",))
    with pytest.raises(ConfigError, match=r"data\.gripper = 'open'"):
        micro(data__gripper="open")


def test_what_is_unknown_is_said(micro):
    meanings_by_name = {"a": KNOWN, "b": replace(KNOWN, gripper="unknown", fps=None)}
    meanings.require_same(meanings_by_name, micro())
    views = {
        name: {"main": way, "wrist": Orientation.UNKNOWN}
        for name, way in (("a", Orientation.MIRROR), ("b", Orientation.IDENTITY))
    }
    said = meanings.warnings(meanings_by_name, views, micro())
    assert [text.partition(" is not")[0] for text in said] == [
        "fps",
        "gripper",
        "what the gripper of b means",
        "camera 'main'",
    ]
    assert "mirror: a; identity: b" in said[-1]
    assert meanings.warnings({"a": KNOWN}, {"a": views["a"]}, micro()) == []


@pytest.mark.parametrize(
    ("changes", "states", "said"),
    [
        ({"action": MEANING.action}, True, "unit and reference of 7 action columns"),
        (
            {"action": MEANING.action, "gripper": "unknown"},
            True,
            "unit and reference of 7 action columns, gripper (`eval` and `serve` will ask for the "
            "gripper)",
        ),
        (
            {"action": (*DELTA[:5], Column("yaw", "delta"), Column("gripper", unit="1"))},
            True,
            "unit of 1 action column, reference of 1 action column",
        ),
        (
            {"action": NO_GRIPPER, "gripper": "unknown"},
            True,
            "unit and reference of 7 action columns, gripper",
        ),
        ({"proprio": MEANING.proprio}, True, "unit and reference of 8 state columns"),
        ({"proprio": MEANING.proprio}, False, None),
        ({"fps": None}, True, None),
    ],
)
def test_what_a_draft_leaves_open_of_actions_is_said_once(micro, changes, states, said):
    meaning = replace(KNOWN, **changes)
    lines = meanings.warnings({"a": meaning}, {}, micro(model__proprio_dim=8 if states else 0))
    if said is None:
        assert lines == []
        return
    (line,) = lines
    head, _, remedy = line.partition(". ")
    assert head == f"what the numbers of a mean is not known: {said}"
    assert "depthtok inspect DIR --draft > FILE" in remedy
    assert "--schema FILE --out EPISODES --overwrite" in remedy


def test_a_gripper_that_no_one_named_is_said(micro):
    """All else is stated: without this line a gripper is normalised like a joint."""
    joints = tuple(Column(c.name, "absolute", "rad") for c in NO_GRIPPER)
    meaning = replace(KNOWN, action=joints, gripper="unknown")
    (line,) = meanings.warnings({"a": meaning}, {}, micro())
    assert line.startswith("which action column of a is a gripper, if any, is not known")
    assert meanings.warnings({"a": replace(meaning, gripper="none")}, {}, micro()) == []


@pytest.mark.parametrize("name", ["libero", "bridge_dataset", "metaworld_depth"])
def test_schemas_that_say_everything_are_not_warned_of(micro, name):
    assert meanings.warnings({"a": Schema.load(name).meaning}, {}, micro()) == []


class Other(fakes.FakeEpisodes):
    """Its gripper's 1 closes."""

    meaning = replace(MEANING, gripper="open-1_closed1")


def test_grippers_are_brought_to_one_convention(micro):
    config = micro(data__gripper="open1_closed0", model__depth__expert=False)
    stores = {"a": fakes.FakeEpisodes(name="a"), "b": Other(name="b")}
    members = [member(name, store, None, config) for name, store in stores.items()]
    data = Dataset(members, config, ByteTokenizer())
    assert {m.gripper for m in data.meanings().values()} == {"open1_closed0"}
    openness = {"a": lambda v: (v + 1) / 2, "b": lambda v: (1 - v) / 2}
    for number in range(0, len(data), 5):
        fields = {n: np.zeros(shape, kind) for n, (shape, kind) in data.fields().items()}
        data.fill(fields, number, 0, 0)
        which, index, step = data.place(number)
        name = members[which].name
        stored = members[which].episodes.episode(index).action
        assert fields["actions_BCA"][0, -1] == openness[name](stored[step, -1])
        plain = members[which].norms.action
        np.testing.assert_allclose(fields["actions_BCA"][0, :-1], plain.apply(stored[step])[:-1])
    assert [(m.norms.action.low[-1], m.norms.action.high[-1]) for m in members] == [(0, 1)] * 2


def test_an_unknown_gripper_is_not_converted(micro):
    store = fakes.FakeEpisodes()
    store.meaning = replace(MEANING, gripper="unknown")
    config = micro(data__gripper="open1_closed0", model__depth__expert=False)
    with pytest.raises(ConfigError, match="what the gripper of toy means is not known"):
        member("toy", store, None, config)


@pytest.mark.parametrize(
    ("convention", "said"),
    [("open1_closed0", "from -1 to 1, but gripper"), ("open-1_closed1", None), ("unknown", None)],
)
def test_a_gripper_out_of_its_range_is_refused(micro, convention, said):
    store = fakes.FakeEpisodes()
    store.meaning = replace(MEANING, gripper=convention)
    if said is None:
        member("toy", store, None, micro(model__depth__expert=False))
        return
    with pytest.raises(ConfigError, match=f"toy, action column 'gripper': .*{said}"):
        member("toy", store, None, micro(model__depth__expert=False))


def test_a_percentage_is_refused_with_the_operation_that_mends_it(micro):
    """Also of a store that was converted before `convert` looked."""
    store = fakes.FakeEpisodes()
    store.meaning = replace(MEANING, gripper="unknown")
    for episode in store._made:
        episode.action[:, -1] = np.where(episode.action[:, -1] > 0, 100, 45)
    with pytest.raises(ConfigError, match="go from 45 to 100, but") as raised:
        member("toy", store, None, micro(model__depth__expert=False))
    assert '"unit_interval 0 100"' in raised.value.remedy


def trained(config, store, out, codebook):
    return train(
        config, fakes.toy(config, store), out, TrainingOptions(loader_threads=0), codebook=codebook
    )


def test_a_run_keeps_what_its_numbers_mean(micro, codebook, tmp_path):
    config, store = micro(train__steps=1), fakes.FakeEpisodes()
    store.cameras["main"] = replace(store.cameras["main"], orientation=Orientation.FLIP)
    trained(config, store, tmp_path, codebook)
    state = checkpoint.read_state(checkpoint.find(tmp_path))
    assert state.meanings == {"toy": MEANING}
    assert state.orientations == {"toy": {"main": "flip", "wrist": "unknown"}}
    policy = Policy.load(tmp_path)
    assert policy.meaning == MEANING
    assert policy.orientations["main"] is Orientation.FLIP
    assert describe(policy)["orientations"] == {"main": "flip", "wrist": "unknown"}
    request = {
        "images": {n: np.zeros((8, 8, 3), np.uint8) for n in ("main", "wrist")},
        "proprio": np.zeros(8),
        "instruction": "open it",
    }
    actions = policy.act(request)
    policy.reset()
    policy.speak("open0_closed1")
    other = policy.act(request)
    np.testing.assert_allclose(other[:, -1], (1 - actions[:, -1]) / 2, atol=1e-6)
    assert (other[:, :-1] == actions[:, :-1]).all()
    with pytest.raises(ConfigError, match="'open'"):
        policy.speak("open")


def test_training_refuses_a_mixture_too(micro, codebook, tmp_path):
    """Of Python, not only of the command."""
    config = micro(train__steps=1)
    parts = []
    for name, kind in (("a", fakes.FakeEpisodes), ("b", Other)):
        episodes = kind(name=name)
        codes = fakes.FakeCodes(episodes, grid=4, codes=16)
        parts.append(member(name, episodes, codes, config, codebook=codes.codebook))
    data = Dataset(parts, config, ByteTokenizer())
    with pytest.raises(ConfigError, match="do not mean the same: gripper"):
        train(config, data, tmp_path, TrainingOptions(loader_threads=0), codebook=codebook)


def test_a_mixture_that_was_begun_before_this_was_checked_goes_on_every_time(
    micro, codebook, tmp_path, monkeypatch
):
    """Its next checkpoint knows the meanings; that must not end it."""
    config = micro(train__steps=3)
    data = Dataset(
        [
            member(name, store, codes, config, codebook=codes.codebook)
            for name, store in (("a", fakes.FakeEpisodes(name="a")), ("b", Other(name="b")))
            for codes in [fakes.FakeCodes(store, grid=4, codes=16)]
        ],
        config,
        ByteTokenizer(),
    )
    with monkeypatch.context() as older:
        older.setattr("vla.training.train.require_same", lambda meanings, config: None)
        one_step(config, data, tmp_path, codebook)
    assert one_step(config, data, tmp_path, codebook) == 2
    assert checkpoint.read_state(checkpoint.find(tmp_path)).meanings
    assert one_step(config, data, tmp_path, codebook) == 3


def one_step(config, data, out, codebook):
    """The step that a training comes to which is stopped after one update."""
    steps = []
    options = TrainingOptions(loader_threads=0, log_every=1)
    stop = {"on_step": steps.append, "should_stop": lambda: bool(steps)}
    return train(config, data, out, options, codebook=codebook, **stop).step


def test_a_run_that_goes_on_is_warned_of_a_gripper_out_of_range(micro, capsys):
    store = fakes.FakeEpisodes()
    store.meaning = replace(MEANING, gripper="open1_closed0")
    config = micro(model__depth__expert=False)
    with pytest.raises(ConfigError, match="from -1 to 1, but gripper"):
        member("toy", store, None, config)
    assert member("toy", store, None, config, begun=True).name == "toy"
    assert "from -1 to 1, but gripper" in capsys.readouterr().err


def test_a_state_before_meaning_was_kept_reads_as_nothing():
    old = {"step": 2, "norms": {}, "codebook": "", "data": [], "notes": {}}
    state = checkpoint.TrainingState.from_json(old)
    assert (state.meanings, state.orientations) == ({}, {})
