"""Two ranks train as one process does, whole or sharded; their checkpoints are of one kind."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from depthtok.errors import ConfigError, DepthtokError
from tests.vla import fakes
from tests.vla.test_model import draws, example
from vla import checkpoint
from vla.config import RunOptions
from vla.model import build
from vla.parallel import Ranks, compile_layers
from vla.policy import Policy
from vla.train import train

OPTIONS = RunOptions(workers=0, log_every=1, checkpoint_every=2, validate_every=2, resume=True)
OVER = {"train__steps": 4, "train__ema": 0.5, "train__warmup": 1}


# Other depth heads: DDP refuses weights that no loss depends on.
HEADS = {
    "latents": {"model__depth__target": "latents"},
    "linear": {"model__depth__head": "linear"},
    "linear-latents": {"model__depth__head": "linear", "model__depth__target": "latents"},
}


def run(out, options, stop_after=99, over=None):
    """A run on the toy data; ends early after `stop_after` log lines."""
    config = fakes.micro(**OVER, **(over or {}))
    data, book, seen = fakes.toy(config), fakes.FakeCodebook(codes=16, dim=12), []
    train(
        config, data, out, options, codebook=book, validation=data, on_step=seen.append,
        should_stop=lambda: len(seen) >= stop_after,
    )  # fmt: skip


def worker(rank, folder):
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "store"), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    first_refuses(folder, rank)
    for sharding in ("ddp", "fsdp"):
        options = replace(OPTIONS, sharding=sharding)
        run(folder / sharding, options, stop_after=2 if rank else 99)  # one rank's wish is enough
        run(folder / sharding, replace(options, micro_batch=1))
    for name, over in HEADS.items():
        run(folder / name, OPTIONS, over=over)
    dist.destroy_process_group()


def first_refuses(folder, rank):
    """The first rank is refused something that the others wait for."""
    try:
        with Ranks.here().first():
            if rank == 0:
                raise ConfigError("other grippers")
    except DepthtokError as error:
        (folder / f"refused-{rank}").write_text(error.problem)


def read(folder: Path):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("ranks")
    mp.spawn(worker, (path,), nprocs=2)
    run(path / "one", OPTIONS)
    return path


def test_what_the_first_rank_is_refused_all_are(folder):
    said = [(folder / f"refused-{rank}").read_text() for rank in (0, 1)]
    assert said == ["other grippers", "other grippers"]


@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
def test_two_ranks_equal_one(folder, sharding):
    lines, expected = read(folder / sharding), read(folder / "one")
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    for line, other in zip(lines, expected, strict=True):
        for name in ("loss", "flow", "depth", "grad_norm"):
            assert line[name] == pytest.approx(other[name], rel=2e-4), name
        assert line.keys() == other.keys()
    last = "checkpoints/step-000004"
    for kind in ("model", "average", "optimizer"):
        a = checkpoint.read_tensors(folder / sharding / last, kind)
        b = checkpoint.read_tensors(folder / "one" / last, kind)
        assert a.keys() == b.keys()
        assert max((a[n].float() - b[n].float()).abs().max() for n in a) < 2e-3


@pytest.mark.parametrize("head", HEADS)
def test_every_depth_head_trains_on_two_ranks(folder, head):
    lines = read(folder / head)
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert len({line["depth"] for line in lines}) == 4


def test_a_sharded_run_acts(folder):
    observation = {
        "images": dict.fromkeys(("main", "wrist"), torch.zeros(8, 8, 3, dtype=torch.uint8).numpy()),
        "proprio": [0.0] * 8,
        "instruction": "go",
    }
    assert Policy.load(folder / "fsdp").act(observation).shape == (4, 7)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # the compiler looks at it itself
def test_compiled_layers_compute_the_same(micro, codebook):
    config = micro().model
    batch, given = example(config), draws(config)
    losses = []
    for compiled in (False, True):
        model = build(config, 0, torch.from_numpy(codebook.vectors))
        if compiled:
            compile_layers(model, partial(torch.compile, backend="eager"))
        found = model(batch, *given)
        (found.flow + found.depth).backward()
        losses.append([found.flow.item(), model.vlm.layers[0].qkv.weight.grad.sum().item()])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_rows():
    assert Ranks(1, 4).rows(8) == slice(2, 4)
    with pytest.raises(ConfigError, match="does not divide"):
        Ranks(0, 3).rows(8)
