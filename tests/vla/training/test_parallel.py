"""Two ranks train as one process does, whole or sharded; their checkpoints are of one kind."""

import json
import socket
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from depthtok.errors import ConfigError, DepthtokError
from tests.vla import fakes
from vla.model.model import build
from vla.run_options import TrainingOptions
from vla.serving.policy import Policy
from vla.training import checkpoint
from vla.training.parallel import Ranks, _placed, launched, spread
from vla.training.train import train

OPTIONS = TrainingOptions(
    loader_threads=0, log_every=1, checkpoint_every=2, validate_every=2, resume=True
)
on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
OVER = {"train__steps": 4, "train__ema": 0.5, "train__warmup": 1}


# Other depth heads, and weights of another kind: DDP refuses those that no loss depends on.
HEADS = {
    "latents": {"model__depth__target": "latents"},
    "linear": {"model__depth__head": "linear"},
    "fast": {"train__fast": True, "train__precision": "bf16"},
    "linear-latents": {"model__depth__head": "linear", "model__depth__target": "latents"},
}


def run(out, options, stop_after=99, over=None, device="cpu"):
    """A run on the toy data; ends early after `stop_after` log lines."""
    config = fakes.micro(**OVER, **(over or {}))
    data, book, reports = fakes.toy(config), fakes.FakeCodebook(codes=16, dim=12), []
    train(
        config,
        data,
        out,
        options,
        codebook=book,
        validation=data,
        on_step=reports.append,
        should_stop=lambda: len(reports) >= stop_after,
        device=device,
    )


def worker(rank, folder):
    torch.set_num_threads(1)
    joined(folder, rank)
    first_refuses(folder, rank)
    for sharding in ("ddp", "fsdp"):
        options = replace(OPTIONS, sharding=sharding)
        run(folder / sharding, options, stop_after=2 if rank else 99)  # one rank's wish is enough
        run(folder / sharding, replace(options, micro_batch=1))
    for name, over in HEADS.items():
        run(folder / name, OPTIONS, over=over)
    dist.destroy_process_group()


def joined(folder, rank, count=2, backend="gloo", name="store", **more):
    """The process group of some ranks. Each has a store of its own: in a used one ranks would find
    addresses of those before, and wait for them."""
    store = dist.FileStore(str(folder / f"{name}-{count}-{backend}"), count)
    dist.init_process_group(backend, store=store, rank=rank, world_size=count, **more)


def world_of_one(rank, folder, backend, device):
    """A run for each sharding, in a group of this process alone."""
    torch.set_num_threads(1)
    own_device = torch.device(device)
    joined(folder, rank, 1, backend, **({"device_id": own_device} if backend == "nccl" else {}))
    for sharding in ("ddp", "fsdp"):
        run(folder / f"{sharding}-of-one", replace(OPTIONS, sharding=sharding), device=device)
    dist.destroy_process_group()


def two_on_a_gpu(rank, folder):
    """Two ranks whose tensors lie on one GPU, which NCCL refuses."""
    torch.cuda.set_device(0)
    joined(folder, rank, name="of-a-gpu")
    run(folder / "ddp-on-cuda", OPTIONS, device="cuda:0")
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
    alike(folder / sharding, folder / "one")


def alike(one, other, tolerance=2e-4):
    """Two runs that differ by rounding at most."""
    lines, expected = read(one), read(other)
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    for line, wanted in zip(lines, expected, strict=True):
        for name in ("loss", "flow", "depth", "grad_norm"):
            assert line[name] == pytest.approx(wanted[name], rel=tolerance), name
        assert line.keys() - {"mfu"} == wanted.keys() - {"mfu"}
    last = "checkpoints/step-000004"
    for kind in ("model", "average", "optimizer"):
        a, b = (checkpoint.read_tensors(run / last, kind) for run in (one, other))
        assert a.keys() == b.keys()
        assert max((a[n].float() - b[n].float()).abs().max() for n in a) < 2e-3


@pytest.fixture(scope="module")
def of_one(folder):
    mp.spawn(world_of_one, (folder, "gloo", "cpu"), nprocs=1)
    return folder


