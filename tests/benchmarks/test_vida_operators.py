"""The counter of operators and bytes, and the limits that Video-Depth-Anything keeps."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "vida_operators.py"


@pytest.fixture(scope="module")
def counter():
    spec = importlib.util.spec_from_file_location("vida_operators", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look there
    spec.loader.exec_module(module)
    return module


def test_operators_bytes_and_flops_of_a_small_network(counter):
    x = torch.empty(4, 6, device="meta", dtype=torch.float16)
    layer = torch.nn.Linear(6, 5, device="meta", dtype=torch.float16)
    with torch.no_grad(), counter.counting() as counted:
        y = functional.relu(layer(x)).float()
        y.expand(3, 4, 5).transpose(0, 1)  # views are free
        q = x.view(1, 2, 2, 6)
        functional.scaled_dot_product_attention(q, q, q)
    product, relu, cast = 2 * (24 + 30 + 5 + 20), 2 * 40, (2 + 4) * 20
    attention = 2 * 4 * 24
    assert {
        name: (cost.operators, cost.bytes, cost.flops) for name, cost in counted.tally.rows.items()
    } == {
        "addmm float16": (1, product, 2 * 4 * 6 * 5),
        "relu float16": (1, relu, 0),
        "_to_copy float16 -> float32": (1, cast, 0),
        "attention of 2, 6 wide float16": (1, attention, 4 * 24 * 2),
    }
    assert counted.tally.casts.operators == 1
    assert counted.tally.times(3).total.bytes == 3 * (product + relu + cast + attention)


def test_a_repeated_value_counts_once(counter):
    assert counter.held(torch.empty(1, 7, 1).expand(3, 7, 5)) == 28
    assert counter.held(torch.empty(3, 7)) == 84


@pytest.mark.parametrize(
    ("network", "operators", "gigabytes"), [("vits", 8_400, 460), ("vitl", 13_200, 2_050)]
)
def test_a_batch_keeps_its_limits(counter, network, operators, gigabytes):
    batch, tally = counter.count(network, 518, "float16")
    assert (batch.frames, batch.encode, batch.mix, batch.decode) == (346, 33, 16, 32)
    assert tally.total.operators <= operators
    assert tally.total.bytes <= gigabytes * 10**9
    casts = [name for name in tally.rows if name.startswith("_to_copy")]
    assert casts == ["_to_copy float32 -> float16"]  # images and the residual stream's norms


def test_no_weight_is_cast(counter):
    """A cast per norm of the residual stream (2 a block, 4 taps), and one of the images."""
    batch, tally = counter.count("vits", 518, "bfloat16")
    assert tally.casts.operators == batch.encode * (2 * 12 + 4 + 1)
