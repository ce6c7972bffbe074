import re

import numpy as np
import pytest
import torch

from depthtok.errors import SourceError
from pipelines.depth.vida.preprocess import network_size, preprocess, resize_matrix
from tests.pipelines.depth.vida import recipe


def test_network_size_equals_the_reference(golden):
    for height, width, input_size, *expected in golden("sizes.json"):
        assert list(network_size(height, width, input_size)) == expected


def test_too_elongated_frames_are_refused():
    with pytest.raises(SourceError, match="elongated"):
        network_size(2, 400, 140)


def test_preprocess_equals_opencv(golden):
    reference = golden("preprocess.npz")
    for name in (name for name in reference.files if not name.endswith(("net", "stats"))):
        height, width, input_size, frame = map(int, re.findall(r"\d+", name))
        *size, step = reference[f"{name}_net"]
        frames = torch.from_numpy(recipe.clip(frame + 1, height, width, seed=1)[frame:])
        assert network_size(height, width, input_size) == tuple(size)
        pixels = preprocess(frames, network_size(height, width, input_size))[0].numpy()
        assert np.abs(pixels[:, ::step, ::step] - reference[name]).max() < 2e-6


def test_a_frame_of_the_right_size_is_only_normalised():
    video = recipe.clip(1, 28, 42, seed=1)
    pixels = preprocess(torch.from_numpy(video), (28, 42)).numpy()
    assert np.abs(pixels - recipe.normalise(video)).max() < 1e-6


def test_resize_keeps_a_constant():
    rows = resize_matrix(96, 70, torch.device("cpu")).sum(1)
    torch.testing.assert_close(rows, torch.ones(70), rtol=0, atol=1e-6)
