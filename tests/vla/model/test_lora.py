"""Adapters: neutral at first, the only thing that trains of what is pretrained, mergeable."""

import torch
from safetensors.torch import load_file

from tests.vla import fakes
from tests.vla.model.test_model import draws, observation
from vla.model import lora
from vla.model.model import build
from vla.run_options import TrainingOptions
from vla.serving.policy import Policy
from vla.training import checkpoint, optim
from vla.training.train import train
from vla.weights.pretrained import pretrained

QUIET = TrainingOptions(loader_threads=0, log_every=1)


def test_new_adapters_change_nothing_and_merge_exactly(micro, codebook):
    config = micro().model
    model = build(config, 0, torch.from_numpy(codebook.vectors)).double()
    inputs, (noise, _) = observation(config), draws(config)
    inputs = type(inputs)(**{**vars(inputs), "proprio_BP": inputs.proprio_BP.double()})
    names = set(model.state_dict())
    with torch.no_grad():
        plain = model.sample(inputs, noise.double())
        lora.add(model, 4, 8.0, seed=0)
        assert torch.equal(model.sample(inputs, noise.double()), plain)
        for name, weight in model.named_parameters():
            if "lora_up" in name:
                weight.normal_(0, 0.3)
        adapted = model.sample(inputs, noise.double())
        lora.merge(model)
        merged = model.sample(inputs, noise.double())
    assert (adapted - plain).abs().max() > 1e-3
    assert torch.allclose(adapted, merged, atol=1e-10)
    assert set(model.state_dict()) == names


def test_what_trains(micro):
    config = micro(train__lora_rank=2)
    model = build(config.model, 0)
    lora.add(model, 2, 4.0, seed=0)
    optim.freeze(model, config.train)
    names = optim.trained(model)
    frozen = [n for n in names if n.split(".")[0] in optim.PRETRAINED]
    assert frozen
    assert all("lora_" in name for name in frozen)
    assert any(name.startswith("action.layers") for name in names)
    assert not any(name.startswith("vlm.layers.1.down") for name in names)


def test_a_run_resumes_and_acts(micro, toy, codebook, tmp_path):
    config = micro(train__lora_rank=2, train__steps=4, train__lr=1e-2)
    data, reports = toy(config), []
    for out, stop in (("a", 99), ("b", 2)):
        train(
            config,
            data,
            tmp_path / out,
            QUIET,
            codebook=codebook,
            on_step=reports.append,
            should_stop=lambda stop=stop: len(reports) >= stop,
        )
        reports.clear()
    train(config, data, tmp_path / "b", QUIET, codebook=codebook)
    a, b = (checkpoint.find(tmp_path / out) / "model.safetensors" for out in "ab")
    a, b = load_file(a), load_file(b)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert any(a[name].abs().max() > 0 for name in a if "lora_up" in name)
    fresh = build(config.model, config.train.seed).state_dict()
    assert torch.equal(a["vlm.layers.0.qkv.weight"], fresh["vlm.layers.0.qkv.weight"])

    merged = pretrained(str(tmp_path / "a"), config.model)
    train(config, data, tmp_path / "c", QUIET, codebook=codebook, weights=merged)

    policy = Policy.load(tmp_path / "a")
    assert not any("lora" in name for name in policy.model.state_dict())
    image = fakes.FakeEpisodes().episode(0).images
    sample = {"images": {n: image[n][0] for n in image}, "proprio": [0.0] * 8, "instruction": "go"}
    assert policy.act(sample).shape == (4, 7)
