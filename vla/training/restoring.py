"""Between the tensors of a checkpoint, by name, and a model and its optimiser."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from depthtok.errors import WeightsError
from vla.training import eightbit
from vla.training.parallel import sharded_like

CODEBOOK, PRIOR = "depth_head.codebook_KD", "depth_head.log_prior_MPK"
SCALE = "depth_head.log_scale"  # of distances in the codebook's unit
MOMENTS = ("exp_avg", "exp_avg_sq")


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    """Loads weights into a model (the meta device is fine). Raises `WeightsError` unless all names
    and shapes match."""
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if expected != shapes:
        names = sorted(set(expected.items()) ^ set(shapes.items()))
        raise WeightsError(
            f"{what} does not match the model: {names[0][0]} and {len(names) - 1} more differ",
            remedy="use the configuration that it was trained with",
        )
    model.load_state_dict(tensors, assign=next(model.parameters()).is_meta)


def start_from(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Initialises from pretrained weights: all of a model, or some parts. The model keeps its own
    codebook and prior, its scale of distances if that is fixed or the weights' codebook is another,
    and fresh weights for whatever the tensors do not contain. Raises `WeightsError` for tensors
    that the model does not have."""
    state = model.state_dict()
    remaining = {CODEBOOK, PRIOR}
    if SCALE in state and SCALE in tensors:
        learnt = model.get_parameter(SCALE).requires_grad
        same = CODEBOOK in tensors and torch.equal(tensors[CODEBOOK], state[CODEBOOK])
        remaining |= set() if learnt and same else {SCALE}
    weights = {name: tensor for name, tensor in tensors.items() if name not in remaining}
    for name, tensor in weights.items():
        if name not in state or state[name].shape != tensor.shape:
            has = tuple(state[name].shape) if name in state else "no such tensor"
            raise WeightsError(
                f"the weights have {name} {tuple(tensor.shape)}, the model {has}",
                remedy="use weights of this architecture, or the configuration of those weights",
            )
    model.load_state_dict(weights, strict=False)


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, weights: Mapping[str, nn.Parameter]
) -> dict[str, Tensor]:
    """AdamW's moments by parameter name."""
    tensors: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if weight in optimizer.state:
            for moment in MOMENTS:
                tensors |= eightbit.parts(f"{moment}/{name}", optimizer.state[weight][moment])
    return tensors


def restore_optimizer(
    optimizer: torch.optim.Optimizer,
    weights: Mapping[str, nn.Parameter],
    tensors: Mapping[str, Tensor],
    step: int,
) -> None:
    """The inverse of `optimizer_tensors`, after `step` updates."""
    for name, weight in weights.items():
        moments = {moment: eightbit.joined(f"{moment}/{name}", tensors) for moment in MOMENTS}
        state = {m: sharded_like(weight, x) for m, x in moments.items() if x is not None}
        if len(state) < len(MOMENTS):
            continue  # a parameter that never had a gradient has no moments
        count = torch.tensor(float(step), device=weight.device)
        optimizer.state[weight] = {"step": count, **state}
