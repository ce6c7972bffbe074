"""From a data set to a policy in Python, on the data that ships."""

from pathlib import Path

import numpy as np
import pytest

import depthtok
from depthtok.errors import ConfigError
from depthtok.stores.codes import CodeStore
from depthtok.stores.depth import DepthStore
from depthtok.stores.episodes import EpisodeStore
from pipelines.plan import Plan
from pipelines.stage import Outcome

ROOT = Path(depthtok.__file__).parent
SAMPLE = ROOT / "sample" / "libero_sample"
BOOK = ROOT.parent / "vqvae" / "demo"
SMALL = {"steps": 2, "batch": 2, "device": "cpu"}


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("path")


@pytest.fixture(scope="module")
def made(out):
    """What the main job returns, by its steps: ten lines."""
    return {
        "convert": depthtok.convert(SAMPLE, out=f"{out}/episodes"),
        "annotate": depthtok.annotate(f"{out}/episodes", out=f"{out}/depth", estimator="dataset"),
        "tokenize": depthtok.tokenize(f"{out}/depth", codebook=BOOK, out=f"{out}/codes"),
        "train_vla": depthtok.train_vla(
            episodes=out / "episodes",
            codes=str(out / "codes"),
            out=out / "policy",
            preset="tiny",
            set={"run.log_every": 1},
            **SMALL,
        ),
        "decode": depthtok.decode(out / "codes", out=out / "decoded"),
    }


def test_stages_return_what_they_did_and_print_nothing(made, out, capfd):
    counts = {name: made[name].episodes for name in ("convert", "annotate", "tokenize", "decode")}
    assert counts == dict.fromkeys(counts, len(EpisodeStore(out / "episodes")))
    again = depthtok.convert(SAMPLE, out=out / "episodes")
    assert isinstance(again, Outcome)
    assert (again.made, again.kept) == (0, made["convert"].made)
    assert capfd.readouterr().out == ""


def test_stores_open_as_their_types(made, out):
    types = {"episodes": EpisodeStore, "depth": DepthStore, "codes": CodeStore}
    for name, kind in types.items():
        assert type(depthtok.open_store(str(out / name))) is kind


def test_a_plan_makes_nothing(made, out):
    planned = depthtok.tokenize(out / "depth", codebook=BOOK, out=out / "other", plan=True)
    assert isinstance(planned, Plan)
    assert planned.parts == len(depthtok.open_store(out / "depth").part_names)
    assert not (out / "other").exists()


def test_the_sample_is_encoded_again(made, out):
    checked = depthtok.tokenize(
        out / "depth", codebook=BOOK, out=out / "codes", verify_sample=2, set=["sticky=0"]
    )
    assert checked.notes == ["2 clips re-encoded: every code is the same"]


def test_a_policy_answers(made, out):
    assert made["train_vla"].step == 2
    policy = depthtok.load_policy(str(out / "policy"), device="cpu")
    model, store = policy.config.model, depthtok.open_store(out / "episodes")
    actions = policy.act(
        {
            "images": {
                name: np.zeros((64, 64, 3), np.uint8) for name in policy.config.data.cameras
            },
            "proprio": np.zeros(model.proprio_dim, np.float32),
            "instruction": "pick up the milk",
        }
    )
    assert actions.shape == (model.chunk, store.action_dim)
    assert np.isfinite(actions).all()


def test_bounds_are_told(out):
    with pytest.raises(ConfigError, match=r"tokenize\(\): `verify_sample` cannot be -1") as caught:
        depthtok.tokenize(out, codebook=BOOK, out=out / "x", verify_sample=-1)
    assert caught.value.remedy == "give 0 or more"


def test_settings_are_listed():
    rows = {row.name: row for row in depthtok.settings("annotate")}
    assert (rows["size"].flag, rows["size"].default) == ("--size", "256")
    assert (rows["precision"].flag, rows["precision"].default) == ("", "auto")
    learning = {row.name: row for row in depthtok.settings("train_vla")}
    assert float(learning["train.lr"].default) > 0
    assert learning["run.log_every"].flag == ""
    assert learning["train.betas"].default == "[0.9, 0.95]"
    assert learning["steps"].flag == "--steps"
    assert depthtok.settings("eval") == depthtok.settings("evaluate")
    assert "source" not in rows
    with pytest.raises(ConfigError, match="no command 'anotate'") as caught:
        depthtok.settings("anotate")
    assert "annotate" in caught.value.remedy


def test_a_run_returns_its_steps(out, tmp_path):
    lines = [
        f'out = "{tmp_path}/run"',
        "[data]",
        f'sample = "{SAMPLE}"',
        "[annotate]",
        'estimator = "dataset"',
        "size = 64",
        "[how]",
        'device = "cpu"',
    ]
    skipped = [f"[{name}]\nskip = true" for name in ("train-vqvae", "tokenize", "train-vla")]
    (tmp_path / "run.toml").write_text("\n".join([*lines, *skipped]))
    run = depthtok.run(tmp_path / "run.toml")
    assert [done.step.title for done in run.steps] == ["convert sample", "annotate sample"]
    assert run.steps[1].result.out == tmp_path / "run" / "sample" / "depth"
    assert depthtok.open_store(tmp_path / "run" / "sample" / "depth").size == (64, 64)
    assert run.exit_code == 0
