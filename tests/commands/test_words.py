"""train-vla reads instructions with the weights' tokenizer, and looks at them before it starts."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file
from typer.testing import CliRunner

from depthtok.cli.main import app
from depthtok.errors import ConfigError
from depthtok.testing import make_rlds, make_tokenizer
from tests.commands.trainings import MICRO, call, lines
from tests.vla.paligemma_files import to_paligemma
from vla.model.model import build
from vla.named_configs import load
from vla.serving.policy import Policy
from vla.training import checkpoint

pytest.importorskip("tokenizers")

BEFORE = Path(__file__).parents[1] / "data" / "before"
TEXTS = ["open the lid", "open the lid slowly", "", "open the lid", "", "close it"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Episodes of which two have no instruction, and the settings of a micro model."""
    out = tmp_path_factory.mktemp("words")

    def edit(number, values):
        values["steps/language_instruction"] = [TEXTS[number]] * 4

    source = make_rlds(out / "rlds", episodes=6, steps=4, size=16, edit=edit)
    call("convert", source, "--out", out / "episodes")
    (out / "micro.toml").write_text(MICRO + "[model.depth]\nexpert = false\n")
    return out


def training(place, out, *more):
    return [
        "train-vla",
        "--episodes",
        place / "episodes",
        "--preset",
        place / "micro.toml",
        "--batch",
        2,
        "--steps",
        1,
        "--held-out",
        0,
        "--device",
        "cpu",
        "--threads",
        1,
        "--out",
        out,
        *more,
    ]


