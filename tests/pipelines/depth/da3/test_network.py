"""The networks against reference outputs made with the official implementation in float32."""

import re

import numpy as np
import pytest
import torch

from pipelines.depth.da3.network import DA3
from pipelines.depth.da3.rope import grid_positions, turn_of, turned
from pipelines.depth.da3.weights import LEFT_OUT
from tests.pipelines.depth.da3.conftest import NETWORKS
from tests.pipelines.depth.vida import recipe

CASES = [
    ("mono-vits", "70x70", 1),
    ("mono-vits", "98x56", 1),
    ("mono-vits", "518x518", 1),
    ("mono-vits", "batch3_70x56", 3),
    ("mono-vits", "70x98_shrink", 1),
    ("small", "s1_70x70", 1),
    ("small", "s1_98x56", 1),
    ("small", "s1_70x98_shrink", 1),
    ("base", "s1_42x56", 1),
    ("mono-large", "56x42", 1),
]


def images(case, count):
    height, width = map(int, re.search(r"(\d+)x(\d+)", case).groups())
    return torch.from_numpy(recipe.normalise(recipe.clip(count, height, width, seed=1)))


def off(values, expected):
    """The largest difference at the pixels that the reference keeps."""
    stride = -(-values.shape[1] // expected.shape[-2])
    return np.abs(values[:, ::stride, ::stride].reshape(expected.shape) - expected).max()


@pytest.mark.parametrize(("name", "case", "count"), CASES)
def test_forward_equals_the_reference(golden, network_of, name, case, count):
    network = network_of(name, shrink="shrink" in case)
    with torch.inference_mode():
        depth, second = (values.numpy() for values in network(images(case, count)))
    expected = golden(f"da3_forward_{name}.npz")
    assert off(np.log(depth), np.log(expected[f"{case}_depth"])) < 1e-5
    if name.startswith("mono"):
        assert off(second, expected[f"{case}_sky"]) < 1e-5
    elif f"{case}_conf" in expected:
        assert off(np.log(second), np.log(expected[f"{case}_conf"])) < 1e-5


@pytest.mark.parametrize("family", ["mono", "small"])
def test_taps_are_those_of_the_reference(golden, network_of, family):
    network = network_of("small" if family == "small" else "mono-vits")
    with torch.inference_mode():
        taps = network.backbone["pretrained"](images("70x70", 1))
    for number, tap in enumerate(taps):
        expected = golden("da3_stages.npz")[f"{family}_tap{number}"]
        assert np.abs(tap[0].numpy() - expected).max() < 2e-5


@pytest.mark.parametrize("name", list(NETWORKS))
def test_state_dict_has_the_official_keys(golden, name):
    with torch.device("meta"):
        network = DA3(NETWORKS[name])
    schema = {k.removeprefix("model."): v for k, v in golden(f"schema_da3_{name}.json").items()}
    ours = {key: list(value.shape) for key, value in network.state_dict().items()}
    wanted = {key: shape for key, shape in schema.items() if not LEFT_OUT.fullmatch(key)}
    assert ours == wanted
    assert (len(ours) == 269) == network.config.views
    parameters = sum(int(np.prod(shape)) for shape in ours.values())
    millions = {"small": 25.0, "base": 98.3, "mono-large": 334.171394, "mono-vits": 24.720130}
    assert parameters / 1e6 == pytest.approx(millions[name], abs=0.06)


@pytest.mark.parametrize("size", [(14, 14), (28, 14), (42, 98)])
@pytest.mark.parametrize("name", ["mono-vits", "small"])
def test_an_image_of_a_batch_has_the_depth_that_it_has_alone(network_of, name, size):
    network = network_of(name)
    generator = torch.Generator().manual_seed(7)
    batch = torch.randn(3, 3, *size, generator=generator)
    with torch.inference_mode():
        together, alone = network(batch)[0], network(batch[1:2])[0]
    assert torch.isfinite(together).all()
    torch.testing.assert_close(together[1:2].log(), alone.log(), rtol=0, atol=2e-6)


def test_turns_keep_lengths_and_see_differences_of_place_only():
    positions = grid_positions(3, 2, torch.device("cpu"))
    assert positions.tolist()[:3] == [[0, 0], [1, 1], [1, 2]]
    x = torch.randn(1, 1, 7, 16, generator=torch.Generator().manual_seed(0))
    same = x[:, :, :1].expand(-1, -1, 7, -1)
    there, moved = (turned(same, turn_of(positions + by, 16)) for by in (0.0, 5.0))
    torch.testing.assert_close(there.norm(dim=-1), same.norm(dim=-1))
    torch.testing.assert_close(there @ there.mT, moved @ moved.mT, rtol=1e-4, atol=1e-4)
