"""Two gloo ranks that see different data hold the same codebook, bit by bit."""

from __future__ import annotations

import socket

import torch
from torch import distributed as dist
from torch import multiprocessing

from vqvae.config import QuantizerConfig
from vqvae.quantizer import build


def _rank(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    draw = torch.Generator().manual_seed(rank)  # each rank has data of its own
    quantizer = build(QuantizerConfig(codes=32, decay=0.8), 16, seed=0)
    quantizer.initialise(torch.randn(200, 16, generator=draw), seed=0)
    for step in range(12):
        z = torch.randn(100, 16, generator=draw) * (0.2 if step < 8 else 3.0)
        quantizer.update(z, quantizer.codes(z))
    torch.save(quantizer.state_dict(), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_hold_equal_codebooks(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(_rank, args=(port, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first["step"] == 12
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
