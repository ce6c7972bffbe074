"""train-vqvae, eval-vqvae, tokenize and decode from the command line, on a small data set."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from depthtok.cli.main import app
from depthtok.data import DepthKind
from depthtok.errors import ConfigError, CorruptPart, StaleStore, StoreError
from depthtok.signals import Stopped
from depthtok.stores.codebook import Codebook
from depthtok.stores.codes import CodeStore
from depthtok.stores.depth import DepthStore
from depthtok.stores.episodes import EpisodeStore
from depthtok.testing import make_rlds
from tests.commands.trainings import call
from vqvae.codec import Codec
from vqvae.data.regions import EpisodesBehind
from vqvae.quality.quality import assess
from vqvae.training import export
from vqvae.training.train import TokeniserTrainer

SIZE = 64
PRESET = f"""
[network]
size = {SIZE}
grid = 8
dim = 16
width = 16
decoder_width = 16
encoder_blocks = 0
decoder_blocks = 1
[quantizer]
codes = 32
warmup = 2
[training]
steps = 8
batch = 8
crop = 32
lr_warmup = 2
held_out = 0.3
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Path:
    """Stores `episodes` and `depth`, a codebook `cb`, and its codes `codes`; only to be read."""
    root = tmp_path_factory.mktemp("commands")
    (root / "preset.toml").write_text(PRESET)
    rlds = make_rlds(root / "set" / "1.0.0", size=SIZE)
    call("convert", rlds, "--out", root / "episodes")
    call(
        "annotate",
        root / "episodes",
        "--out",
        root / "depth",
        "--estimator",
        "dataset",
        "--size",
        SIZE,
    )
    call(*learn(root, "cb"))
    call("tokenize", root / "depth", "--codebook", root / "cb", "--out", root / "codes")
    return root


def annotated(root: Path, seed: int) -> Path:
    """The DepthStore of a recording; all seeds have one fingerprint, being of one data set."""
    call("convert", make_rlds(root / "set", size=SIZE, seed=seed), "--out", root / "episodes")
    flags = ("--estimator", "dataset", "--size", SIZE)
    call("annotate", root / "episodes", "--out", root / "depth", *flags)
    return root / "depth"


def learn(root: Path, out: str | Path, *more: object) -> list[object]:
    preset = root / "preset.toml"
    return ["train-vqvae", root / "depth", "--out", root / out, "--preset", preset, *more]


def test_a_plan_says_how_long_and_writes_nothing(here, tmp_path):
    before = sorted(path.name for path in here.iterdir())
    out = call(*learn(here, "planned", "--plan"))
    assert f"{here / 'planned'}: 8 steps of 8 crops" in out
    assert "on this cpu" in out
    planned = json.loads(call(*learn(here, "planned", "--plan", "--json")))
    assert planned["seconds"] > 8 * planned["step_seconds"] > 0
    assert sorted(path.name for path in here.iterdir()) == before


def test_a_training_leaves_its_report(here):
    assert "data:image/webp" in (here / "cb" / "report.html").read_text()
    assert json.loads((here / "cb" / "report.json").read_text())["title"] == "A codebook for depth"
    stamp = (here / "cb" / "codebook.safetensors").stat().st_mtime_ns
    assert "codes used" in call(*learn(here, "cb"))  # it is there: nothing is trained again
    assert (here / "cb" / "codebook.safetensors").stat().st_mtime_ns == stamp
    (here / "cb" / "report.html").unlink()
    call("report", here / "cb")
    assert (here / "cb" / "report.html").is_file()


def test_flags_reach_the_settings(here, tmp_path):
    out = tmp_path / "cb"
    call(*learn(here, out, "--quantizer", "fsq", "--normalisation", "per_frame", "--steps", 5))
    book = Codebook.load(out)
    assert book.meta["quantizer"]["kind"] == "fsq"
    assert book.normalisation.name == "per_frame"
    assert book.meta["training"]["steps"] == 5


def test_a_small_picture_names_the_crop_to_set(here, tmp_path):
    with pytest.raises(ConfigError) as caught:
        call(*learn(here, tmp_path / "cb", "--size", 32, "--set", "training.crop=100"))
    assert "--set training.crop=32" in caught.value.remedy


def test_a_training_that_ends_in_its_warm_up_is_refused(here, tmp_path):
    with pytest.raises(ConfigError, match="end before the warm-up") as caught:
        call(*learn(here, tmp_path / "cb", "--steps", 2))
    assert "--set quantizer.warmup=1" in caught.value.remedy
    assert not (tmp_path / "cb").exists()


