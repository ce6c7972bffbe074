"""Training a codebook: cached crops in, a codebook directory out.

Every random draw follows from the seed and the step, never from a stateful generator, so that a
resumed run takes the same steps as an uninterrupted one. Under torch.distributed each rank trains
on its share of the batch; gradients and code statistics are those of all ranks.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch import distributed as dist
from torch.nn.utils import clip_grad_norm_

from depthtok.disk.locks import writing
from depthtok.disk.temporaries import sweep
from depthtok.errors import ConfigError, TrainingError
from depthtok.log import warn
from depthtok.normalisation import Normalisation
from vqvae.config import TokeniserConfig, TrainOptions
from vqvae.data.clips import ClipSource
from vqvae.data.crops import Crops
from vqvae.data.frames import FRAMES, INDEX, CropBatch, DepthCache
from vqvae.model.losses import reconstruction
from vqvae.model.model import Pass, Tokeniser
from vqvae.quality.quality import Masks
from vqvae.training import checkpoint, export
from vqvae.training.start import start, work_of

KMEANS_BATCHES = 16  # their latents initialise the codes
_STREAM_TRAIN, _STREAM_KMEANS = 0, 1

Report = Callable[[int, dict[str, float]], None]


class TokeniserTrainer:
    """Model and optimiser at some step, with a cache of frames. Raises `ConfigError` for a batch
    that does not divide over the ranks."""

    def __init__(self, config: TokeniserConfig, cache: DepthCache, device: str) -> None:
        self.config, self.cache = config, cache
        self.device = torch.device(device)
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.world = dist.get_world_size() if dist.is_initialized() else 1
        training = config.training
        if training.batch % self.world:
            raise ConfigError(
                f"a batch of {training.batch} crops does not divide over {self.world} ranks",
                remedy="set training.batch to a multiple of the number of ranks",
            )
        model = Tokeniser(config.network, config.quantizer, training.seed)
        self.model = model.to(self.device).train()
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        decay, fused = training.weight_decay, True if self.device.type == "cuda" else None
        self.optimiser = torch.optim.AdamW(
            self.parameters, training.lr, betas=(0.9, 0.99), weight_decay=decay, fused=fused
        )
        self.step = 0
        draw = partial(self._drawn, _STREAM_TRAIN)
        self.crops = Crops(lambda step: draw(step, step), training.steps, self.device)

    def advance(self) -> dict[str, float]:
        """One step. Returns loss, l1 (both of this rank), the gradient's norm, codes and perplexity
        in the batch."""
        training, quantizer = self.config.training, self.model.quantizer
        if self.step == self.config.warmup and not quantizer.initialised:
            quantizer.initialise(self._sample_latents(), training.seed)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.config, self.step)
        images, valid = self.crops.take(self.step)
        output = self._forward(images)
        loss, l1 = reconstruction(output.reconstruction, images, valid, training.gradient_weight)
        loss = loss + output.loss
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._average_gradients()
        norm = clip_grad_norm_(self.parameters, 1.0)
        self.optimiser.step()
        if output.codes is not None:
            quantizer.update(output.latents.detach(), output.codes)
        self.step += 1
        return _figures(loss, l1, norm, output.codes)

    def _drawn(self, stream: int, number: int, step: int) -> CropBatch:
        """This rank's share of a batch of a stream, as it is at a step of the training."""
        training, cell = self.config.training, self.config.network.cell
        # At the end plain data only, which frees the codes used only for pasted parts.
        pasting = step < training.paste_until * training.steps
        parts = training.paste if pasting else 0
        return self.cache.batch(
            training, cell, (stream, number), self.rank, self.world, parts=parts
        )

    def _forward(self, images: Tensor) -> Pass:
        """On CUDA the convolutions run in bfloat16; the quantiser never does."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            return self.model(images)

    @torch.no_grad()
    def _sample_latents(self) -> Tensor:
        batches = (self._drawn(_STREAM_KMEANS, i, self.step) for i in range(KMEANS_BATCHES))
        images = (torch.from_numpy(batch.images).to(self.device) for batch in batches)
        return torch.cat([self.model.encoder(part).flatten(0, -2) for part in images])

    def _average_gradients(self) -> None:
        """Averages gradients over ranks: one small message, bit-identical on all ranks."""
        if self.world == 1:
            return
        flat = torch.cat([p.grad.flatten() for p in self.parameters if p.grad is not None])
        dist.all_reduce(flat)
        dist.broadcast(flat, src=0)
        flat /= self.world
        for p in self.parameters:
            if p.grad is not None:
                p.grad.copy_(flat[: p.numel()].view_as(p))
                flat = flat[p.numel() :]


def learning_rate(config: TokeniserConfig, step: int) -> float:
    """Linear warm-up, then cosine decay to zero."""
    training = config.training
    ramp = min(1.0, (step + 1) / max(training.lr_warmup, 1))
    return training.lr * ramp * 0.5 * (1 + math.cos(math.pi * step / training.steps))


def _figures(loss: Tensor, l1: Tensor, norm: Tensor, codes: Tensor | None) -> dict[str, float]:
    """A step's figures, fetched at once: each fetch on its own would wait for the GPU."""
    parts = [torch.stack([loss, l1, norm])] + ([] if codes is None else [codes.flatten()])
    values = torch.cat([part.detach().double() for part in parts]).cpu()
    named = dict(zip(("loss", "l1", "grad_norm"), values[:3].tolist(), strict=True))
    if codes is None:
        return {**named, "codes": 0.0, "perplexity": 0.0}
    share = torch.bincount(values[3:].long()).double()
    share = share[share > 0] / share.sum()
    perplexity = float((-(share * share.log()).sum()).exp())
    return {**named, "codes": float(len(share)), "perplexity": perplexity}


