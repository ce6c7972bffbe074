"""Fine-tuning on clips with ground-truth depth, from a simulator or a sensor.

Networks of disparity learn 1/z (1/m), those of relative depth z (m), both up to one scale and shift
per window; those of metres learn metres. The windows of a step depend only on the seed and the step
number, so that a stopped and resumed run ends with the same weights as an uninterrupted one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from depthtok.data import DepthKind, FrameClip
from depthtok.disk.files import commit_file
from depthtok.disk.sealed import require_sound, seal
from depthtok.errors import ConfigError, CorruptPart, SourceError, StaleStore
from pipelines.depth.learning.batch import Windows, training_batch
from pipelines.depth.learning.finetune_config import FinetuneConfig
from pipelines.depth.learning.learner import Learner
from pipelines.depth.learning.losses import (
    affine_invariant_loss,
    metric_loss,
    temporal_gradient_loss,
)
from pipelines.depth.learning.state_file import save_state


@dataclass(frozen=True)
class StepReport:
    """The figures of one step."""

    step: int
    loss: float
    spatial: float
    temporal: float


def finetune(
    learner: Learner,
    clips: Sequence[FrameClip],
    config: FinetuneConfig,
    *,
    checkpoint: Path,
    device: torch.device,
    data: str = "",
    on_step: Callable[[StepReport], None] = lambda report: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> nn.Module | None:
    """Trains a learner's network in place and returns it; resumes from `checkpoint` if it exists.

    `data` is a digest of the training data, stored in the checkpoint. Returns None if `should_stop`
    ended the run: the checkpoint then includes all steps so far.

    Raises `StaleStore` if the checkpoint was made with other settings, `SourceError` for clips
    without ground-truth depth, and `ConfigError` where the loss or its gradient is no number: the
    last checkpoint is as it was.
    """
    if not clips:
        raise SourceError("there is no clip to train on", remedy="give a source with true depth")
    network = learner.network
    network.to(device).train()
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    identity = {**asdict(config), "network": learner.variant, "data": data}
    first = _resume(network, optimizer, identity, checkpoint)
    for step in range(first, config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * schedule(step, config.steps)
        windows = training_batch(learner, clips, config, step).to(device)
        report = _train_step(learner, optimizer, windows, config, step)
        on_step(report)
        stopping = should_stop()
        if stopping or (step + 1) % config.save_every == 0 or step + 1 == config.steps:
            _save(network, optimizer, identity, checkpoint, step + 1)
        if stopping and step + 1 < config.steps:
            return None
    return network.eval()


def begun(checkpoint: Path) -> str | None:
    """The digest of the training data that a stopped run was begun with; None where there is no
    checkpoint."""
    if not checkpoint.is_file():
        return None
    return _read(checkpoint)["identity"].get("data")


def schedule(step: int, steps: int) -> float:
    """The learning rate as a share of its peak: warm-up over the first 5 %, then cosine decay."""
    warm = max(1, steps // 20)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _train_step(
    learner: Learner,
    optimizer: torch.optim.Optimizer,
    windows: Windows,
    config: FinetuneConfig,
    step: int,
) -> StepReport:
    target, valid = training_target(windows.depth, learner.kind)
    with _draws_of(config.seed, step, windows.depth.device):
        prediction = learner.depth(windows.inputs, windows.size) * windows.factors
    compare = metric_loss if learner.kind is DepthKind.METRES else affine_invariant_loss
    spatial = compare(prediction, target, valid)
    temporal = temporal_gradient_loss(prediction, target, valid)
    loss = spatial + config.temporal_weight * temporal
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(learner.network.parameters(), 1.0)
    report = StepReport(step, loss.item(), spatial.item(), temporal.item())
    _require_numbers(report, norm.item())
    optimizer.step()
    return report


def _require_numbers(report: StepReport, norm: float) -> None:
    """Raises `ConfigError` where one step more would leave a network without weights."""
    for what, value in (("the loss", report.loss), ("the gradient of the loss", norm)):
        if not math.isfinite(value):
            raise ConfigError(
                f"{what} of step {report.step + 1} is {value}: the network would be lost",
                remedy="give --no-resume and a smaller --learning-rate; where it is the first "
                "step, other weights: these give depth that is no number",
            )


@contextmanager
def _draws_of(seed: int, step: int, device: torch.device) -> Iterator[None]:
    """What a network draws by chance (dropout) is a function of seed and step, too; the process's
    own draws go on as if there had been none."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(int(np.random.SeedSequence((seed, step)).generate_state(1)[0]))
        yield


def training_target(
    depth: Float[Tensor, "B T h w"], kind: DepthKind
) -> tuple[Float[Tensor, "B T h w"], Bool[Tensor, "B T h w"]]:
    """True depth (m, 0 where unknown) as the target of a network's kind, and where it is valid."""
    valid = depth > 0
    if kind is not DepthKind.DISPARITY:
        return depth, valid
    return torch.where(valid, 1 / depth.clamp_min(1e-6), 0), valid


def _save(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    identity: dict[str, object],
    checkpoint: Path,
    steps: int,
) -> None:
    """Writes the checkpoint after `steps` steps, atomically replacing the previous one."""
    state = {
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "done": steps,
        "identity": identity,
    }
    with commit_file(checkpoint) as partial:
        save_state(state, partial)
        seal(partial)


def _read(checkpoint: Path) -> dict[str, Any]:
    """The content of a checkpoint. Raises `CorruptPart` for one that was changed, or is none."""
    require_sound(checkpoint, _START_OVER)
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        return {**state, "identity": dict(state["identity"]), "done": int(state["done"])}
    except (RuntimeError, UnpicklingError, KeyError, TypeError, ValueError) as error:
        raise _no_state(checkpoint) from error


def _no_state(checkpoint: Path) -> CorruptPart:
    return CorruptPart(f"{checkpoint} holds no state of a fine-tuning", remedy=_START_OVER)


_START_OVER = "give --no-resume to start over"


def _resume(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    identity: dict[str, object],
    checkpoint: Path,
) -> int:
    """Restores a checkpoint, if there is one; returns how many steps it has taken."""
    if not checkpoint.is_file():
        return 0
    state = _read(checkpoint)
    settings = state["identity"]
    changed = [k for k in identity if k != "save_every" and identity[k] != settings.get(k)]
    if changed:
        raise StaleStore(
            f"{checkpoint} was made with other settings: "
            + ", ".join(f"{key} {settings.get(key)}, now {identity[key]}" for key in changed),
            remedy="resume with the same settings, choose another --out, or give --no-resume",
        )
    try:
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise _no_state(checkpoint) from error
    return state["done"]