def said(*arguments):
    """All that a command says, on both streams."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception:
        raise done.exception
    return done.output


def paligemma(place, folder, rows, words):
    """A folder in the Hub's layout: weights of the micro model's sizes, and a tokenizer."""
    model = build(load(str(place / "micro.toml"), {"model.vocabulary": rows}).model, 0)
    make_tokenizer(folder, words)
    save_file(to_paligemma(model), folder / "model.safetensors")
    return folder


def test_the_tokenizer_of_the_weights_is_used_and_kept(place, tmp_path):
    words = ["open", "the", "lid", "slowly", "close", "it"]
    folder = paligemma(place, tmp_path / "weights", 64, words)
    start = ("--weights", folder, "--set", "model.vocabulary=64")
    assert "longest needs 6 of 64 tokens" in said(*training(place, tmp_path / "run", *start))
    policy = Policy.load(tmp_path / "run")
    assert policy._tokenizer.encode("open the lid slowly") == [5, 6, 7, 8]
    copied = checkpoint.find(tmp_path / "run") / "tokenizer.json"
    assert copied.read_bytes() == (folder / "tokenizer.json").read_bytes()
    for wrong in ("bytes", make_tokenizer(tmp_path / "other", [*reversed(words)])):
        with pytest.raises(ConfigError, match=r"leave data.tokenizer out"):
            call(*training(place, tmp_path / "x", *start, "--set", f"data.tokenizer={wrong}"))
    # Another size of the same embedding, and the second run takes the first one's tokenizer.
    call(*training(place, tmp_path / "b", "--weights", folder, "--set", "model.vocabulary=11"))
    call(
        *training(
            place, tmp_path / "c", "--weights", tmp_path / "run", "--set", "model.vocabulary=64"
        )
    )
    with pytest.raises(ConfigError, match=r"set model.vocabulary = 11") as error:
        call(*training(place, tmp_path / "d", "--weights", folder, "--set", "model.vocabulary=10"))
    assert "needs 11 rows" in error.value.problem


def test_instructions_that_become_equal_are_refused_unless_told(place, tmp_path):
    short = ("--set", "model.max_text=14")  # `open the lid`
    with pytest.raises(ConfigError, match=r"2 distinct instructions .* become 1 prompt") as error:
        call(*training(place, tmp_path / "run", *short))
    assert "--set model.max_text=21" in error.value.remedy
    assert not (tmp_path / "run").exists()
    allowed = said(*training(place, tmp_path / "run", *short, "--set", "data.equal_prompts=allow"))
    assert "1 of 3 instructions, at 4 of 16 steps, are cut" in allowed
    config = checkpoint.read_config(checkpoint.find(tmp_path / "run"))
    assert (config.data.equal_prompts, config.data.tokenizer) == ("allow", "bytes")
    assert "1 cut; 2 become equal; 2 episodes have none" in call("inspect", tmp_path / "run")
    call("report", tmp_path / "run")
    page = (tmp_path / "run" / "report.html").read_text()
    assert "open the lid slowly" in page
    assert "2 distinct instructions" in page


def test_episodes_without_instructions_may_be_left_out(place, tmp_path):
    for name, drop, samples in (("keep", "keep", 24), ("drop", "drop", 16)):
        setting = f"data.empty_instructions={drop}"
        words = said(*training(place, tmp_path / name, "--set", setting))
        state = checkpoint.read_state(checkpoint.find(tmp_path / name))
        assert state.data[0][3] == samples
        assert ("2 of 6 episodes have no instruction" in words) == (drop == "keep")
        assert ("2 episodes without an instruction are left out" in words) == (drop == "drop")
        assert state.notes["instructions"]["members"][0]["empty"] == (2 if drop == "keep" else 0)


def test_where_no_episode_has_one(place, tmp_path):
    def edit(number, values):
        values["steps/language_instruction"] = [""] * 4

    source = make_rlds(tmp_path / "rlds", episodes=2, steps=4, size=16, edit=edit)
    printed = call("convert", source, "--out", tmp_path / "episodes")
    assert (
        "2 of 2 episodes (100 %) have no instruction; if a feature holds it, name that" in printed
    )
    shutil.copy(place / "micro.toml", tmp_path)
    with pytest.raises(ConfigError, match=r"no episode is left .*: none has an instruction"):
        call(*training(tmp_path, tmp_path / "x", "--set", "data.empty_instructions=drop"))
    words = said(*training(tmp_path, tmp_path / "x"))
    assert "2 of 2 episodes have no instruction; if a feature holds it, name that" in words


def test_a_model_for_a_foreign_vocabulary_asks_for_its_tokenizer(place, tmp_path):
    with pytest.raises(ConfigError, match=r"vocabulary of 257,216(.|\n)*data.tokenizer=FOLDER"):
        call(*training(place, tmp_path / "x", "--preset", "qdepth"))


def test_a_run_of_an_older_version_goes_on_and_says_what_is_not_known(tmp_path, monkeypatch):
    for name in ("run", "episodes", "codes", "codebook", "rlds"):
        shutil.copytree(BEFORE / name, tmp_path / name)
    shutil.copy(BEFORE / "micro.toml", tmp_path)
    monkeypatch.chdir(tmp_path)
    expected = lines(tmp_path / "run")
    assert "older depthtok" in call("inspect", "run")
    call("report", "run")
    call(
        "train-vla",
        "--episodes",
        "episodes",
        "--codes",
        "codes",
        "--preset",
        "micro.toml",
        "--batch",
        4,
        "--held-out",
        0.4,
        "--device",
        "cpu",
        "--log-every",
        1,
        "--validate-every",
        2,
        "--checkpoint-every",
        2,
        "--threads",
        1,
        "--steps",
        4,
        "--force",
        "--codebook",
        "codebook",
        "--source-root",
        "rlds/1.0.0",
        "--out",
        "run",
    )
    assert lines(tmp_path / "run")[:2] == expected[:2]
    for line, then in zip(lines(tmp_path / "run")[2:], expected[2:], strict=True):
        assert line.keys() == then.keys()
        assert np.allclose([*line.values()], [*then.values()], rtol=1e-4)
    assert checkpoint.read_config(checkpoint.find("run")).data.tokenizer == "bytes"
    notes = json.loads((checkpoint.find("run") / "state.json").read_text())["notes"]
    assert notes["instructions"]["distinct"] == 2


def test_a_run_that_goes_on_keeps_what_it_was_started_with(place, tmp_path):
    """Weights are read when a training begins, and recorded then."""
    call(*training(place, tmp_path / "first"))
    start = ("--weights", tmp_path / "first", "--checkpoint-every", 1)
    call(*training(place, tmp_path / "run", *start, "--steps", 2))
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-000002")
    call(*training(place, tmp_path / "run", "--steps", 2))
    assert noted(tmp_path / "run")["weights"] == str(tmp_path / "first")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-000002", ignore_errors=True)
    words = said(*training(place, tmp_path / "run", "--weights", "other", "--steps", 2))
    assert "--weights other is not used" in words
    assert noted(tmp_path / "run")["weights"] == str(tmp_path / "first")


def noted(run):
    return checkpoint.read_state(checkpoint.find(run)).notes


def test_weights_that_learnt_another_gripper_are_said_to_have(place, tmp_path):
    plain = said(*training(place, tmp_path / "a"))
    other = ("--weights", tmp_path / "a", "--set", "data.gripper=open1_closed0")
    words = said(*training(place, tmp_path / "b", *other))
    assert "gripper: open1_closed0, open-1_closed1" in words
    same = said(*training(place, tmp_path / "c", "--weights", tmp_path / "a"))
    assert not any("has learnt" in text for text in (plain, same))
