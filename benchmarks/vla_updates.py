"""Whole updates of QDepth-VLA on this machine, every way in every round, beside their floor.

    python benchmarks/vla_updates.py [--preset qdepth] [--batch 32 64] [--passes 1 4] [--json FILE]
    python benchmarks/vla_updates.py --count --preset qdepth --batch 32     # no weights, no GPU

Ways are eager and compiled layers, plain and `train.fast`; sizes are samples a pass, and passes an
update. All have the same weights, on which they take turns, so that load affects them alike. The
floor is the model's FLOPs at the rate of large products, measured first (an H200: 790 TFLOP/s). A
way that does not fit, or cannot be compiled, is said to.

`--count` counts the operators of one pass, forward and backward, and the bytes that they read and
write, on tensors without data under the CPU's autocast rules, plain and fast.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch
from launches import held
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from vla_step import example

from depthtok.errors import TrainingError
from vla.config import Config
from vla.model import model as models
from vla.model.batch import Batch
from vla.model.flops import forward_flops, meta_batch
from vla.model.model import QDepthVLA
from vla.named_configs import load
from vla.training import optim
from vla.training.parallel import Ranks, compile_layers
from vla.training.update import Update

VIEWS = {"detach", "empty", "empty_like", "empty_strided", "new_empty", "_unsafe_view"}


def made(config: Config, device: torch.device) -> QDepthVLA:
    """A model with weights drawn on its device."""
    with torch.device("meta"):
        model = QDepthVLA(config.model)
    model.to_empty(device=device)
    generator = torch.Generator(device).manual_seed(0)
    for module in model.modules():
        models._start(module, generator)
    depth = config.model.depth
    model.depth_head.log_scale.data.zero_()
    model.depth_head.set_codebook(torch.randn(depth.codes, depth.code_dim, device=device))
    optim.freeze(model, config.train)
    return model.train()


class Ways:
    """One model that computes in several ways."""

    def __init__(self, model: QDepthVLA, backend: str) -> None:
        self.model = model
        compile_layers(model, backend)
        self.compiled = {m: vars(m).pop("forward") for m in model.modules() if "forward" in vars(m)}

    def take(self, compiled: bool, fast: bool) -> None:
        """From now on the model computes so."""
        for module, forward in self.compiled.items():
            vars(module).pop("forward", None)
            if compiled:
                module.forward = forward
        for part in self.model.modules():
            if hasattr(part, "fast"):
                part.fast = fast


def waited(device: torch.device) -> float:
    """The time, when the device has nothing left to do."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def product_rate(device: torch.device) -> float:
    """FLOP/s of large products."""
    cuda = device.type == "cuda"
    n, dtype = (8192, torch.bfloat16) if cuda else (512, torch.float32)
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    spent = []
    for _ in range(10):
        started = waited(device)
        for _ in range(10):
            a @ b
        spent.append(waited(device) - started)
    return 10 * 2 * n**3 / statistics.median(spent)


def measured(config: Config, options: argparse.Namespace, device: torch.device) -> list[dict]:
    """A row for each way and size."""
    floor = product_rate(device) / (3 * forward_flops(config.model)["total"])
    model = made(config, device)
    ways, adam = Ways(model, options.backend), optim.optimizer(model, config.train)
    kinds = product(options.compiled, options.fast, options.batch, options.passes)
    rows = {
        kind: {"what": _words(options.preset, *kind), "unit": "samples/s", "floor": floor}
        for kind in kinds
    }
    spent: dict[tuple, list[float]] = {kind: [] for kind in rows}
    for round_ in range(options.rounds + 1):
        for (compiled, fast, batch, passes), row in rows.items():
            if "failed" in row:
                continue
            ways.take(compiled, fast)
            train = replace(config.train, batch=batch * passes, fast=bool(fast))
            update = Update(
                replace(config, train=train),
                model,
                model,
                optim.trained(model),
                adam,
                None,
                Ranks(),
                device,
                batch,
            )
            data = example(config, batch * passes).to(device)
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            try:
                if not round_:
                    update(data, 0)  # compiles
                started = waited(device)
                update(data, 1 + round_)
                spent[compiled, fast, batch, passes].append(waited(device) - started)
                if device.type == "cuda":
                    row["gib"] = torch.cuda.max_memory_allocated() / 2**30
            except (torch.OutOfMemoryError, TrainingError) as error:
                row["failed"] = str(error).splitlines()[0]
                for weight in model.parameters():
                    weight.grad = None
                gc.collect()
    for (*_, batch, passes), (kind, row) in zip(rows, rows.items(), strict=True):
        if "failed" not in row:
            row["figure"] = batch * passes / statistics.median(spent[kind][1:] or spent[kind])
    return list(rows.values())


