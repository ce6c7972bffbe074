"""The whole video algorithm against reference outputs, and as a stream."""

import re

import numpy as np
import pytest
import torch
import vida_recipe as recipe
from vida_made import MemoryClip

from pipelines.vida.config import CONFIGS, RunConfig
from pipelines.vida.infer import estimate
from pipelines.vida.network import VideoDepth
from pipelines.vida.runner import Runner

CPU = torch.device("cpu")
CASES = [
    "rel_n1_96x96_s70",
    "rel_n23_96x96_s70",
    "rel_n26_96x96_s70",
    "rel_n48_96x96_s70",
    "rel_n40_64x128_s70",
    "rel_n40_120x90_s70",
    "metric_n48_96x96_s70",
]


def depth_of(network, clips, input_size=42, **settings):
    """Depth of every clip, whole."""
    run = RunConfig(input_size=input_size, **settings)
    clips = list(clips)
    parts = [[] for _ in clips]
    runner = Runner(network, run, CPU)
    for block in estimate(runner, clips, input_size=input_size, readers=run.readers):
        assert not block.error
        parts[block.clip].append(block.depth.values)
    return [np.concatenate(values) for values in parts]


@pytest.mark.parametrize("case", CASES)
def test_depth_equals_the_reference(golden, vits, vits_weights, case):
    frames, height, width, input_size = map(int, re.findall(r"\d+", case))
    network = vits
    if case.startswith("metric"):
        network = VideoDepth(CONFIGS["metric-vits"])
        network.load_state_dict(vits_weights)
    (depth,) = depth_of(
        network, [MemoryClip(recipe.clip(frames, height, width, seed=1))], input_size
    )
    reference = golden("infer_vits.npz")
    step = -(-height // reference[case].shape[1])
    bound = 1e-4 if case.startswith("rel") and frames > 25 else 1e-5
    assert np.abs(depth[:, ::step, ::step] - reference[case]).max() < bound
    exact = depth.astype(np.float64)
    statistics = [getattr(exact, name)((1, 2)) for name in ("mean", "std", "min", "max")]
    assert np.abs(np.stack(statistics, -1) - reference[f"{case}_stats"]).max() < bound
