"""Fine-tuning on clips with ground-truth depth, from a simulator or a sensor.

Relative networks learn disparity (1/m) up to one scale and shift per window; metric networks learn
metres. The windows of a step depend only on the seed and the step number, so that a stopped and
resumed run ends with the same weights as an uninterrupted one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from depthtok.data import FrameClip
from depthtok.disk.bounds import together
from depthtok.disk.files import commit_file
from depthtok.disk.sealed import require_sound, seal
from depthtok.errors import CorruptPart, SourceError, StaleStore
from pipelines.depth.vida.config import ViDAConfig
from pipelines.depth.vida.finetune_config import FinetuneConfig
from pipelines.depth.vida.losses import affine_invariant_loss, metric_loss, temporal_gradient_loss
from pipelines.depth.vida.network import VideoDepth
from pipelines.depth.vida.preprocess import network_size, preprocess
from pipelines.depth.vida.state_file import save_state

PIXEL = 48  # bytes that a pixel takes while it is coloured and resized


@dataclass(frozen=True)
class StepReport:
    """The figures of one step."""

    step: int
    loss: float
    spatial: float
    temporal: float


def finetune(
    network: VideoDepth,
    clips: Sequence[FrameClip],
    config: FinetuneConfig,
    *,
    checkpoint: Path,
    device: torch.device,
    data: str = "",
    on_step: Callable[[StepReport], None] = lambda report: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> VideoDepth | None:
    """Trains `network` in place; resumes from `checkpoint` if it exists.

    `data` is a digest of the training data, stored in the checkpoint. Returns None if `should_stop`
    ended the run: the checkpoint then includes all steps so far.

    Raises `StaleStore` if the checkpoint was made with other settings, and `SourceError` for clips
    without ground-truth depth.
    """
    if not clips:
        raise SourceError("there is no clip to train on", remedy="give a source with true depth")
    network.to(device).train()
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    identity = {**asdict(config), "network": network.config.variant, "data": data}
    first = _resume(network, optimizer, identity, checkpoint)
    for step in range(first, config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * schedule(step, config.steps)
        images, depth = training_batch(clips, config, step)
        report = _train_step(network, optimizer, images.to(device), depth.to(device), config, step)
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


def fresh_network(config: ViDAConfig, seed: int) -> VideoDepth:
    """A network to train from scratch. Its depth starts at 1 everywhere, because below 0 the last
    ReLU would block the gradient."""
    torch.manual_seed(seed)
    network = VideoDepth(config)
    initialised(network)
    return network


def initialised(network: VideoDepth) -> None:
    """Gives a new network what its layers do not begin with."""
    encoder = network.pretrained
    for table in (encoder.pos_embed, encoder.cls_token):
        torch.nn.init.trunc_normal_(table, std=0.02)
    torch.nn.init.ones_(network.head.scratch.output_conv2.get_parameter("2.bias"))


def schedule(step: int, steps: int) -> float:
    """The learning rate as a share of its peak: warm-up over the first 5 %, then cosine decay."""
    warm = max(1, steps // 20)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _train_step(
    network: VideoDepth,
    optimizer: torch.optim.Optimizer,
    images: Float[Tensor, "B T 3 h w"],
    depth: Float[Tensor, "B T h w"],
    config: FinetuneConfig,
    step: int,
) -> StepReport:
    target, valid = training_target(depth, metric=network.config.metric)
    prediction = network(images)
    compare = metric_loss if network.config.metric else affine_invariant_loss
    spatial = compare(prediction, target, valid)
    temporal = temporal_gradient_loss(prediction, target, valid)
    loss = spatial + config.temporal_weight * temporal
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    return StepReport(step, loss.item(), spatial.item(), temporal.item())


def training_target(
    depth: Float[Tensor, "B T h w"], *, metric: bool
) -> tuple[Float[Tensor, "B T h w"], Bool[Tensor, "B T h w"]]:
    """True depth (m, 0 where unknown) as the network's target, and where it is valid."""
    valid = depth > 0
    return (depth if metric else torch.where(valid, 1 / depth.clamp_min(1e-6), 0)), valid


def training_batch(
    clips: Sequence[FrameClip], config: FinetuneConfig, step: int
) -> tuple[Float[Tensor, "B T 3 h w"], Float[Tensor, "B T h w"]]:
    """The windows of one step: consecutive frames of clips drawn in proportion to length, half of
    them mirrored (unless `mirror` is off), with a random gain and offset of the colours.

    Frames are resized as for inference, depth by nearest neighbour: an average over an edge would
    be a depth that occurs nowhere. Raises `SourceError` for windows of different shapes.
    """
    rng = np.random.default_rng((config.seed, step))
    lengths = np.array([len(clip) for clip in clips], np.float64)
    windows = [
        _window(clips[index], config, rng)
        for index in rng.choice(len(clips), config.batch, p=lengths / lengths.sum())
    ]
    sizes = {images.shape[-2:] for images, _ in windows}
    if len(sizes) > 1:
        raise SourceError(
            f"frames of different shapes do not fit into one batch: network inputs are "
            f"{sorted(map(tuple, sizes))}",
            remedy="train on cameras of the same shape (--camera), or give --batch 1",
        )
    images, depth = zip(*windows, strict=True)
    return torch.stack(images), torch.stack(depth)


def _window(
    clip: FrameClip, config: FinetuneConfig, rng: np.random.Generator
) -> tuple[Float[Tensor, "T 3 h w"], Float[Tensor, "T h w"]]:
    """The network's input and the depth at its size. A clip shorter than the window repeats its
    last frame."""
    length = config.frames
    start = int(rng.integers(max(1, len(clip) - length + 1)))
    stop = min(start + length, len(clip))
    mirrored = config.mirror and rng.random() < 0.5
    gain, offset = rng.uniform(0.8, 1.2, 3).astype(np.float32), np.float32(rng.uniform(-20, 20))
    inputs: list[Tensor] = []
    step, size = start, (0, 0)
    while step < stop:  # the first frame tells the size; large ones are taken one by one
        count = together(size[0] * size[1] * PIXEL, length) if inputs else 1
        frames = clip.read(step, min(step + count, stop))
        if inputs and size != frames.shape[1:3]:
            raise SourceError(f"{clip.key}: the frames have different sizes")
        size, step = (frames.shape[1], frames.shape[2]), step + len(frames)
        frames = frames[:, :, ::-1] if mirrored else frames
        coloured = torch.from_numpy(np.clip(frames * gain + offset, 0, 255).astype(np.uint8))
        inputs.append(preprocess(coloured, network_size(*size, config.input_size)))
    metres = clip.true_depth(start, stop)
    depth = torch.from_numpy(np.ascontiguousarray(metres[:, :, ::-1] if mirrored else metres))
    images = torch.cat(inputs)
    target = functional.interpolate(depth[None], size=images.shape[-2:], mode="nearest-exact")[0]
    return _lengthened(images, length), _lengthened(target, length)


def _lengthened(frames: Float[Tensor, "n ..."], length: int) -> Float[Tensor, "T ..."]:
    """Frames, the last of them repeated up to a length."""
    return torch.cat([frames, frames[-1:].expand(length - len(frames), *frames.shape[1:])])


def _save(
    network: VideoDepth,
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
    network: VideoDepth,
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