def test_held_out_tasks_judge_and_the_twin_is_recorded(here, tmp_path):
    out = tmp_path / "cb"
    call(*learn(here, out, "--held-out-task", "Box 1", "--twin", "--sticky", "0.5"))
    quality = Codebook.load(out).quality
    assert quality["episodes"] == 2
    assert quality["regions"]["robot"]["metres"]["pixels"] > 0
    assert quality["continuous"]["metres"]["abs_rel"] > 0
    assert quality["with_sticky"]["sticky"] == 0.5
    assert "codes" not in Codebook.load(tmp_path / "cb.continuous").quality
    with pytest.raises(ConfigError, match="names no episode"):
        call(*learn(here, tmp_path / "none", "--held-out-task", "fold the towel"))


def test_sticky_codes_are_judged_on_the_clips_that_judge(here, tmp_path, monkeypatch):
    evaluated = []
    monkeypatch.setattr(
        export,
        "assess",
        lambda codec, sources, **options: (
            evaluated.append([(s.name, str(c.key), c.camera) for s in sources for c in s.clips])
            or assess(codec, sources, **options)
        ),
    )
    preset = tmp_path / "preset.toml"
    preset.write_text(PRESET + "judged = 1\n")
    depth = [here / "depth", here / "depth"]
    call("train-vqvae", *depth, "--out", tmp_path / "cb", "--preset", preset, "--sticky", "0.5")
    assert evaluated[0] == evaluated[1]
    assert len(evaluated[0]) == 1


def test_episodes_that_moved_are_found_where_they_are_said_to_lie(here, tmp_path):
    annotated(tmp_path, seed=0)
    (tmp_path / "set").rename(tmp_path / "moved set")
    (tmp_path / "episodes").rename(tmp_path / "moved episodes")
    judge = ["eval-vqvae", here / "cb", tmp_path / "depth", "--out", tmp_path / "page", "--json"]
    assert "regions" not in json.loads(call(*judge))["quality"]
    both = ["train-vqvae", here / "depth", tmp_path / "depth", "--held-out-task", "box 1"]
    for command in ([*judge, "--task", "box 1"], [*both, "--out", tmp_path / "new"]):
        with pytest.raises(ConfigError) as caught:
            call(*command)
        assert (
            caught.value.problem == f"the tasks of 12 clips of {tmp_path / 'depth'} are not known"
        )
        assert "--episodes DIR" in caught.value.remedy
    moved = [
        "--episodes",
        tmp_path / "moved episodes",
        "--source-root",
        tmp_path / "moved set",
    ]
    quality = json.loads(call(*judge, "--task", "Box 1", *moved))["quality"]
    assert quality["regions"]["robot"]["metres"]["pixels"] > 0
    assert quality["episodes"] == 2


def test_recordings_of_one_name_are_not_taken_for_each_other(tmp_path):
    first, other = (DepthStore(annotated(tmp_path / f"{n}", seed=n)) for n in (1, 2))
    assert first.fingerprint == other.fingerprint
    behind = EpisodesBehind()
    for depth in (first, other):
        clip = next(depth.clips("image"))
        assert behind.episode(clip).store.path == depth.path.parent / "episodes"
        episodes = EpisodeStore(depth.path.parent / "episodes")
        classes = next(iter(episodes)).frames("image").segmentation(0, 2)
        expected = classes == episodes.segmentation_classes["image"]["robot"]
        np.testing.assert_array_equal(behind.masks(clip, 0, 2)["robot"], expected)
    moved = first.path.parent / "moved"
    (first.path.parent / "episodes").rename(moved)
    clips = [next(depth.clips("image")) for depth in (first, other)]
    behind = EpisodesBehind([other.path.parent / "episodes"])
    assert behind.episode(clips[0]) is None
    assert behind.episode(clips[1]).store.path == other.path.parent / "episodes"
    behind = EpisodesBehind([other.path.parent / "episodes", moved])
    assert behind.episode(clips[0]).store.path == moved


def test_a_signal_stops_a_training_and_the_same_command_goes_on(here, tmp_path, monkeypatch):
    advance = TokeniserTrainer.advance

    def once(self):
        if self.step == 4:
            signal.raise_signal(signal.SIGTERM)
        return advance(self)

    monkeypatch.setattr(TokeniserTrainer, "advance", once)
    with pytest.raises(Stopped):
        call(*learn(here, tmp_path / "cb"))
    assert not (tmp_path / "cb").exists()
    with pytest.raises(StaleStore, match="other settings"):
        call(*learn(here, tmp_path / "cb", "--seed", 1))
    steps = []
    monkeypatch.setattr(
        TokeniserTrainer, "advance", lambda self: steps.append(self.step) or advance(self)
    )
    call(*learn(here, tmp_path / "cb"))
    assert steps == [5, 6, 7]
    assert Codebook.load(tmp_path / "cb").fingerprint == Codebook.load(here / "cb").fingerprint