def _words(preset: str, compiled: bool, fast: bool, batch: int, passes: int) -> str:
    how = f"{'compiled' if compiled else 'eager'}, {'fast' if fast else 'plain'}"
    return f"train-vla {preset}, {how}, batch {batch}" + (f" x {passes}" if passes > 1 else "")


class Counting(TorchDispatchMode):
    """Operators that are no views, and their bytes, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        output = operator(*args, **(kwargs or {}))
        name = operator._schema.name.removeprefix("aten::")
        if not (operator.is_view or name in VIEWS or name.startswith("prim::")):
            self.calls[name] += 1
            tensors = tree_leaves((args, kwargs or {}, output))
            self.bytes[name] += sum(held(t) for t in tensors if isinstance(t, torch.Tensor))
        return output


def counted(config: Config, batch: int, fast: bool, passes: int = 1) -> Counting:
    """What passes of an update take, with neither weights nor data."""
    train = replace(config.train, fast=fast, batch=batch * passes)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = QDepthVLA(config.model)
        optim.freeze(model, config.train)
        for part in model.modules():
            if hasattr(part, "fast"):
                part.fast = fast
        shapes = vars(meta_batch(config.model, batch))
        data = Batch(**{n: torch.empty(x.shape, dtype=x.dtype) for n, x in shapes.items()})
        noise = torch.empty(batch, config.model.chunk, config.model.action_dim)
        adam = optim.optimizer(model, config.train)
        update = Update(
            replace(config, train=train),
            model,
            model,
            optim.trained(model),
            adam,
            None,
            Ranks(),
            torch.device("cpu"),
            batch,
        )
        with Counting() as counting, update._cast():
            for _ in range(passes):
                with update.autocast():
                    losses = model(data, noise, torch.empty(batch))
                (losses.flow + losses.depth).backward()
    return counting


def show_counts(config: Config, options: argparse.Namespace) -> None:
    """One line for the whole, and those operators that differ."""
    for batch, passes in product(options.batch, options.passes):
        plain, fast = (counted(config, batch, fast, passes) for fast in (False, True))
        totals = [
            f"{c.calls.total():,} operators, {c.bytes.total() / 1e9:,.1f} GB" for c in (plain, fast)
        ]
        print(f"batch {batch} x {passes}: plain {totals[0]}; fast {totals[1]}")
        names = sorted(plain.calls | fast.calls, key=lambda n: fast.bytes[n] - plain.bytes[n])
        for name in names:
            if (plain.calls[name], plain.bytes[name]) != (fast.calls[name], fast.bytes[name]):
                calls = f"{plain.calls[name]:6} -> {fast.calls[name]:6}"
                sizes = [f"{c.bytes[name] / 1e9:.2f}" for c in (plain, fast)]
                print(f"  {name:56} {calls}   {sizes[0]:>8} -> {sizes[1]:>8} GB")


def main() -> None:
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="qdepth" if gpu else "tiny")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--batch", type=int, nargs="+", default=[32, 64] if gpu else [2])
    parser.add_argument("--passes", type=int, nargs="+", default=[1])
    parser.add_argument("--compiled", type=int, nargs="+", default=[0, 1] if gpu else [0])
    parser.add_argument("--fast", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--backend", default="inductor", help="of torch.compile")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", action="store_true", help="count operators instead")
    parser.add_argument("--json", help="a file to append every row to")
    options = parser.parse_args()
    settings = {key: json.loads(value) for key, value in (s.split("=", 1) for s in options.set)}
    config = load(options.preset, settings)
    if options.count:
        show_counts(config, options)
        return
    for row in measured(config, options, torch.device("cuda" if gpu else "cpu")):
        outcome = f"{row['figure']:.1f} samples/s" if "figure" in row else row["failed"]
        outcome += f", {row['gib']:.0f} GiB" if "gib" in row else ""
        print(f"{row['what']:60} {outcome}, floor {row['floor']:.1f}", flush=True)
        if options.json:
            with Path(options.json).open("a") as file:
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
