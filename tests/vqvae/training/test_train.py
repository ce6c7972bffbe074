from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from depthtok.data import DepthKind
from depthtok.disk import locks
from depthtok.errors import (
    CorruptPart,
    DepthKindError,
    DepthtokError,
    InUse,
    StaleStore,
    TrainingError,
)
from depthtok.normalisation import Normalisation
from depthtok.stores.codebook import Codebook
from depthtok.testing import damages
from tests.vqvae.synthetic import array_clip, scene, scenes, tiny
from vqvae.codec import Codec
from vqvae.config import TrainOptions
from vqvae.data import frames, shares
from vqvae.data.clips import ClipSource
from vqvae.data.frames import DepthCache
from vqvae.training import checkpoint
from vqvae.training.train import TokeniserTrainer, learning_rate, train


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run(config, source, out, *, options=None, stop_at=None):
    figures = {}
    train(
        config,
        [source],
        out,
        options or TrainOptions(),
        on_step=lambda step, found: figures.update({step: found}),
        should_stop=lambda: stop_at in figures,
    )
    return figures


def test_a_training_makes_a_codebook_with_its_quality(tmp_path, source):
    out = tmp_path / "cb"
    figures = run(tiny(6), source, out)
    assert sorted(figures) == [1, 2, 3, 4, 5, 6]
    book = Codebook.load(out)
    assert book.vectors.shape == (32, 16)
    assert book.grid == (8, 8)
    assert book.quality["held_out"] is True
    assert book.quality["metres"]["abs_rel"] > 0
    assert book.meta["data"]["held_out"]
    assert not (tmp_path / "cb.training").exists()
    Codec.load(out)


def test_a_folder_to_work_in_loses_only_what_was_made_there(tmp_path, source):
    work = tmp_path / "scratch"
    work.mkdir()
    (work / "thesis.tex").write_text("x")
    options = TrainOptions(work=str(work), keep_work=True)
    run(tiny(4), source, tmp_path / "cb", options=options)
    whole = {"checkpoint.safetensors", "frames.json", "frames.u16", "thesis.tex"}
    assert {path.name for path in work.iterdir()} == whole
    run(tiny(4), source, tmp_path / "cb", options=options)  # finished already
    assert {path.name for path in work.iterdir()} == whole
    run(tiny(4), source, tmp_path / "cb", options=replace(options, keep_work=False))
    assert [path.name for path in work.iterdir()] == ["thesis.tex"]
    run(tiny(4), source, tmp_path / "b", options=replace(options, keep_work=False))
    assert [path.name for path in work.iterdir()] == ["thesis.tex"]


def test_another_trainings_codebook_is_not_replaced_unasked(tmp_path, source):
    out = tmp_path / "cb"
    run(tiny(4), source, out)
    before = Codebook.load(out).fingerprint
    other = tiny(4).with_training(seed=1)
    with pytest.raises(StaleStore, match="other settings"):
        run(other, source, out)
    assert Codebook.load(out).fingerprint == before
    run(other, source, out, options=TrainOptions(resume=False))
    assert Codebook.load(out).fingerprint != before


def test_metres_and_disparity_do_not_train_together(tmp_path, source):
    depth = array_clip(1 / scene(9), "e9", kind=DepthKind.DISPARITY)
    for name in ("estimated", source.name):  # true and estimated depth of one data set
        both = [source, ClipSource(name, "x", [depth])]
        with pytest.raises(DepthKindError, match=f"{source.name} is metres, {name} is disparity"):
            train(tiny(4), both, tmp_path / "cb", TrainOptions())


def test_a_diverged_training_ends_at_once(tmp_path, source):
    steps = []
    with pytest.raises(TrainingError, match="at step"):
        train(
            tiny(50).with_training(lr=1e12),
            [source],
            tmp_path / "cb",
            TrainOptions(),
            on_step=lambda step, found: steps.append(step),
        )
    assert len(steps) < 49
    assert not (tmp_path / "cb").exists()


@pytest.mark.parametrize(
    ("file", "change", "told"),
    [
        ("frames.json", lambda data: b"{" + data, "is damaged"),
        ("frames.u16", lambda data: data[:-2], "changed after it was written"),
        (
            "frames.u16",
            lambda data: bytes([data[0] ^ 1]) + data[1:],
            "changed after it was written",
        ),
        ("checkpoint.safetensors", lambda data: data[:-8], "is damaged"),
        (
            "checkpoint.safetensors",
            lambda data: data[:-1] + bytes([data[-1] ^ 1]),
            "changed after it was written",
        ),
    ],
)
def test_a_damaged_training_is_not_gone_on_with(tmp_path, source, file, change, told):
    run(tiny(6), source, tmp_path / "cb", stop_at=4)
    damaged = tmp_path / "cb.training" / file
    damaged.write_bytes(change(damaged.read_bytes()))
    with pytest.raises(CorruptPart, match=told):
        run(tiny(6), source, tmp_path / "cb")


