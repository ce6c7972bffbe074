"""`run --plan`: what every step would do, as far as it is known; nothing is made."""

from importlib.resources import files
from pathlib import Path
from shutil import copytree

import pytest
from typer.testing import CliRunner

from depthtok import annotate, convert
from depthtok.api.run import Description, planned, prepared
from depthtok.cli.main import app
from depthtok.errors import ConfigError, StaleStore

SAMPLE = str(files("depthtok") / "sample" / "libero_sample")


def described(out, **tables):
    content = {
        "out": str(out),
        "data": {"sample": SAMPLE},
        "annotate": {"estimator": "dataset", "size": 128},
        "train-vqvae": {"preset": "demo", "size": 128},
        "train-vla": {"preset": "tiny"},
    }
    return Description.read({**content, **tables}, "the test's")


def test_steps_without_their_inputs_wait_for_them(tmp_path):
    plan = planned(described(tmp_path / "out"))
    assert [done.step.command for done in plan.steps] == ["convert"]
    assert (plan.steps[0].result.parts, plan.steps[0].result.parts_there) == (2, 0)
    sample = tmp_path / "out" / "sample"
    assert list(plan.waiting.values()) == [
        sample / "episodes",
        sample / "depth",
        sample / "depth",
        sample / "episodes",
    ]
    assert not (tmp_path / "out").exists()


def test_data_that_lie_below_the_run_are_waited_for_by_nothing(tmp_path):
    data = {"sample": str(tmp_path / "out" / "demos")}
    copytree(SAMPLE, data["sample"])
    plan = planned(described(tmp_path / "out", data=data))
    assert [done.step.command for done in plan.steps] == ["convert"]
    assert len(plan.waiting) == 4


def test_steps_with_their_inputs_are_planned(tmp_path):
    out = tmp_path / "out"
    toml = tmp_path / "run.toml"
    toml.write_text(
        f"out = '{out}'\n[data]\nsample = '{SAMPLE}'\n[annotate]\nestimator = 'dataset'\n"
        "size = 128\n[train-vqvae]\npreset = 'demo'\nsize = 128\n[train-vla]\npreset = 'tiny'\n"
    )
    sample = out / "sample"
    convert(SAMPLE, out=sample / "episodes")
    annotate(sample / "episodes", out=sample / "depth", estimator="dataset", size=128)
    before = files_below(out)
    result = CliRunner().invoke(app, ["run", str(toml), "--plan"])
    assert result.exit_code == 0, result.output
    told = result.output
    assert "[3/5] train-vqvae\ntrain-vqvae -> " in told
    assert f"[4/5] tokenize sample: planned once {out / 'codebook'} is whole" in told
    assert f"[5/5] train-vla: planned once {sample / 'codes'} is whole" in told
    assert files_below(out) == before


def test_a_store_of_other_settings_is_refused_by_the_plan_as_by_the_run(tmp_path):
    sample = tmp_path / "sample"
    convert(SAMPLE, out=sample / "episodes")
    annotate(sample / "episodes", out=sample / "depth", estimator="dataset", size=64, limit=1)
    depth = {"out": sample / "depth", "size": 128}
    for estimator, plan in (("dataset", False), ("dataset", True), ("vits", True)):
        with pytest.raises(StaleStore, match=r"was made differently: .*64 there, 128 now"):
            annotate(sample / "episodes", **depth, estimator=estimator, plan=plan)
    with pytest.raises(StaleStore, match="was made differently"):
        planned(described(tmp_path, annotate={"estimator": "dataset", "size": 128}))


def files_below(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def test_depth_that_the_tokeniser_does_not_take_is_said_first(tmp_path):
    with pytest.raises(ConfigError) as caught:
        prepared(described(tmp_path, annotate={"estimator": "dataset", "size": 64}))
    assert "[annotate] makes depth of 64 px, [train-vqvae] takes 128 px" in caught.value.problem
    prepared(described(tmp_path, annotate={"estimator": "dataset", "size": 0}))  # not known yet
    other = described(
        tmp_path, annotate={"estimator": "dataset"}, **{"train-vqvae": {"skip": True}}
    )
    prepared(other)