@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
def test_a_world_of_one_is_wrapped_and_trains_as_without(of_one, sharding):
    alike(of_one / f"{sharding}-of-one", of_one / "one", 1e-6)


def test_a_world_of_one_is_sharded(tmp_path):
    joined(tmp_path, 0, 1)
    try:
        models = [build(fakes.micro().model, 0) for _ in range(2)]
        wrapped = [spread(m, Ranks.here(), h) for m, h in zip(models, ("ddp", "fsdp"), strict=True)]
    finally:
        dist.destroy_process_group()
    assert isinstance(wrapped[0], DistributedDataParallel)
    assert isinstance(wrapped[1], FSDPModule)
    assert (
        wrapped[1].projector.weight.device_mesh.device_type == "cpu"
    )  # whatever else the machine has
    alone = torch.nn.Linear(2, 2)
    assert spread(alone, Ranks.here(), "fsdp") is alone


@on_cuda
def test_one_rank_over_nccl(folder):
    mp.spawn(world_of_one, (folder, "nccl", "cuda:0"), nprocs=1)
    for sharding in ("ddp", "fsdp"):
        alike(folder / f"{sharding}-of-one", folder / "one")


@on_cuda
def test_two_ranks_on_one_gpu_over_gloo(folder):
    mp.spawn(two_on_a_gpu, (folder,), nprocs=2)
    alike(folder / "ddp-on-cuda", folder / "one")


class OnGpu(torch.nn.Linear):
    """A layer that says it lies on a GPU."""

    def parameters(self, recurse=True):
        yield SimpleNamespace(device=torch.device("cuda"))


def test_processes_that_share_a_gpu_shard_no_model(tmp_path):
    joined(tmp_path, 0, 1)
    try:
        with pytest.raises(ConfigError, match="share a GPU") as refused:
            spread(OnGpu(2, 2), Ranks.here(), "fsdp")
    finally:
        dist.destroy_process_group()
    assert "one process for each GPU" in refused.value.remedy


@pytest.mark.parametrize(
    ("device", "gpus", "local", "own", "placed"),
    [
        ("cpu", 0, 1, 2, ("cpu", "gloo")),
        ("cuda", 8, 3, 8, ("cuda:3", "nccl")),
        ("cuda", 1, 1, 2, ("cuda:0", "gloo")),
        ("cuda:1", 2, 0, 1, ("cuda:1", "nccl")),
        ("cuda:1", 2, 1, 2, ("cuda:1", "gloo")),
    ],
)
def test_ranks_have_gpus_of_their_own_where_there_are_enough(
    device, gpus, local, own, placed, monkeypatch, capsys
):
    for name, value in (("LOCAL_RANK", local), ("LOCAL_WORLD_SIZE", own), ("RANK", 0)):
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert _placed(device, gpus) == placed
    assert ("through gloo" in capsys.readouterr().err) == (
        placed[0] != "cpu" and placed[1] == "gloo"
    )


def test_ranks_on_ray_see_their_own_gpu_alone(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    for name, value in (("LOCAL_RANK", "0"), ("LOCAL_WORLD_SIZE", "8")):
        monkeypatch.setenv(name, value)
    assert _placed("cuda", 1) == ("cuda:0", "nccl")


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@pytest.mark.parametrize("alone", [True, False])
def test_a_master_alone_makes_no_ranks(alone, monkeypatch):
    """Job scripts export one for everything; Kubeflow starts one process without LOCAL_RANK."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    names = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    names |= {} if alone else {"RANK": "0", "WORLD_SIZE": "1"}
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    with launched("cpu") as (ranks, device):
        assert (ranks, device, dist.is_initialized()) == (Ranks(), "cpu", not alone)
    assert _placed("cuda", 8) == ("cuda:0", "nccl")


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


def test_rows():
    assert Ranks(1, 4).rows(8) == slice(2, 4)
    with pytest.raises(ConfigError, match="does not divide"):
        Ranks(0, 3).rows(8)
