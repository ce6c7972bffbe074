"""Optimisation: frozen parts, learning rates, schedules, the moving average."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from vla.config import Config, TrainConfig
from vla.model import lora
from vla.model.model import QDepthVLA
from vla.training import eightbit
from vla.training.parallel import sharded_like, whole

CLIP_EPS = 1e-6  # as torch's clip_grad_norm_
PRETRAINED = ("vision", "projector", "embed", "vlm")  # parts initialised from PaliGemma


def freeze(model: QDepthVLA, config: TrainConfig) -> None:
    """Turns off gradients for the chosen parts, and for the end of Gemma, whose output is unused.

    Later experts attend to the last layer's keys and values, but never use its queries or output.
    Queries and keys share one matrix here, so the queries' rows simply get no gradient.
    """
    if config.lora_rank:
        lora.freeze(model)
    for part in config.freeze:
        getattr(model, part).requires_grad_(False)
    last = model.vlm.layers[-1]
    for module in (last.out, last.mlp_norm, last.gate_up, last.down, model.vlm.norm):
        module.requires_grad_(False)
    if model.config.depth.expert and not model.config.depth.supervised:
        model.depth_head.requires_grad_(False)
        model.depth.norm.requires_grad_(False)
        end = model.depth.layers[-1]
        for module in (end.out, end.mlp_norm, end.gate_up, end.down):
            module.requires_grad_(False)
        if not model.config.action_sees_depth:
            model.depth.requires_grad_(False)
            model.depth_in.requires_grad_(False)


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The trainable parameters by name."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW with parameter groups by learning rate; no weight decay for norms, biases and scalars.
    Raises `MissingPackage` if 8-bit AdamW is not installed."""
    make: Callable[..., torch.optim.Optimizer] = partial(torch.optim.AdamW, fused=True)
    if config.optimizer == "adamw8bit":
        make = eightbit.adamw()
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, weight in trained(model).items():
        key = _rate(name, config), config.weight_decay if weight.ndim > 1 else 0.0
        groups.setdefault(key, []).append(weight)
    return make(
        [
            {"params": weights, "lr": rate, "peak": rate, "weight_decay": decay}
            for (rate, decay), weights in groups.items()
        ],
        betas=config.betas,
    )


def _rate(name: str, config: TrainConfig) -> float:
    if name.endswith("log_scale"):
        return config.scale_lr
    if config.vlm_lr and name.split(".")[0] in PRETRAINED:
        return config.vlm_lr
    return config.lr


def lr_factor(config: TrainConfig, step: int) -> float:
    """Learning rate at a step, as a share of its peak: linear warm-up, then cosine or constant."""
    if step < config.warmup:
        return (step + 1) / config.warmup
    if config.schedule == "constant":
        return 1.0
    along = (step - config.warmup) / max(config.steps - config.warmup, 1)
    return config.lr_end + (1 - config.lr_end) * _half_cosine(along)


def depth_weight(config: TrainConfig, step: int) -> float:
    """lambda_t, the weight of the depth loss: lambda_0 gamma^t in the paper."""
    if config.depth_schedule == "constant":
        return config.depth_weight
    if config.depth_schedule == "cosine":
        return config.depth_weight * _half_cosine(step / config.steps)
    return config.depth_weight * config.depth_decay**step


def rates(config: Config, step: int) -> dict[str, float]:
    """What changes from step to step: the learning rate, and the weight of a depth loss."""
    rates = {"lr": config.train.lr * lr_factor(config.train, step)}
    if config.model.depth.supervised:
        rates["depth_weight"] = depth_weight(config.train, step)
    return rates


def _half_cosine(along: float) -> float:
    """Falls from 1 at 0 to 0 at 1, and stays there."""
    return (1 + math.cos(math.pi * min(along, 1.0))) / 2


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Sets every group's learning rate to `factor` times its peak."""
    for group in optimizer.param_groups:
        rate = group["peak"] * factor
        if isinstance(group["lr"], Tensor):  # torchao: a new value would be compiled again
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def clipped_step(
    optimizer: torch.optim.Optimizer, weights: Iterable[nn.Parameter], limit: float, fused: bool
) -> Tensor:
    """A step with the gradient clipped to a norm of `limit`; returns the norm before.

    `fused` has AdamW itself scale the gradients as it reads them: the same up to rounding, without
    a pass over all of them.
    """
    weights = list(weights)
    if not (fused and optimizer.defaults.get("fused")):
        norm = whole(torch.nn.utils.clip_grad_norm_(weights, limit))
        optimizer.step()
        return norm
    norm = torch.nn.utils.get_total_norm([w.grad for w in weights if w.grad is not None])
    scale = ((norm + CLIP_EPS) / limit).clamp(min=1)  # fused AdamW divides by it
    optimizer.grad_scale = scale  # type: ignore[attr-defined]  # not in the stub
    optimizer.step()
    return norm


class MovingAverage:
    """An exponential moving average of the trained weights, in float32.

    Its decay starts at 0.1 and rises with the steps, so that initial weights are soon forgotten.
    """

    def __init__(self, weights: dict[str, nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.weights = {name: weight.detach().clone() for name, weight in weights.items()}

    def restore(self, saved: Mapping[str, Tensor]) -> None:
        """Restores the average from a checkpoint."""
        self.weights = {n: sharded_like(now, saved[n]) for n, now in self.weights.items()}

    @torch.no_grad()
    def update(self, weights: Iterable[nn.Parameter], step: int) -> None:
        """Adds the weights after update `step`, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.weights.values()), list(weights), 1 - decay)

    @contextmanager
    def in_place_of(self, weights: Mapping[str, nn.Parameter]) -> Iterator[None]:
        """Swaps the average in as the weights within the block, then swaps back, both bit-exact."""
        self._exchange(weights)
        try:
            yield
        finally:
            self._exchange(weights)

    @torch.no_grad()
    def _exchange(self, weights: Mapping[str, nn.Parameter]) -> None:
        for name, average in self.weights.items():
            copy = average.clone()
            average.copy_(weights[name])
            weights[name].copy_(copy)
