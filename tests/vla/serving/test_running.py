"""How a policy runs: precision, sampler, and several observations in one pass."""

from contextlib import suppress

import numpy as np
import pytest
import torch

from depthtok.errors import ConfigError
from vla.data.normalise import Norms, Scale
from vla.serving import rows
from vla.serving.policy import Policy, load_model
from vla.serving.running import Running
from vla.training import checkpoint

CPU = torch.device("cpu")
NAMES = ("main", "wrist", "third")


def observation(seed, cameras=2):
    dice = np.random.default_rng(seed)
    return {
        "images": {n: dice.integers(0, 256, (30, 40, 3), np.uint8) for n in NAMES[:cameras]},
        "proprio": dice.normal(size=8).astype("f4"),
        "instruction": "open the drawer"[: 4 + seed],
    }


def test_float32_is_the_plain_model_to_the_byte(served):
    policy = Policy.load(served)
    assert policy.running.told() == {"precision": "float32", "sampler": "plain", "batch": 1}
    noise = torch.randn(1, 4, 7, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        sampled = load_model(checkpoint.find(served)).sample(
            policy.observe([observation(1)]), noise
        )
    assert (policy.act(observation(1)) == policy.norms.action.undo(sampled[0].numpy())).all()


def test_bfloat16_is_cast_once_and_acts_nearly_the_same(served):
    fine, half = Policy.load(served), Policy.load(served, precision="bfloat16")
    assert half.running.told() == {"precision": "bfloat16", "sampler": "folded", "batch": 1}
    assert half.model.vlm.layers[0].qkv.weight.dtype == torch.bfloat16
    a, b = fine.act(observation(2)), half.act(observation(2))
    assert b.dtype == np.float32
    scale = np.array(fine.norms.action.high) - np.array(fine.norms.action.low)
    assert 0 < (np.abs(a - b) / scale).max() < 0.03


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("sampler", ["plain", "folded"])
def test_each_precision_runs_on_each_path(served, precision, sampler):
    policy = Policy.load(served, precision=precision, sampler=sampler)
    assert policy.running.sampler == sampler
    np.testing.assert_allclose(
        policy.act(observation(0)), Policy.load(served).act(observation(0)), atol=0.2
    )


@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_tf32_is_as_said_and_what_others_set_returns(precision):
    cudnn = torch.backends.cudnn
    before = torch.get_float32_matmul_precision(), cudnn.allow_tf32
    try:
        torch.set_float32_matmul_precision("medium")
        cudnn.allow_tf32 = precision == "float32"
        with suppress(KeyError), Running(precision).arithmetic():
            inside = torch.get_float32_matmul_precision(), cudnn.allow_tf32
            raise KeyError
        assert inside == (("high", True) if precision == "tf32" else ("highest", False))
        assert torch.get_float32_matmul_precision() == "medium"
        assert cudnn.allow_tf32 is (precision == "float32")
    finally:
        torch.set_float32_matmul_precision(before[0])
        cudnn.allow_tf32 = before[1]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"precision": "tf32"}, "tf32 is for NVIDIA GPUs, not for cpu"),
        ({"precision": "bf16"}, "precision = 'bf16' is not known"),
        ({"sampler": "fast"}, "sampler = 'fast' is not known"),
        ({"batch": 0}, "batch = 0"),
        ({"batch": 1000}, "batch = 1000"),
    ],
)
def test_what_cannot_be_had_is_refused(micro, given, message):
    with pytest.raises(ConfigError, match=message):
        Running(**given).on(CPU, micro().model)


def test_what_is_left_open_is_decided_by_device_and_model(micro):
    cuda, two = torch.device("cuda:1"), {f"model__{e}__kv_heads": 2 for e in EXPERTS}
    assert Running("tf32").on(cuda, micro().model) == Running("tf32", "folded", True)
    assert Running().on(cuda, micro().model) == Running("float32", "plain", True)
    assert Running(cuda_graph=False).on(cuda, micro().model).cuda_graph is False
    assert Running().on(CPU, micro().model).cuda_graph is False
    assert Running("bfloat16").on(CPU, micro(**two).model).sampler == "plain"
    with pytest.raises(ConfigError, match="needs one key head, the model has 2"):
        Running(sampler="folded").on(CPU, micro(**two).model)


EXPERTS = ("vlm", "action", "depth_expert")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("cameras", [1, 2, 3])
def test_an_answer_does_not_depend_on_its_company(micro, codebook, precision, cameras):
    """1, 3 and all 5 observations in one pass, in other orders: the same bytes."""
    from vla.model.model import build

    config = micro(model__cameras=cameras, data__cameras=NAMES[:cameras])
    model = build(config.model, 0, torch.from_numpy(codebook.vectors))
    units = Norms(*(Scale((-1.0,) * n, (1.0,) * n) for n in (7, 8)))
    policy = Policy(model, config, units, running=Running(precision, batch=5))
    inputs = [policy.observe([observation(n, cameras)]) for n in range(5)]

    def ask(*numbers):
        dice = [torch.Generator().manual_seed(n) for n in numbers]
        return policy.acts([inputs[n] for n in numbers], dice)

    answers = ask(0, 1, 2, 3, 4)
    assert len({answer.tobytes() for answer in answers}) == 5
    for numbers in ((0,), (4,), (2, 0, 4), (4, 3, 2, 1, 0)):
        for number, answer_again in zip(numbers, ask(*numbers), strict=True):
            assert answer_again.tobytes() == answers[number].tobytes()
    alone = policy.act(observation(3, cameras), torch.Generator().manual_seed(3))
    assert alone.tobytes() == answers[3].tobytes()


@pytest.mark.parametrize("mixed", ["company", "place"])
def test_rows_that_depend_on_others_are_refused(micro, mixed):
    def function(images, text, valid, proprio, noise):
        if mixed == "company":
            return noise + 1e-6 * noise.mean(dim=0)
        return noise + 1e-6 * torch.arange(len(noise))[:, None, None]

    with pytest.raises(ConfigError, match="depend on their neighbours") as raised:
        rows.require_independent(function, micro().model, 4, CPU)
    assert "--batch 1" in raised.value.remedy
    rows.require_independent(lambda *tensors: tensors[-1] * 2, micro().model, 4, CPU)