def train(
    config: TokeniserConfig,
    sources: Sequence[ClipSource],
    out: str | Path,
    options: TrainOptions,
    *,
    on_step: Report | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    held_out: Sequence[ClipSource] | None = None,
    masks: Masks | None = None,
    demo: bool = False,
) -> Path | None:
    """Train, evaluate on the held-out episodes, and write the codebook directory `out`.

    With `held_out`, these clips are for evaluation and all of `sources` for training; else the
    episodes are split. Returns None when `should_stop` ended it early: the checkpoint is written,
    and the same call resumes from it.

    Raises `StaleStore` if `out` is a codebook of another run, unless `options.resume` is off, or
    for a checkpoint of another run; `TrainingError` for a loss that is not finite; `ConfigError`,
    `SourceError` for unsuitable data; `InUse` while another process trains into `out`.
    """
    first = not dist.is_initialized() or dist.get_rank() == 0
    with writing(Path(out), file=True) if first else nullcontext():
        return _train(
            config, sources, Path(out), options, on_step, should_stop, held_out, masks, demo
        )


def _train(
    config: TokeniserConfig,
    sources: Sequence[ClipSource],
    out: Path,
    options: TrainOptions,
    on_step: Report | None,
    should_stop: Callable[[], bool],
    held_out: Sequence[ClipSource] | None,
    masks: Masks | None,
    demo: bool,
) -> Path | None:
    work = Path(options.work) if options.work else work_of(out)
    begin = start(config, sources, out, work, held_out=held_out, resume=options.resume)
    if begin.finished:
        if not options.keep_work:  # of a process stopped right before this
            _clear(work)
        return out
    learn, rule, identity = begin.sides.learn, begin.rule, begin.identity
    cache = _shared_cache(work, learn, config, rule, by_weight=begin.by_weight)
    trainer = TokeniserTrainer(config, cache, options.device)
    if options.resume:
        checkpoint.load(work, trainer, identity)
    try:
        if not _run(trainer, work, identity, options, on_step, should_stop):
            return None
    finally:
        trainer.crops.close()
    _require_equal_ranks(trainer)
    if trainer.rank == 0:
        export.finish(out, trainer, rule, begin.sides, identity, masks=masks, demo=demo)
        if not options.keep_work:
            _clear(work)
    if dist.is_initialized():
        dist.barrier()
    return out


def _clear(work: Path) -> None:
    """Removes what a training made in its folder, and the folder where nothing else is in it: a
    folder of the caller's (`TrainOptions.work`) may hold more."""
    if not work.is_dir():
        return
    sweep(work)
    for name in (checkpoint.FILE, INDEX, FRAMES):
        (work / name).unlink(missing_ok=True)
    with suppress(OSError):
        work.rmdir()


def _require_equal_ranks(trainer: TokeniserTrainer) -> None:
    """All ranks must hold the same bits, because rank 0 writes them: exact, without tolerance."""
    if not dist.is_initialized():
        return
    digest = hashlib.sha256()
    for value in export.weights_of(trainer.model).values():
        digest.update(value.tobytes())
    digests = [""] * trainer.world
    dist.all_gather_object(digests, digest.hexdigest())
    assert len(set(digests)) == 1, f"the ranks diverged: {digests}"


def _run(
    trainer: TokeniserTrainer,
    work: Path,
    identity: str,
    options: TrainOptions,
    on_step: Report | None,
    should_stop: Callable[[], bool],
) -> bool:
    """Take the remaining steps, with checkpoints. Returns False if stopped before the last."""
    steps = trainer.config.training.steps
    while trainer.step < steps:
        figures = trainer.advance()
        finite = math.isfinite(figures["loss"]) and math.isfinite(figures["grad_norm"])
        if _on_any_rank(not finite, trainer.device):
            raise TrainingError(
                f"the loss is {figures['loss']} and the norm of its gradient is "
                f"{figures['grad_norm']} at step {trainer.step}",
                remedy="lower training.lr",
            )
        if on_step:
            on_step(trainer.step, figures)
        stop = _on_any_rank(should_stop(), trainer.device)
        if stop or trainer.step % options.checkpoint_every == 0 or trainer.step == steps:
            checkpoint.save(work, trainer, identity)
        if stop and trainer.step < steps:
            return False
    return True


def _on_any_rank(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set on any rank: all stop together, or the rest would wait forever."""
    if not dist.is_initialized():
        return flag
    raised = torch.tensor(float(flag), device=device)
    dist.all_reduce(raised, dist.ReduceOp.MAX)
    return bool(raised)


def _shared_cache(
    work: Path,
    learn: Sequence[ClipSource],
    config: TokeniserConfig,
    rule: Normalisation,
    *,
    by_weight: bool,
) -> DepthCache:
    """The cache, built by rank 0 alone, with a warning of sources that have nothing in it."""
    size, limit = config.network.size, config.training.frames
    build = partial(DepthCache.build, work, learn, rule, size, limit, by_weight=by_weight)
    first = not dist.is_initialized() or dist.get_rank() == 0
    cache = build() if first else None
    if cache:
        for source, listed in zip(learn, cache.index["sources"], strict=True):
            if source.weight and len(source.clips) and not listed["frames"]:
                warn(
                    f"no frame of {source.name} is among the {len(cache):,} that train: raise "
                    "training.frames, or its --sampling-weight"
                )
    if dist.is_initialized():
        dist.barrier()
    return cache or build()