def _resaved(file, how, old):
    """A checkpoint with other metadata, in today's format or as older versions wrote it."""
    with safe_open(file, framework="pt") as opened:
        note = opened.metadata()
    tensors = load_file(file)
    if old:
        digest = hashlib.sha256()
        for name, value in sorted(tensors.items()):
            digest.update(name.encode())
            digest.update(value.numpy().tobytes())
        del note["format"]
        note["sha256"] = digest.hexdigest()
    save_file(tensors, file, metadata=how(note))


def test_a_training_that_an_older_version_stopped_resumes(tmp_path, source):
    undisturbed = run(tiny(8), source, tmp_path / "whole")
    first = run(tiny(8), source, tmp_path / "cb", stop_at=4)
    _resaved(tmp_path / "cb.training/checkpoint.safetensors", dict, old=True)
    index = tmp_path / "cb.training/frames.json"
    record = json.loads(index.read_text())
    index.write_text(json.dumps({k: record[k] for k in record if k not in ("format", "digest")}))
    assert {**first, **run(tiny(8), source, tmp_path / "cb")} == undisturbed
    assert (
        Codebook.load(tmp_path / "cb").fingerprint == Codebook.load(tmp_path / "whole").fingerprint
    )


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        lambda note: {**note, "step": str(int(note["step"]) ^ 1)},
        lambda note: {k: v for k, v in note.items() if k != "step"},
        lambda note: {k: v for k, v in note.items() if k != "sha256"},
        lambda note: (
            {"gormat" if k == "format" else k: v for k, v in note.items()}
            | ({} if "format" in note else {"format": "2"})
        ),
        lambda note: {},
    ],
)
def test_a_checkpoints_own_description_is_digested(tmp_path, source, old, change):
    """A flipped bit of the step once gave another codebook, without a word."""
    run(tiny(6), source, tmp_path / "cb", stop_at=4)
    _resaved(tmp_path / "cb.training/checkpoint.safetensors", change, old=old)
    with pytest.raises(CorruptPart, match=r"checkpoint\.safetensors was changed"):
        run(tiny(6), source, tmp_path / "cb")


@pytest.mark.parametrize(
    "change",
    [
        lambda index: index["sources"][0].update(weight=2.0),
        lambda index: index["sources"][0].update(frames=1),
        lambda index: index["shape"].reverse(),
        lambda index: index.update(format=3),
        lambda index: index.pop("digest"),
        lambda index: index.pop("format"),
        lambda index: index.update(key="x"),
    ],
)
def test_the_description_of_the_frames_is_digested(tmp_path, source, change):
    run(tiny(6), source, tmp_path / "cb", stop_at=4)
    file = tmp_path / "cb.training/frames.json"
    index = json.loads(file.read_text())
    change(index)
    file.write_text(json.dumps(index))
    with pytest.raises(CorruptPart, match=r"frames\.json was changed"):
        run(tiny(6), source, tmp_path / "cb")


def test_no_damage_of_a_stopped_training_goes_unseen(tmp_path, source):
    """Flips, cuts, additions, deletions and swaps: refused, or gone on with as if nothing were."""
    build = ([source], Normalisation(), 64, 0)
    work, copy = tmp_path / "work", tmp_path / "copy"
    trainer = TokeniserTrainer(tiny(6), DepthCache.build(work, *build), "cpu")
    trainer.advance()
    checkpoint.save(work, trainer, "identity")
    want = [value.clone() for value in trainer.model.state_dict().values()]
    shutil.copytree(work, copy)
    refused, messages = 0, set()
    for damage in damages(work, seed=14, count=200 * int(os.environ.get("DEPTHTOK_DAMAGES", "1"))):
        damage.apply(work)
        try:
            cache = DepthCache.build(work, *build)
            there = checkpoint.load(work, trainer, "identity")
        except DepthtokError:
            refused += 1
        else:
            messages.add(damage.kind)
            assert np.array_equal(cache.frames, DepthCache.build(copy, *build).frames), damage
            assert not there or trainer.step == 1, damage
            pairs = zip(trainer.model.state_dict().values(), want, strict=True)
            assert all(torch.equal(now, before) for now, before in pairs), damage
        for file in copy.iterdir():
            shutil.copyfile(file, work / file.name)
    assert refused > 0
    assert messages <= {"delete"}  # the frames are made anew, the training begins anew


def test_frames_that_are_read_are_never_written_over(tmp_path, source):
    """A map of a file that is cut ends its process by SIGBUS."""
    cache = DepthCache.build(tmp_path, [source], Normalisation(), 64, 0)
    before = cache.frames.copy()
    DepthCache.build(tmp_path, [source], Normalisation("per_frame"), 64, 4)
    assert np.array_equal(cache.frames, before)
    assert [path.name for path in tmp_path.glob("*.u16")] == ["frames.u16"]


def test_a_second_training_into_one_codebook_is_refused(tmp_path, source, monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE_S", 0.1)
    code = "import sys, time; from pathlib import Path; from depthtok.disk.locks import writing\n"
    code += "with writing(Path(sys.argv[1]), file=True): print(flush=True); time.sleep(30)"
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "cb"], stdout=subprocess.PIPE
    ) as other:
        other.stdout.readline()
        with pytest.raises(InUse, match="cb is being written by process"):
            run(tiny(6), source, tmp_path / "cb")
        other.kill()
    assert run(tiny(6), source, tmp_path / "cb")


