"""One update: losses, their gradient over micro-batches and ranks, the optimiser step.

Its noise and times follow from (seed, step) alone.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from depthtok.errors import TrainingError
from vla.config import Config
from vla.model import flow
from vla.model.batch import Batch
from vla.model.casts import cast_once
from vla.model.model import QDepthVLA
from vla.training import optim
from vla.training.compiling import explained
from vla.training.parallel import Ranks, sync_gradients
from vla.training.runlog import Line
from vla.training.validation import top1


@dataclass(frozen=True)
class Update:
    """Everything that an update reads or changes. `called` is the model wrapped for its ranks."""

    config: Config
    model: QDepthVLA
    called: nn.Module
    trained: dict[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    average: optim.MovingAverage | None
    ranks: Ranks
    device: torch.device
    micro_batch: int  # samples per pass; 0: all

    def __call__(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """One optimiser step on this rank's rows, in micro-batches. Returns this rank's part of the
        losses before the step."""
        config, rows = self.config.train, len(batch)
        share = self.ranks.rows(config.batch)
        noise, times = (x[share] for x in draws(self.config, step, self.device))
        counts = self.ranks.total(
            torch.stack([batch.action_valid_BC.sum(), batch.depth_valid_BM.sum()])
        ).clamp(min=1)
        optim.set_lr(self.optimizer, optim.lr_factor(config, step))
        self.optimizer.zero_grad(set_to_none=True)
        size = self.micro_batch or rows
        sums: dict[str, Tensor] = {}
        with self._cast():
            for start in range(0, rows, size):
                sync_gradients(self.called, start + size >= rows)
                part = batch.rows(start, start + size)
                draw = noise[start : start + size], times[start : start + size]
                for name, value in self._backward(part, step, *draw, *counts).items():
                    sums[name] = sums.get(name, 0) + value
        clip = self.config.train.clip or float("inf")
        norm = optim.clipped_step(self.optimizer, self.trained.values(), clip, self._plain_fast)
        if self.average:
            self.average.update(self.trained.values(), step)
        return {**sums, "grad_norm": norm / self.ranks.count}

    def _backward(
        self, part: Batch, step: int, noise: Tensor, times: Tensor, actions: Tensor, frames: Tensor
    ) -> dict[str, Tensor]:
        """Adds one micro-batch's gradient. Losses are weighted by the number of valid `actions`
        and `frames` in the global batch, so that all parts of all ranks sum to its mean."""
        config = self.config.train
        with self.autocast():
            losses = self.called(part, noise, times)
        sums = {"flow": losses.flow * part.action_valid_BC.sum() / actions}
        loss = sums["flow"]
        if self.config.model.depth.supervised:
            share = part.depth_valid_BM.sum() / frames
            sums["depth"] = losses.depth * share
            loss = loss + optim.depth_weight(config, step) * (losses.taught * share)
            if self.config.model.depth.target == "codes":
                sums["depth_top1"] = top1(losses.depth_predicted, part) * share
        with explained():
            (loss * self.ranks.count).backward()  # gradients are averaged over ranks
        return {"loss": loss.detach(), **{name: value.detach() for name, value in sums.items()}}

    def gradient_norms(self, batch: Batch, step: int) -> Line:
        """The norm of each loss's gradient at SigLIP on this rank's first micro-batch (the depth
        loss with its weight), and their ratio."""
        weights = [w for name, w in self.trained.items() if name.startswith("vision.")]
        if not weights or not self.config.model.depth.supervised:
            return {}
        size = self.micro_batch or len(batch)
        noise, times = (
            x[self.ranks.rows(self.config.train.batch)][:size]
            for x in draws(self.config, step, self.device)
        )
        weight = optim.depth_weight(self.config.train, step)
        norms = []
        for loss_of in (lambda losses: losses.flow, lambda losses: weight * losses.taught):
            # A pass for each: compiled ones go backward only once.
            with self._cast(), self.autocast():
                loss = loss_of(self.model(batch.rows(0, size), noise, times))
            grads = torch.autograd.grad(loss, weights, allow_unused=True)
            norms.append(torch.nn.utils.get_total_norm([g for g in grads if g is not None]).item())
        return {"grad_flow": norms[0], "grad_depth": norms[1], "grad_ratio": norms[1] / norms[0]}

    @property
    def _plain_fast(self) -> bool:
        """Whether weights are plain tensors, and to be treated as `train.fast` says."""
        return self.config.train.fast and not isinstance(self.called, FSDPModule)

    def _cast(self) -> AbstractContextManager:
        half = self.config.train.precision == "bf16" and self._plain_fast
        return cast_once(self.model, torch.bfloat16) if half else nullcontext()

    def autocast(self) -> torch.autocast:
        """Within what the model computes as `train.precision` says."""
        bf16 = self.config.train.precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16, bf16)


def require_finite(line: Line, step: int) -> None:
    """Raises `TrainingError` if loss or gradient is not finite, before broken weights are saved: a
    gradient breaks the weights one step before any loss shows it."""
    for name, what in (("loss", "loss"), ("grad_norm", "norm of the gradient")):
        if not math.isfinite(line[name]):
            raise TrainingError(
                f"the {what} is {line[name]} at step {step}",
                remedy="lower train.lr, or clip gradients (train.clip); earlier checkpoints "
                "are kept, and the same command resumes from them",
            )


def draws(config: Config, step: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Noise [B, C, A] and times [B] of a step's global batch, from (seed, step) alone."""
    entropy = np.random.SeedSequence((config.train.seed, step)).generate_state(1, np.uint64)
    generator = torch.Generator().manual_seed(int(entropy[0] >> 1))
    model, batch = config.model, config.train.batch
    noise = torch.randn(batch, model.chunk, model.action_dim, generator=generator)
    times = flow.sample_times(model.flow, batch, generator)
    return noise.to(device), times.to(device)
