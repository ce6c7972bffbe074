"""What Video-Depth-Anything asks of a GPU, counted without one: operators, bytes, casts, FLOPs.

The network runs on tensors without memory, in the precision and the groups of a GPU. An operator is
a launch at least (the bias of a convolution is another); its bytes are what it reads and writes.
Times are those at the ceilings of an H200, 4.27 TB/s and 790 TFLOP/s: no kernel is faster.

    python benchmarks/vida_operators.py --network vits vitl
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice, repeat

import torch
from launches import Launching, held, tensors
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import flop_registry

from pipelines.depth.vida.config import CONFIGS, WINDOW, RunConfig
from pipelines.depth.vida.halved import halved
from pipelines.depth.vida.network import VideoDepth
from pipelines.depth.vida.runner import MOST_WINDOWS, Groups
from pipelines.depth.windows.plan import Window, plan

BYTES_PER_S, FLOPS_PER_S = 4.27e12, 790e12
CLIP = 150  # frames per clip


@dataclass(frozen=True)
class Cost:
    """Of some operators."""

    operators: int = 0
    bytes: int = 0
    flops: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.operators + other.operators,
            self.bytes + other.bytes,
            self.flops + other.flops,
        )

    def times(self, count: int) -> Cost:
        return Cost(count * self.operators, count * self.bytes, count * self.flops)


@dataclass
class Tally:
    """The cost of everything, by operator with the dtypes it reads and writes."""

    rows: dict[str, Cost] = field(default_factory=dict)

    def add(self, name: str, inputs: list[Tensor], outputs: list[Tensor], flops: int = 0) -> None:
        names = [",".join(sorted(dtypes(side))) for side in (inputs, outputs)]
        key = f"{name} {' -> '.join(dict.fromkeys(names))}"
        cost = Cost(1, sum(map(held, inputs)) + sum(map(held, outputs)), flops)
        self.rows[key] = self.rows.get(key, Cost()) + cost

    def times(self, count: int) -> Tally:
        return Tally({name: cost.times(count) for name, cost in self.rows.items()})

    def __add__(self, other: Tally) -> Tally:
        rows = dict(self.rows)
        for name, cost in other.rows.items():
            rows[name] = rows.get(name, Cost()) + cost
        return Tally(rows)

    @property
    def total(self) -> Cost:
        return sum(self.rows.values(), Cost())

    @property
    def casts(self) -> Cost:
        return sum((c for name, c in self.rows.items() if name.startswith("_to_copy")), Cost())


def dtypes(tensors: list[Tensor]) -> set[str]:
    return {str(it.dtype).removeprefix("torch.") for it in tensors if it.is_floating_point()}


class Counter(Launching):
    """Counts every operator that runs within it."""

    def __init__(self) -> None:
        super().__init__()
        self.tally = Tally()

    def launch(self, name: str, operator, args: tuple, kwargs: dict, result: Tensor) -> Tensor:
        """One operator, and its FLOPs."""
        if name == "convolution":  # as cuDNN does with channels-last weights
            result = result.contiguous(memory_format=torch.channels_last)
        count = flop_registry.get(operator.overloadpacket)
        flops = count(*args, **kwargs, out_val=result) if count and name != "mm" else 0
        if name == "mm":
            flops = 2 * args[0].shape[0] * args[0].shape[1] * args[1].shape[1]
        self.tally.add(name, tensors((args, kwargs)), tensors(result), flops)
        return result


@contextmanager
def counting() -> Iterator[Counter]:
    """Counts what runs; attention as the one operator that it is on a GPU."""
    attention, counter = functional.scaled_dot_product_attention, Counter()

    def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        length, width = q.shape[2:]
        name = f"attention of {length}, {width} wide"
        counter.tally.add(name, [q, k, v], [q], 4 * q.numel() * k.shape[2])
        return q.new_empty(q.transpose(1, 2).shape).transpose(1, 2)

    functional.scaled_dot_product_attention = fused
    try:
        with counter:
            yield counter
    finally:
        functional.scaled_dot_product_attention = attention


@dataclass(frozen=True)
class Batch:
    """A batch of windows of clips of 150 frames: how often each part of the network runs."""

    frames: int  # that it finishes
    encode: int
    mix: int
    decode: int

    @classmethod
    def of(cls, windows: list[Window], groups: Groups) -> Batch:
        return cls(
            frames=sum(stop - start for start, stop in (window.final for window in windows)),
            encode=sum(
                -((first - last) // groups.encode)
                for first, last in (window.fresh for window in windows)
            ),
            mix=len(windows),
            decode=sum(-(-len(window.needed) // groups.decode) for window in windows),
        )


def count(name: str, side: int, precision: str) -> tuple[Batch, Tally]:
    """A batch of a network, and what it costs."""
    config = CONFIGS[name]
    run = RunConfig(input_size=side, precision=precision).resolved(config, "cuda")
    dtype = getattr(torch, run.precision)
    groups = Groups.of(torch.device("cuda"), (side, side))
    endless = chain.from_iterable(plan(CLIP, align=not config.metric) for _ in repeat(None))
    batch = Batch.of(list(islice(endless, MOST_WINDOWS)), groups)
    with torch.device("meta"):
        network = VideoDepth(config).eval().requires_grad_(False)
    network = network.to(memory_format=torch.channels_last)
    if dtype is not torch.float32:
        network = halved(network, dtype)
    return batch, _counted(network, batch, groups, side)


def _counted(network: VideoDepth, batch: Batch, groups: Groups, side: int) -> Tally:
    total = Tally()

    def run(part: Callable[..., object], times: int, *inputs: Tensor) -> object:
        nonlocal total
        with torch.no_grad(), counting() as counter:
            out = part(*inputs)
        total += counter.tally.times(times)
        return out

    images = torch.empty(groups.encode, 3, side, side, device="meta")
    levels = run(network.encode, batch.encode, images)
    coarse = (rows(it, WINDOW)[None] for it in levels[2:])
    mixed = run(network.head.mix, batch.mix, *coarse)
    path3 = rows(mixed.flatten(0, 1), groups.decode)
    fine = (rows(it, groups.decode) for it in levels[:2])
    run(network.head.decode, batch.decode, path3, *fine)
    return total


def rows(tensor: Tensor, count: int) -> Tensor:
    """So many rows of it, as the runner picks them: in the same layout."""
    return tensor[torch.zeros(count, dtype=torch.long, device=tensor.device)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--network", nargs="+", default=["vits", "vitl"], choices=list(CONFIGS))
    parser.add_argument("--size", type=int, default=518, help="input size, px")
    parser.add_argument("--precision", default="float16")
    parser.add_argument("--rows", type=int, default=12, help="operators to list, by bytes")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    for name in options.network:
        batch, tally = count(name, options.size, options.precision)
        total, casts = tally.total, tally.casts
        if options.json:
            figures = {"network": name, "frames": batch.frames, "casts": casts.operators}
            print(json.dumps(figures | vars(total)))
            continue
        print(
            f"{name} {options.size} px {options.precision}, {batch.frames} frames: "
            f"{total.operators:,} operators "
            f"({casts.operators:,} casts, {casts.bytes / 1e9:.0f} GB), "
            f"{total.bytes / 1e9:.0f} GB, {total.flops / 1e12:.1f} TFLOP"
        )
        for row, cost in sorted(tally.rows.items(), key=lambda it: -it[1].bytes)[: options.rows]:
            print(
                f"  {cost.operators:6,}x {cost.bytes / 1e9:8.1f} GB "
                f"{1e3 * cost.bytes / BYTES_PER_S:7.1f} ms, {cost.flops / 1e12:7.2f} TFLOP "
                f"{1e3 * cost.flops / FLOPS_PER_S:7.1f} ms  {row}"
            )


if __name__ == "__main__":
    main()
