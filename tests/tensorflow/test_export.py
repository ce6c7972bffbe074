"""An export as RLDS is opened by tensorflow-datasets, with its depth and codes."""

import warnings

import numpy as np
import pytest

from depthtok.testing import make_rlds
from tests.pipelines.export.stores import exported, made, opened

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # raised while TensorFlow imports itself
    warnings.simplefilter("ignore", FutureWarning)
    tfds = pytest.importorskip("tensorflow_datasets")

pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def test_tensorflow_datasets_reads_all_of_it(tmp_path):
    stores = made(tmp_path, make_rlds(tmp_path / "rlds", episodes=3, steps=2, size=64))
    words = ("--format", "rlds", "--set", "episodes_per_shard=2")
    exported(stores, tmp_path / "out", *words)
    builder = tfds.builder_from_directory(str(tmp_path / "out"))
    assert builder.info.splits["train"].num_examples == 3
    read = tfds.as_numpy(builder.as_dataset(split="train", shuffle_files=False))
    episodes, depth, codes = opened(stores)
    for record, episode in zip(read, episodes, strict=True):
        steps = list(record["steps"])
        assert record["episode_metadata"]["key"].decode() == str(episode.key)
        clip = depth.find_clip(episode.key, "image").stored(0, 2)
        grid = codes.grid_of(episode.key, "image")
        frames = episode.frames("image").read(0, 2)
        np.testing.assert_array_equal(
            record["episode_metadata"]["image_depth_range"], np.float32(grid.range)
        )
        for number, step in enumerate(steps):
            seen = step["observation"]
            np.testing.assert_array_equal(seen["image"], frames[number])
            np.testing.assert_array_equal(seen["image_depth"][..., 0], clip[number])
            np.testing.assert_array_equal(seen["image_depth_codes"], grid.codes[number])
            np.testing.assert_array_equal(seen["state"], episode.proprio[number])
            np.testing.assert_array_equal(step["action"], episode.action[number])
            assert step["language_instruction"].decode() == episode.instruction(number)
            assert step["is_last"] == (number == 1)
