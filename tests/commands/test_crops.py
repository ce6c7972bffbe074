"""Crops: picture and depth cut alike, codes made anew, and nothing stored that describes less."""

from dataclasses import replace

import numpy as np
import pytest

from depthtok.data import DepthClip, ImageTransform
from depthtok.errors import ConfigError
from depthtok.stores.codes import CodeStore
from depthtok.stores.depth import DepthStore
from pipelines.train_vla import samples
from pipelines.train_vla.stores import OpenStores
from tests.commands.trainings import DEMO, call, lines, training
from vla.data.augment import WHOLE, Box
from vla.data.dataset import Dataset
from vla.data.loader import Loader
from vla.data.tokenizer import ByteTokenizer
from vla.named_configs import load
from vqvae.codec import Codec


def opened(stores, crop, augment):
    """A data set that draws crops, its episodes, and their depth."""
    config = load(stores / "micro.toml", {"data.crop": crop})
    open_stores = OpenStores.open(config, [stores / "episodes"], [], [stores / "depth"], DEMO)
    config = samples.fit(config, open_stores, None)
    learn, _ = samples.datasets(config, open_stores, None, 0, partial=False)
    return Dataset(learn.members, config, ByteTokenizer(), augment=augment)


def first_batch(dataset, size=8):
    """A batch, and the episode and step of each of its rows."""
    with Loader(dataset, size, seed=3, threads=0) as loader:
        batch = next(iter(loader))
        places = loader._stream.draw(0, size)
    return batch, [dataset.place(number, epoch)[1:] for epoch, number in places]


def test_whole_frames_get_the_stored_codes(stores):
    dataset = opened(stores, crop=0.5, augment=False)
    batch, places = first_batch(dataset)
    stored, episodes = CodeStore(stores / "codes"), dataset.members[0].episodes
    for row, (index, step) in zip(batch.depth_BMK, places, strict=True):
        grid = stored.grid_of(episodes.episode(index).key, dataset.config.data.cameras[0])
        assert np.array_equal(row[0], grid.codes[step].reshape(-1))
    assert batch.depth_valid_BM.all()


def test_picture_and_depth_are_cut_alike(stores, monkeypatch):
    box = Box(0.25, 0.5, 0.5)
    monkeypatch.setattr(Box, "draw", classmethod(lambda cls, least, rng: box))
    dataset = opened(stores, crop=0.2, augment=True)
    batch, places = first_batch(dataset)
    camera, codec = dataset.config.data.cameras[0], Codec.load(DEMO)
    clips = {clip.key: clip for clip in DepthStore(stores / "depth").clips(camera)}
    member, different = dataset.members[0], 0
    stored = CodeStore(stores / "codes")
    for number, (index, step) in enumerate(places):
        episode = member.episodes.episode(index)
        frames = episode.frames(camera).read(step, step + 1)
        height, width = frames.shape[1:3]
        part = (height // 4, width // 2, height // 2, width // 2)
        expected = ImageTransform((16, 16), crop=part).rgb(frames)[0]
        assert np.array_equal(batch.images_BIHW3[number, 0], expected)
        depth = clips[episode.key].read(step, step + 1)
        height, width = depth.values.shape[1:]
        part = (height // 4, width // 2, height // 2, width // 2)
        cut = ImageTransform(codec.codebook.size, crop=part)
        values = cut.depth(depth.values, depth.kind)
        clip = DepthClip(values, values > 0, depth.kind, depth.quantiles).to_disparity()
        bounds = codec.codebook.normalisation.range_of(clip.quantiles)
        codes = codec.encode(clip, bounds)[0].reshape(-1)
        assert (batch.depth_BMK[number, 0].numpy() == codes).mean() > 0.99
        full_codes = stored.grid_of(episode.key, camera).codes[step].reshape(-1)
        different += (codes != full_codes).mean() > 0.2
    assert different > 4


def test_boxes_lie_inside():
    rng = np.random.default_rng(0)
    sides = []
    for _ in range(200):
        box = Box.draw(0.8, rng)
        top, left, height, width = box.transform((37, 53), (8, 8)).crop
        assert min(top, left) >= 0
        assert top + height <= 37
        assert left + width <= 53
        sides.append(box.side**2)
    assert 0.8 <= min(sides) < 0.82
    assert 0.98 < max(sides) <= 1
    assert WHOLE.transform((37, 53), (8, 8)) == ImageTransform((8, 8))


def test_crops_train_and_resume(stores, tmp_path):
    crops = ["--set", "data.crop=0.8", "--depth", stores / "depth", "--codebook", DEMO]
    command = training(stores, tmp_path / "a", *crops)
    position = command.index("--codes")
    command[position : position + 2] = []
    call(*command, "--steps", 4)
    log_lines = lines(tmp_path / "a")
    assert len(log_lines) == 4
    assert 0 < log_lines[-1]["depth"] < 20
    assert "val_depth_error" in log_lines[-1]
    judged = call(
        "eval-depth",
        tmp_path / "a",
        "--episodes",
        stores / "episodes",
        "--codes",
        stores / "codes",
        "--samples",
        4,
    )
    assert "code accuracy" in judged


def test_crops_of_what_holds_no_crops_are_refused(stores, tmp_path):
    crop = ["--set", "data.crop=0.8"]
    with pytest.raises(ConfigError, match="describe whole images") as caught:
        call(*training(stores, tmp_path / "a", *crop))
    assert "--depth" in caught.value.remedy
    depth = ["--depth", stores / "depth", "--codebook", DEMO]
    with pytest.raises(ConfigError, match="frame cache"):
        call(*training(stores, tmp_path / "b", *crop, *depth, "--frame-cache", tmp_path / "c"))
    assert not (tmp_path / "c").exists()
    pixels = ["--set", "model.depth.target=pixels"]
    with pytest.raises(ConfigError, match="whole images, not crops"):
        call(*training(stores, tmp_path / "d", *crop, *depth, *pixels))
    dataset = opened(stores, crop=0.8, augment=True)
    other = replace(dataset.members[0], codes=CodeStore(stores / "codes"))
    with pytest.raises(ConfigError, match="whole images, not crops"):
        Dataset([other], dataset.config, ByteTokenizer())
