"""train-vla --plan: the memory of a training, and which passes fit; not a command itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vla.config import Config
from vla.run_options import TrainingOptions
from vla.training.device_memory import CARDS, GIB, USABLE, Memory


@dataclass(frozen=True)
class MemoryPlan:
    """What a process needs for passes of `samples`, and the devices it is compared with, in GiB."""

    memory: Memory
    samples: int
    passes: int
    devices: dict[str, float]
    compiled: bool

    def lines(self) -> list[str]:
        """For people."""
        memory, gib = self.memory, self.memory.peak(self.samples, self.passes) / GIB
        parts = {
            "weights": memory.weights,
            "moments": memory.moments,
            "average": memory.average,
            "gradients": memory.gradients,
            "weights in half precision": memory.casts,
            f"activations, {self.samples} a pass": memory.per_sample * self.samples,
        }
        shares = ", ".join(f"{name} {size / GIB:.3g}" for name, size in parts.items() if size)
        passes = f"{self.passes} passes" if self.passes > 1 else "one pass"
        lines = [f"memory of a GPU, GiB: {shares}", f"at its peak {gib:.3g}, in {passes} an update"]
        if self.compiled:
            lines.append("counted without run.compile, which keeps less")
        for name, size in self.devices.items():
            most, room = memory.fits(size, self.passes), USABLE * size
            fits = "fits" if gib <= room else "does NOT fit"
            lines.append(f"{name} ({size:.3g} GiB): {fits}; at most {most} samples a pass")
        if any(memory.fits(size, self.passes) < self.samples for size in self.devices.values()):
            lines.append(
                "less memory: --set run.micro_batch=N, run.compile=true with run.activations=0.5, "
                "run.recompute=true, train.optimizer=adamw8bit, run.sharding=fsdp on several GPUs"
            )
        return lines

    def to_json(self) -> dict[str, Any]:
        """For programs: bytes."""
        fits = {name: self.memory.fits(size, self.passes) for name, size in self.devices.items()}
        peak = self.memory.peak(self.samples, self.passes)
        about = {"samples": self.samples, "passes": self.passes}
        return {**vars(self.memory), **about, "peak": peak, "largest_pass": fits}


def of(config: Config, options: TrainingOptions, ranks: int) -> MemoryPlan:
    """The plan of a training on `ranks` processes (0: those of torchrun, or one)."""
    import torch

    from depthtok.launch import world_size
    from vla.training.memory import needed
    from vla.training.parallel import Ranks

    count = ranks or world_size() or 1
    rows = Ranks(0, count).rows(config.train.batch)
    share = rows.stop - rows.start
    samples = min(options.micro_batch or share, share)
    shards = count if options.sharding == "fsdp" else 1
    memory = needed(config, recompute=options.recompute, shards=shards)
    devices = CARDS
    if torch.cuda.is_available():
        about = torch.cuda.get_device_properties(0)
        devices = {about.name: about.total_memory / GIB}
    return MemoryPlan(memory, samples, -(-share // samples), dict(devices), options.compile)
