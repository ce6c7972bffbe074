"""Presets, overrides, and settings that make no sense."""

import json

import pytest

from depthtok.errors import ConfigError, CorruptPart
from vla.config import Config
from vla.named_configs import ablations, load, presets
from vla.run_options import TrainingOptions


@pytest.mark.parametrize("name", presets())
def test_presets_load_and_come_back(name):
    config = load(name)
    assert config.name == name
    assert Config.from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize("change", ablations())
def test_ablations_change_any_preset(change):
    for base in ("tiny", "qdepth"):
        config = load(f"{base}+{change}")
        assert config.name == f"{base}+{change}"
        plain = load(base)
        parts = (config.model, config.data, config.train)
        same = parts == (plain.model, plain.data, plain.train)
        assert same == (change == "true-codes")  # a name for what there is, beside its controls


def test_ablations_add_up():
    config = load("tiny+causal+no-depth-loss", {"train.steps": 3})
    assert (config.model.mask, config.model.depth.target, config.train.steps) == (
        "causal",
        "none",
        3,
    )
    with pytest.raises(ConfigError, match="Did you mean 'causal'"):
        load("tiny+casual")


def test_the_paper_in_numbers():
    config = load("qdepth")
    model, depth = config.model, config.model.depth_expert
    assert (depth.layers, depth.heads, depth.width, depth.mlp) == (18, 8, 1024, 4096)
    assert (model.depth.codes, model.depth.code_dim, model.depth.grid) == (256, 160, 16)
    assert (config.train.depth_weight, config.train.depth_decay) == (0.01, 0.9999)
    assert (config.train.batch, config.train.lr) == (1024, 5e-5)


@pytest.mark.parametrize("name", presets())
def test_numbers_are_scaled_as_where_they_come_from(name):
    """open-pi-zero's "bound" and OpenVLA's mixture are quantiles; the small ones keep their own."""
    data = load(name).data
    expected = "bounds" if name in ("tiny", "small") else "q99"
    assert (data.action_norm, data.proprio_norm) == (expected, expected)
    assert (data.empty_instructions == "drop") == (name == "bridge")


def test_overrides_and_files(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('base = "tiny"\n[train]\nlr = 2\n[model.depth]\nfuture = 3\n')
    config = load(path, {"train.batch": 4})
    assert (config.train.lr, config.train.batch, config.model.depth.future) == (2.0, 4, 3)
    assert config.model.vision == load("tiny").model.vision
    assert config.updated({"train.batch": 5}).train.batch == 5


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"train.learning_rate": 1.0}, "learning_rate"),
        ({"model.mask": "qdept"}, "qdept"),
        ({"model.action.heads": 2}, "action has"),
        ({"model.depth.grid": 9}, "9x9 code grid"),
        ({"model.depth.cameras": 2}, "depth.cameras = 2"),
        ({"train.batch": "many"}, "batch"),
        ({"train.freeze": ["head"]}, "train.freeze"),
        ({"data.cameras": ["a", "b"]}, "has 2 names"),
        ({"data.cameras": ["a", "a"], "model.cameras": 2}, "has a duplicate: a, a"),
        ({"model.max_text": 1}, "max_text = 1, but must be at least 2"),
        ({"train.lr": -1e-4}, "train.lr = -0.0001, but must be at least 0"),
        ({"train.depth_weight": -1}, "train.depth_weight"),
        ({"train.clip": -1}, "train.clip"),
        ({"train.lora_rank": -1}, "train.lora_rank"),
        ({"model.vision.patch": 9}, "not a multiple"),
    ],
)
def test_nonsense_is_refused(over, message):
    with pytest.raises(ConfigError, match=message):
        load("tiny", over)


def test_what_is_asked_of_a_depth_expert_is_asked_where_there_is_one():
    larger = load("open-pi0", {"model.vision.image_size": 448}).model
    assert larger.vision.grid == 32
    load("open-pi0", {"model.vlm.layers": 9, "model.action.layers": 9})
    with pytest.raises(ConfigError, match="16x16 code grid does not divide into 32x32"):
        load("qdepth", {"model.vision.image_size": 448})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("log_every", 0),
        ("checkpoint_every", 0),
        ("loader_threads", -1),
        ("micro_batch", -1),
        ("validate_every", -1),
    ],
)
def test_a_run_that_cannot_go_is_refused(name, value):
    with pytest.raises(ConfigError, match=rf"{name} = {value}, but must be at least \d"):
        TrainingOptions(**{name: value})


def test_loading_threads_have_an_upper_bound_in_files_too():
    assert TrainingOptions(loader_threads=4096).loader_threads == 4096
    with pytest.raises(ConfigError, match="loader_threads = 4097, but must be at most 4096"):
        TrainingOptions(loader_threads=4097)


def test_a_plus_in_a_path_is_no_ablation(tmp_path):
    run = tmp_path / "tiny+causal"  # as runs are named after their settings
    run.mkdir()
    (run / "config.json").write_text(json.dumps(load("tiny+causal").to_json()))
    (run / "mine.toml").write_text('base = "tiny"\n[train]\nlr = 2\n')
    assert load(run / "config.json") == load("tiny+causal")
    config = load(f"{run / 'mine.toml'}+no-depth-loss")
    assert (config.train.lr, config.model.mask, config.model.depth.target) == (
        2.0,
        "qdepth",
        "none",
    )
    own = tmp_path / "own.toml"
    own.write_text("[train]\nlr = 3\n")
    assert load(f"tiny+{own}").train.lr == 3.0


def test_unknown_presets_and_files(tmp_path):
    with pytest.raises(ConfigError, match="Did you mean 'qdepth'"):
        load("qdeth")
    broken = tmp_path / "broken.toml"
    broken.write_text("x = ")
    with pytest.raises(ConfigError, match=r"broken\.toml"):
        load(broken)
    with pytest.raises(ConfigError, match="no settings"):
        load(tmp_path / "none.toml")
    torn = tmp_path / "config.json"
    torn.write_text('{"model":')
    with pytest.raises(CorruptPart, match=r"config\.json cannot be read"):
        load(torn)
