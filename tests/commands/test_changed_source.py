"""From the command line: a data set that is corrected, and what each command says of it."""

import json
import shutil
from importlib.resources import files

import numpy as np
import pytest
from typer.testing import CliRunner

import depthtok
from depthtok.api.depth_stores import depth_sources
from depthtok.cli.main import app
from depthtok.errors import StaleStore
from depthtok.stores.episodes import EpisodeStore
from depthtok.testing import make_rlds
from tests.commands.trainings import DEMO, MICRO, call, training


def said(*command, code=0):
    """Everything that a command says, which must end with `code`."""
    result = CliRunner().invoke(app, [str(argument) for argument in command])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def stores(tmp_path):
    """Six episodes in three shards through all stages; the settings of a micro model."""
    source = make_rlds(tmp_path / "rlds", steps=4)
    stages(tmp_path, source)
    (tmp_path / "micro.toml").write_text(MICRO)
    return tmp_path


def stages(root, source):
    call("convert", source, "--out", root / "episodes")
    call("annotate", root / "episodes", "--out", root / "depth", "--estimator", "dataset")
    call("tokenize", root / "depth", "--codebook", DEMO, "--out", root / "codes")


def rebuild(root, edit):
    shutil.rmtree(root / "rlds")
    make_rlds(root / "rlds", steps=4, edit=edit)


def test_a_corrected_action_reaches_the_store_and_stops_the_old_run(stores):
    call(*training(stores, stores / "run", "--steps", 2))
    before = EpisodeStore(stores / "episodes").episode(4).action.copy()

    def flipped(number, values):
        if number == 4:
            values["steps/action"][:, 6] *= -1

    rebuild(stores, flipped)
    words = said("convert", stores / "rlds", "--out", stores / "episodes")
    assert "1 of 3 shards changed since they were converted" in words
    assert "1 part made, 2 kept" in words
    after = EpisodeStore(stores / "episodes").episode(4).action
    np.testing.assert_array_equal(after[:, 6], -before[:, 6])
    assert "is sound" in said("verify", stores / "codes")
    with pytest.raises(StaleStore, match="the episodes of libero_sim_depth were made anew since"):
        call(*training(stores, stores / "run", "--steps", 2))
    call(*training(stores, stores / "new run", "--steps", 2))  # its codes are of the same frames


def test_codes_of_former_pictures_are_refused_until_they_are_remade(stores, capsys):
    def other(number, values):
        if number == 0:
            image = values["steps/observation/image"]
            values["steps/observation/image"] = np.ascontiguousarray(image[:, :, ::-1])

    rebuild(stores, other)
    assert "1 part made" in said("convert", stores / "rlds", "--out", stores / "episodes")
    stale = f"1 of 3 parts of {stores / 'depth'} are of other frames than"
    with pytest.raises(StaleStore, match=r"the codes of 1 of 3 shards are of other frames"):
        depthtok.train_vla(
            episodes=[stores / "episodes"],
            codes=[stores / "codes"],
            out=stores / "run",
            preset=str(stores / "micro.toml"),
            device="cpu",
        )
    assert f"warning: {stale}" in capsys.readouterr().err
    tokenize = ("tokenize", stores / "depth", "--codebook", DEMO, "--out", stores / "codes")
    assert f"warning: {stale}" in said(*tokenize)
    assert f"upstream: {stale}" in said("verify", stores / "codes", code=1)
    for store in ("depth", "codes"):
        assert stale in said("inspect", stores / store)
    depth_sources([stores / "depth"], None, None, partial=False)  # of train-vqvae
    assert f"warning: {stale}" in capsys.readouterr().err
    stages(stores, stores / "rlds")
    assert "is sound" in said("verify", stores / "codes")
    assert "out of date" not in said("inspect", stores / "codes")
    call(*training(stores, stores / "run", "--steps", 2))


@pytest.mark.parametrize(
    ("edit", "estimator", "fits"),
    [
        (("fps = 20", "fps = 10"), "dataset", True),
        (('depth_unit = "mm"', 'depth_unit = "m/1024"'), "dataset", False),
        (('depth_unit = "mm"', 'depth_unit = "m/1024"'), "tiny", True),
        (('name = "image"', 'name = "image"\nchannels = "bgr"'), "tiny", False),
    ],
)
def test_codes_fit_a_schema_that_was_edited_unless_it_reads_their_frames_otherwise(
    stores, edit, estimator, fits
):
    text = (files("depthtok.sources.schemas") / "libero_depth.toml").read_text()
    (stores / "edited.toml").write_text(text.replace(*edit))
    codes = ("annotate", stores / "episodes", "--then-tokenize", DEMO, "--estimator", estimator)
    shutil.rmtree(stores / "codes")
    call(*codes, "--out", stores / "codes")
    edited = ("--schema", stores / "edited.toml", "--overwrite")
    call("convert", stores / "rlds", "--out", stores / "episodes", *edited)
    if fits:
        call(*training(stores, stores / "run", "--steps", 1))
        return
    with pytest.raises(StaleStore, match=r"are of other frames .* how its schema reads them"):
        call(*training(stores, stores / "run", "--steps", 1))


def test_what_failed_is_said_by_all_that_comes_after(tmp_path, capsys):
    def edit(number, values):
        if number == 1:
            values["steps/action"][2, 0] = np.nan
        if number == 5:
            values["steps/observation/wrist_depth"] = [b"no image"] * 4

    source = make_rlds(tmp_path / "rlds", steps=4, edit=edit)
    out = {name: tmp_path / name for name in ("episodes", "depth", "codes", "run")}
    assert "failed: libero_sim_depth/1.0.0/train/00000-of-00003/00001" in said(
        "convert", source, "--out", out["episodes"], code=1
    )
    dataset = ("--estimator", "dataset")
    words = said("annotate", out["episodes"], "--out", out["depth"], *dataset, code=1)
    assert "earlier: 1 failed episode is left out: 1 in convert" in words
    everything = "2 failed episodes are left out: 1 in convert, 1 in annotate"
    words = said("tokenize", out["depth"], "--codebook", DEMO, "--out", out["codes"])
    assert everything in words
    (tmp_path / "micro.toml").write_text(MICRO)
    words = said(*training(tmp_path, out["run"], "--steps", 2))
    assert f"libero_sim_depth: {everything}" in words
    state = json.loads(next(out["run"].glob("checkpoints/*/state.json")).read_text())
    assert state["notes"]["left_out"] == {"libero_sim_depth": {"convert": 1, "annotate": 1}}
    call("report", out["run"])
    assert everything in (out["run"] / "report.html").read_text()
    depth_sources([out["depth"]], None, None, partial=False)  # of train-vqvae
    assert f"{out['depth']}: {everything}" in capsys.readouterr().err
