"""Two gloo ranks that see different data hold the same codebook and networks, bit by bit."""

from __future__ import annotations

import socket
from pathlib import Path

import torch
from torch import distributed as dist
from torch import multiprocessing

from depthtok.normalisation import Normalisation
from tests.vqvae.synthetic import SIZE, scenes, tiny
from vqvae.config import QuantizerConfig
from vqvae.data.clips import ClipSource
from vqvae.data.frames import DepthCache
from vqvae.model.quantizer import build
from vqvae.training.train import TokeniserTrainer


def _rank(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    draw = torch.Generator().manual_seed(rank)  # each rank has data of its own
    quantizer = build(QuantizerConfig(codes=32, decay=0.8), 16, seed=0)
    quantizer.initialise(torch.randn(200, 16, generator=draw), seed=0)
    for step in range(12):
        z = torch.randn(100, 16, generator=draw) * (0.2 if step < 8 else 3.0)
        quantizer.update(z, quantizer.codes(z))
    cache = DepthCache.build(Path(folder), *_data(), Normalisation(), SIZE, 0)
    trainer = TokeniserTrainer(tiny(8), cache, "cpu")
    figures = [trainer.advance() for _ in range(8)]
    states = {"quantizer": quantizer.state_dict(), "model": trainer.model.state_dict()}
    torch.save(
        {**states, "loss": torch.tensor([f["loss"] for f in figures])}, f"{folder}/{rank}.pt"
    )
    dist.destroy_process_group()


def _data() -> tuple[list[ClipSource]]:
    return ([ClipSource("synthetic", "f0", scenes(4))],)


def test_two_ranks_hold_equal_codebooks(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    alone = TokeniserTrainer(
        tiny(8), DepthCache.build(tmp_path, *_data(), Normalisation(), SIZE, 0), "cpu"
    )
    multiprocessing.spawn(_rank, args=(port, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first["quantizer"]["step"] == 12
    assert not torch.equal(first["loss"], second["loss"])  # each saw crops of its own
    for part in ("quantizer", "model"):
        for name, value in first[part].items():
            assert torch.equal(value, second[part][name]), name
    # The first steps, before codes are placed, are those of one process with the whole batch.
    figures = [alone.advance() for _ in range(2)]
    both = (first["loss"] + second["loss"]) / 2
    torch.testing.assert_close(both[:2], torch.tensor([f["loss"] for f in figures]))