def test_two_ranks_train_one_codebook(here, tmp_path):
    """Through torchrun; that all ranks hold the same bits is asserted by the training itself."""
    out = tmp_path / "cb"
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "-m",
        "depthtok.cli",
        *map(str, learn(here, out, "--device", "cpu")),
    ]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("codes used, perplexity") == 1  # one rank speaks
    assert Codebook.load(out).quality["codes"]["used"] > 1


def test_a_codebook_is_judged_on_other_data(here, tmp_path):
    printed = json.loads(
        call(
            "eval-vqvae",
            here / "cb",
            here / "depth",
            "--out",
            tmp_path,
            "--task",
            "box 0",
            "--json",
        )
    )
    quality = json.loads((tmp_path / "quality.json").read_text())
    assert printed["quality"] == quality
    assert quality["episodes"] == 2
    assert "its own held-out episodes" in (tmp_path / "report.html").read_text()
    one = ["eval-vqvae", here / "cb", here / "depth", "--out", tmp_path / "one", "--clips", 1]
    call(*one, "--camera", "image")
    assert json.loads((tmp_path / "one" / "quality.json").read_text())["episodes"] == 1


def test_codes_become_depth_again(here, tmp_path):
    call("decode", here / "codes", "--out", tmp_path / "decoded")
    decoded, codes = DepthStore(tmp_path / "decoded"), CodeStore(here / "codes")
    assert (decoded.kind, decoded.size) == (DepthKind.DISPARITY, (SIZE, SIZE))
    assert decoded.transform == codes.transform
    codec = Codec.load(here / "cb")
    for clip in decoded.clips():
        grid = codes.grid_of(clip.key, clip.camera)
        expected = np.maximum(codec.decode_disparity(grid.codes, grid.range), 0)
        np.testing.assert_allclose(clip.read().values, expected, rtol=2**-10, atol=1e-6)
        assert clip.quantiles[-1] == pytest.approx(clip.read().values.max())
    stamp = [part.digest for part in decoded.parts()]
    assert "0 parts made" in call("decode", here / "codes", "--out", tmp_path / "decoded")
    assert [part.digest for part in DepthStore(tmp_path / "decoded").parts()] == stamp
    assert "is sound" in call("verify", tmp_path / "decoded")
    assert "decoded from codes" in call("inspect", tmp_path / "decoded")
    call("report", tmp_path / "decoded")
    audit = ["audit-depth", "--estimated", tmp_path / "decoded", "--truth", here / "depth"]
    arguments = [str(word) for word in [*audit, "--out", tmp_path / "audit"]]
    assert CliRunner().invoke(app, arguments).exit_code < 2  # this codebook may well be bad
    assert "decoded from codes" in (tmp_path / "audit" / "report.html").read_text()


def test_codes_are_decoded_by_their_own_codebook_alone(here, tmp_path):
    call(*learn(here, tmp_path / "other", "--seed", 3))
    with pytest.raises(StaleStore, match="are of codebook"):
        call("decode", here / "codes", "--out", tmp_path / "d", "--codebook", tmp_path / "other")
    with pytest.raises(StoreError, match="is not in"):
        call("decode", here / "codes", "--out", tmp_path / "d", "--codebook", tmp_path / "gone")
    call(*learn(here, tmp_path / "frame", "--normalisation", "per_frame", "--steps", 4))
    call("tokenize", here / "depth", "--codebook", tmp_path / "frame", "--out", tmp_path / "codes")
    with pytest.raises(ConfigError, match="per_frame"):
        call("decode", tmp_path / "codes", "--out", tmp_path / "d")


def test_a_sample_is_encoded_anew(here, tmp_path, monkeypatch):
    again = ["tokenize", here / "depth", "--codebook", here / "cb", "--out", here / "codes"]
    assert "5 clips re-encoded" in call(*again, "--verify-sample", 5)
    encode = Codec.encode
    monkeypatch.setattr(Codec, "encode", lambda *a, **k: encode(*a, **k) ^ 1)
    with pytest.raises(CorruptPart, match="differ from those"):
        call(*again, "--verify-sample", 1)
