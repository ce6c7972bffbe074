"""The whole path from the command line, on the sample that ships: RLDS in, trained policy out."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from depthtok.cli.main import app
from depthtok.errors import (
    ConfigError,
    GateError,
    MissingParts,
    SourceError,
    StaleStore,
)
from depthtok.stores.codes import CodeStore
from depthtok.stores.episodes import EpisodeStore
from tests.commands.trainings import call

SAMPLE = Path(__file__).parents[2] / "depthtok" / "sample" / "libero_sample"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Everything that `depthtok run` makes, with trainings that are far too short to be good."""
    out = tmp_path_factory.mktemp("whole") / "out"
    config, preset = out.with_suffix(".toml"), out.with_name("preset.toml")
    preset.write_text("""
        [network]
        width = 16
        decoder_width = 16
        [quantizer]
        warmup = 10
        [training]
        steps = 20
        batch = 4
        held_out = 0.25
    """)
    config.write_text(f"""
        out = "{out}"
        [data]
        sample = "{SAMPLE}"
        [annotate]
        estimator = "dataset"
        [train-vqvae]
        preset = "{preset}"
        [train-vla]
        preset = "tiny"
        steps = 4
        batch = 4
        held_out = 0.3
        validate_every = 2
        force = true
    """)
    words = call("run", config)
    assert "[5/5] train-vla" in words
    assert words.count("next:") == 1  # no stage's: that of the run
    assert words.endswith(f"next: depthtok report {out / 'policy'}\n")
    return out, config


