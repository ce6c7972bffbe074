"""Milliseconds per chunk of actions, from tensors on the device to actions on it.

    python benchmarks/policy_ms.py [--preset qdepth] [--device cuda] [--batch 1] [--json FILE]

Every precision that the device has, on the plain path and in few launches (`--sampler compiled`:
also compiled), eager and as a CUDA graph; with 1, 2 and 3 cameras, and without the depth expert;
random weights. Medians. `off` is the largest difference from the plain path in float32, in
normalised units, where that is among the ways asked for.

Floors: the larger of the bytes of the weights that a chunk must read, at the device's copy rate,
and its FLOPs, at its rate of large products; both are measured first, on the device itself.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from depthtok.errors import ConfigError
from vla.config import Config
from vla.data.normalise import Norms, Scale
from vla.data.tokenizer import ByteTokenizer
from vla.model.model import QDepthVLA, build
from vla.named_configs import load
from vla.serving import rows
from vla.serving.policy import Policy
from vla.serving.running import PRECISIONS, Running

SAMPLERS = ("plain", "folded", "compiled")
WAYS = list(product(PRECISIONS, SAMPLERS, (False, True)))  # the last: as a CUDA graph


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(call: Callable[[], object], device: torch.device, least: int = 3) -> float:
    """The median of some calls."""
    spent = []
    for _ in range(least + 1):  # the first one warms up
        wait(device)
        started = time.perf_counter()
        call()
        wait(device)
        spent.append(time.perf_counter() - started)
    return statistics.median(spent[1:])


class Ceilings:
    """What the device reaches: bytes and FLOPs a second."""

    def __init__(self, device: torch.device, small: bool) -> None:
        side, size = (512, 2**22) if small else (8192, 2**29)
        source = torch.empty(size, dtype=torch.uint8, device=device)
        target = torch.empty_like(source)
        self.bytes = 2 * size / seconds(lambda: target.copy_(source), device)
        self.flops = {}
        for precision in PRECISIONS:
            how = Running(precision)
            x = torch.randn(side, side, device=device, dtype=how.dtype)
            with how.arithmetic():
                self.flops[precision] = 2 * side**3 / seconds(lambda x=x: x @ x, device)

    def floor(self, model: QDepthVLA, config: Config, precision: str, batch: int) -> float:
        """ms per pass, at least. Experts after the prefix read their weights again at every Euler
        step; of the embedding a few rows are read."""
        size = 2 if precision == "bfloat16" else 4
        steps = config.model.flow.euler_steps
        counts = {
            n: sum(w.numel() for w in part.parameters()) for n, part in model.named_children()
        }
        again = steps * (counts.pop("action") + counts.pop("door"))
        for name in ("embed", "depth_head", *([] if config.model.action_sees_depth else ["depth"])):
            counts.pop(name, 0)
        moved = size * (again + sum(counts.values()))
        return 1000 * max(moved / self.bytes, batch * flops(config) / self.flops[precision])


def flops(config: Config) -> int:
    """Of one observation's chunk."""
    with torch.device("meta"):
        model = QDepthVLA(config.model)
        inputs = [tensor.to("meta") for tensor in rows.example(config.model, 1, 0)]
    policy = Policy(model, config, units(config), device="meta", reader=ByteTokenizer())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        policy._eager(*inputs)
    return counter.get_total_flops()


def units(config: Config) -> Norms:
    """No units: -1 to 1."""
    sizes = config.model.action_dim, config.model.proprio_dim
    return Norms(*(Scale((-1.0,) * n, (1.0,) * n) for n in sizes))


def made(config: Config, device: torch.device) -> QDepthVLA:
    """A model with random weights."""
    if device.type == "cpu":
        return build(config.model, 0)
    with torch.device("meta"):
        model = QDepthVLA(config.model)
    model.to_empty(device=device)
    torch.manual_seed(0)
    for weight in model.parameters():
        weight.data.normal_(0, weight.shape[-1] ** -0.5 if weight.dim() > 1 else 0.02)
    return model


def measure(
    config: Config, device: torch.device, ceilings: Ceilings, options: argparse.Namespace
) -> list[dict]:
    """A row for each way to run one model."""
    model = made(config, device)
    example = tuple(tensor.to(device) for tensor in rows.example(config.model, options.batch, 7))
    rows_measured, true = [], None
    for precision, sampler, graph in WAYS:
        if graph and device.type != "cuda":
            continue
        if precision not in options.precision or sampler not in options.sampler:
            continue
        row = {"precision": precision, "sampler": sampler, "graph": graph}
        try:
            how = Running(precision, sampler, graph, options.batch)
            policy = Policy(
                copy.deepcopy(model),
                config,
                units(config),
                device=device,
                running=how,
                reader=ByteTokenizer(),  # no text is read
            )
        except ConfigError as error:
            rows_measured.append({**row, "refused": str(error).splitlines()[0]})
            continue
        with torch.inference_mode(), how.arithmetic():
            actions: Tensor = policy._sample(*example).float()
            if (precision, sampler, graph) == WAYS[0]:
                true = actions
            row["off"] = None if true is None else float((actions - true).abs().max())
            spent = seconds(lambda p=policy: p._sample(*example), device, options.rounds)
        floor = ceilings.floor(model, config, precision, options.batch)
        rows_measured.append({**row, "ms": 1000 * spent, "floor_ms": floor})
        del policy
    return rows_measured


def told(row: dict) -> str:
    """A row for people."""
    graph = "graph" if row["graph"] else "eager"
    what = f"{row['model']:24} {row['cameras']} camera(s), batch {row['batch']}:"
    how = f"{row['precision']:9} {row['sampler']:8} {graph}"
    if "refused" in row:
        return f"{what} {how}  {row['refused']}"
    off = "" if row["off"] is None else f", off {row['off']:.1e}"
    return (
        f"{what} {how} {row['ms']:9.2f} ms, floor {row['floor_ms']:6.2f} ms "
        f"({row['floor_ms'] / row['ms']:.0%}){off}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="qdepth")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--cameras", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--precision", nargs="+", default=PRECISIONS, choices=PRECISIONS)
    parser.add_argument("--sampler", nargs="+", default=["plain", "folded"], choices=SAMPLERS)
    parser.add_argument("--json", type=Path, help="a file to append every row to, as it is found")
    options = parser.parse_args()
    device = torch.device(options.device)
    ceilings = Ceilings(device, small=device.type == "cpu")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    rates = ", ".join(f"{n} {r / 1e12:.2f}" for n, r in ceilings.flops.items())
    print(f"{name}, torch {torch.__version__}; {ceilings.bytes / 1e12:.3f} TB/s; TFLOP/s: {rates}")
    models = [("", n) for n in options.cameras] + [("+no-depth-expert", options.cameras[0])]
    for change, cameras in models:
        config = load(options.preset + change, {"model.cameras": cameras, "data.cameras": ()})
        about = {"model": options.preset + change, "cameras": cameras, "batch": options.batch}
        for row in measure(config, device, ceilings, options):
            print(told(about | row))
            if options.json:
                with options.json.open("a") as file:
                    file.write(json.dumps({**about, **row, "device": name}) + "\n")


if __name__ == "__main__":
    main()