def test_without_held_out_episodes_the_report_says_so(tmp_path, source):
    run(tiny(4).with_training(held_out=0.0), source, tmp_path / "cb")
    book = Codebook.load(tmp_path / "cb")
    assert book.quality["held_out"] is False
    assert book.meta["data"]["held_out"] == []


def test_the_same_seed_makes_the_same_codebook(tmp_path, source):
    prints = []
    for name in "ab":
        run(tiny(5), source, tmp_path / name)
        prints.append(Codebook.load(tmp_path / name).fingerprint)
    run(tiny(5).with_training(seed=1), source, tmp_path / "c")
    assert prints[0] == prints[1] != Codebook.load(tmp_path / "c").fingerprint


@pytest.mark.parametrize("stop_at", [1, 4])
def test_a_stopped_training_resumes_exactly(tmp_path, source, stop_at):
    """Stopped in the warm-up (1), and after the codes were placed (4)."""
    undisturbed = run(tiny(8), source, tmp_path / "whole")
    first = run(tiny(8), source, tmp_path / "cb", stop_at=stop_at)
    assert not (tmp_path / "cb").exists()
    rest = run(tiny(8), source, tmp_path / "cb")
    assert {**first, **rest} == undisturbed
    assert min(rest) == stop_at + 1
    assert (
        Codebook.load(tmp_path / "cb").fingerprint == Codebook.load(tmp_path / "whole").fingerprint
    )


def test_a_training_begun_before_weights_shared_the_frames_goes_on_as_it_began(
    tmp_path, source, monkeypatch, capsys
):
    """Its cache, its checkpoint and its codebook stay what they were."""
    config = tiny(8).with_training(frames=20)
    small = ClipSource("small", "f1", scenes(3, frames=2), weight=30.0)

    def trained(out, stop_at=None):
        steps = {}
        train(
            config,
            [source, small],
            out,
            TrainOptions(),
            on_step=lambda step, figures: steps.update({step: figures}),
            should_stop=lambda: stop_at in steps,
        )
        return steps

    with monkeypatch.context() as patch:
        patch.setattr(frames, "weights_matter", lambda *given: False)
        patch.setattr(shares, "weights_matter", lambda *given: False)
        former = trained(tmp_path / "former")
        first = trained(tmp_path / "cb", stop_at=4)
    assert {**first, **trained(tmp_path / "cb")} == former
    assert trained(tmp_path / "cb") == {}  # it is done
    assert trained(tmp_path / "new") != former
    assert "no frame of" not in capsys.readouterr().err
    small = replace(small, weight=1e-6)
    trained(tmp_path / "light")
    assert "warning: no frame of small is among the 20 that train" in capsys.readouterr().err


def test_a_checkpoint_of_another_training_is_refused(tmp_path, source):
    run(tiny(8), source, tmp_path / "cb", stop_at=3)
    with pytest.raises(StaleStore, match="other settings"):
        run(tiny(9), source, tmp_path / "cb")
    run(tiny(9), source, tmp_path / "cb", options=TrainOptions(resume=False))


@pytest.mark.parametrize("kind", ["gradient", "simvq", "fsq", "none"])
def test_every_quantiser_trains(tmp_path, source, kind):
    config = tiny(6, kind=kind, levels=(4, 4, 2))
    run(config, source, tmp_path / "cb")
    quality = Codebook.load(tmp_path / "cb").quality
    assert ("codes" in quality) is (kind != "none")


@pytest.mark.parametrize("rule", ["per_frame", "dataset", "metric"])
def test_every_normalisation_trains(tmp_path, source, rule):
    run(replace(tiny(4), normalisation=rule), source, tmp_path / "cb")
    book = Codebook.load(tmp_path / "cb")
    assert book.normalisation.name == rule
    assert book.quality["metres"]["abs_rel"] > 0


def test_the_learning_rate_rises_and_falls():
    config = tiny(100)
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates[0] < rates[1]
    assert max(rates) <= config.training.lr
    assert rates[-1] < 0.01 * config.training.lr


def test_plain_ema_collapses_and_the_default_does_not(tmp_path):
    """The negative control: random vectors, no warm-up, no k-means, no re-seeding. The codes that
    start far from the latents are never chosen, so nothing ever moves them."""
    source = ClipSource("synthetic", "f0", scenes(12))
    used = {}
    for name, plain in (("plain", True), ("default", False)):
        config = (
            tiny(160, codes=64, warmup=0, kmeans=0, reseed=0.0) if plain else tiny(160, codes=64)
        )
        config = replace(config, network=replace(config.network, latent_norm=not plain))
        run(config, source, tmp_path / name)
        used[name] = Codebook.load(tmp_path / name).quality["codes"]["used"]
    assert used["plain"] <= 3
    assert used["default"] >= 20