def test_every_stage_left_its_result(made):
    out, _ = made
    episodes, codes = EpisodeStore(out / "sample" / "episodes"), CodeStore(out / "sample" / "codes")
    assert (len(episodes), episodes.steps) == (4, 256)
    for episode in episodes:
        for camera in ("image", "wrist_image"):
            grid = codes.grid_of(episode.key, camera)
            assert grid.codes.shape == (64, 16, 16)
            assert grid.codes.dtype == "uint8"
    lines = (out / "policy" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == 4
    assert "val_action_mse" in json.loads(lines[-1])


def written(path: Path) -> dict[Path, int]:
    """When each file was written."""
    return {file: file.stat().st_mtime_ns for file in path.rglob("*") if file.is_file()}


def test_a_second_run_makes_nothing_again(made):
    out, config = made
    stamps = written(out / "sample")
    words = call("run", config)
    assert words.count("0 parts made, 2 kept") == 3
    assert written(out / "sample") == stamps


@pytest.mark.parametrize("what", ["sample/episodes", "sample/depth", "sample/codes", "codebook"])
def test_all_that_was_made_is_sound(made, what):
    assert "is sound" in call("verify", made[0] / what)


@pytest.mark.parametrize(
    "what", ["sample/episodes", "sample/depth", "sample/codes", "codebook", "policy"]
)
def test_all_that_was_made_can_be_looked_at(made, what, tmp_path):
    assert str(made[0] / what) in call("inspect", made[0] / what)
    json.loads(call("inspect", made[0] / what, "--json"))
    call("report", made[0] / what, "--out", tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "<html" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert json.loads((tmp_path / "report.json").read_text())


def test_the_python_of_the_readme_runs(made, tmp_path, monkeypatch, capsys):
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (snippet,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    (tmp_path / "runs").symlink_to(made[0] / "sample")
    monkeypatch.chdir(tmp_path)
    exec(snippet, {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert all("(64, 16, 16) (64, 7) (64, 256, 256, 3)" in line for line in lines)


def test_statistics_are_shown_of_a_store_and_of_a_mixture(made):
    episodes = made[0] / "sample" / "episodes"
    statistics = EpisodeStore(episodes).statistics()
    assert f"{statistics.action.mean[0]:.4g}" in call("inspect", episodes)
    *alone, mixed = json.loads(call("inspect", episodes, episodes, "--json"))
    assert len(alone) == 2
    assert mixed["facts"] == {"episodes": "8", "steps": "512"}
    assert mixed["tables"] == {name: alone[0]["tables"][name] for name in ("Actions", "States")}


def test_a_plan_writes_nothing_and_adds_up(made, tmp_path):
    out, _ = made
    plans = json.loads(
        call(
            "annotate",
            out / "sample" / "episodes",
            "--out",
            tmp_path / "depth",
            "--estimator",
            "dataset",
            "--plan",
            "--json",
        )
    )
    assert (plans["parts"], plans["episodes"], plans["units"]) == (2, 4, 512)
    assert plans["seconds"] > 0
    assert plans["bytes"] > 0
    assert not (tmp_path / "depth").exists()
    there = json.loads(
        call("convert", SAMPLE, "--out", out / "sample" / "episodes", "--plan", "--json")
    )
    assert (there["parts"], there["parts_there"]) == (0, 2)


def test_rlds_can_be_annotated_at_once(tmp_path):
    call(
        "annotate",
        SAMPLE,
        "--out",
        tmp_path / "depth",
        "--estimator",
        "dataset",
        "--limit",
        "1",
        "--camera",
        "image",
        "--size",
        "32",
    )
    assert len(EpisodeStore(tmp_path / "depth.episodes")) == 4
    assert "1 missing" in call("inspect", tmp_path / "depth")


def test_what_to_type_next_can_be_copied(tmp_path):
    out = tmp_path / "run a"
    (suggestion,) = re.findall("next: (.*)", call("convert", SAMPLE, "--out", out / "episodes"))
    assert shlex.split(suggestion) == [
        "depthtok",
        "annotate",
        str(out / "episodes"),
        "--estimator",
        "dataset",
        "--out",
        str(out / "depth"),
    ]


def test_results_for_machines_are_alone_on_stdout(tmp_path):
    printed = json.loads(call("convert", SAMPLE, "--out", tmp_path / "episodes", "--json"))
    assert (printed["made"], printed["episodes"], printed["failures"]) == (2, 4, [])


def test_training_refuses_a_bad_codebook_unless_forced(made, tmp_path):
    out, _ = made
    stores = ["--episodes", out / "sample" / "episodes", "--codes", out / "sample" / "codes"]
    with pytest.raises(GateError, match="below the quality gate"):
        call("train-vla", *stores, "--out", tmp_path / "policy", "--steps", "1")
    state = next((out / "policy" / "checkpoints").rglob("state.json"))
    assert "gate_overridden" in state.read_text()


def test_wrong_places_and_settings_are_refused_with_a_remedy(made, tmp_path):
    out, _ = made
    episodes, depth = out / "sample" / "episodes", out / "sample" / "depth"
    refused = [
        (SourceError, ["tokenize", episodes, "--codebook", out / "codebook", "--out", tmp_path]),
        (StaleStore, ["annotate", episodes, "--out", depth, "--estimator", "dataset", "--size", 8]),
        (ConfigError, ["annotate", episodes, "--out", tmp_path / "d", "--camera", "imagee"]),
        (ConfigError, ["annotate", episodes, "--out", tmp_path / "d", "--estimator", "vitz"]),
        (
            ConfigError,
            ["train-vla", "--episodes", episodes, "--out", tmp_path / "p", "--set", "train.lrr=1"],
        ),
        (ConfigError, ["convert", SAMPLE, "--out", tmp_path / "e", "--split", "trian"]),
    ]
    for kind, arguments in refused:
        with pytest.raises(kind) as caught:
            call(*arguments)
        assert caught.value.remedy, arguments


def test_an_incomplete_store_is_refused_unless_asked_for(tmp_path):
    call("convert", SAMPLE, "--out", tmp_path / "episodes", "--limit", "1")
    arguments = [
        "annotate",
        tmp_path / "episodes",
        "--out",
        tmp_path / "depth",
        "--estimator",
        "dataset",
        "--size",
        "16",
    ]
    with pytest.raises(MissingParts):
        call(*arguments)
    call(*arguments, "--partial")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('[train-vqvae]\nsteps = "many"', "`steps` cannot be 'many'"),
        ('[train-vla]\npreset = "tny"', "Did you mean 'tiny'"),
        ('[train-vla]\nset = ["train.lrr=3"]', "no setting 'lrr'"),
        ('[train-vla]\nout = "x"', "there is no 'out'"),
    ],
)
def test_a_run_is_checked_whole_before_its_first_stage(tmp_path, table, message):
    config = tmp_path / "run.toml"
    config.write_text(f'out = "{tmp_path}/out"\n[data]\na = "{SAMPLE}"\n{table}\n')
    with pytest.raises(ConfigError, match=message):
        call("run", config)
    assert not (tmp_path / "out").exists()


def test_what_is_inside_a_directory_is_named(made):
    with pytest.raises(SourceError, match=r"is not a store.*\n.*name one of the directories"):
        call("inspect", made[0])
    assert "quality gate" in call("inspect", made[0] / "codebook")
    assert "Newest figures" in call("inspect", made[0] / "policy")
    assert "is sound" in call("verify", made[0] / "policy")


def test_annotating_a_data_set_plans_before_it_converts_and_counts_what_failed(tmp_path):
    sample = tmp_path / "set"
    shutil.copytree(SAMPLE, sample)
    out = tmp_path / "depth"
    arguments = ["annotate", sample, "--out", out, "--estimator", "dataset"]
    assert "once these episodes are there" in call(*arguments, "--plan")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    shard = next(sample.rglob("*.tfrecord*"))
    content = shard.read_bytes()
    damaged = bytearray(content)
    damaged[len(damaged) // 2] ^= 1
    shard.write_bytes(damaged)
    result = CliRunner().invoke(app, [str(word) for word in arguments])
    assert result.exit_code == 1
    assert "--retry-failed" in result.stdout
    shard.write_bytes(content)
    assert "4 episodes, 256 steps" in call(*arguments, "--retry-failed").splitlines()[-3]
