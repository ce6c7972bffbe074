"""Training: one update is a function of the weights, the step number and the data, nothing else.

Which samples a step sees, their augmentation, noise and times all follow from (seed, step), so a
run goes on from a checkpoint exactly as it would have gone. The caller handles signals: it makes
`should_stop` true, and the loop saves and returns.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from depthtok.errors import ConfigError, StaleStore
from vla import checkpoint, flow, lora, optim
from vla.batch import Batch
from vla.checkpoint import State
from vla.config import Config, RunOptions
from vla.data import Dataset
from vla.flops import forward_flops
from vla.loader import Loader
from vla.model import build
from vla.parallel import Ranks, compile_layers, spread, sync_gradients, whole
from vla.runlog import Line, Log, Meter
from vla.validate import top1, validate


@dataclass(frozen=True)
class Result:
    """Where a run stands."""

    run: Path
    step: int
    finished: bool
    last: Line = field(default_factory=dict)


def train(
    config: Config,
    dataset: Dataset,
    out_dir: str | Path,
    options: RunOptions | None = None,
    *,
    codebook: Any = None,
    device: torch.device | str = "cpu",
    should_stop: Callable[[], bool] = lambda: False,
    on_step: Callable[[Line], None] = lambda line: None,
    validation: Dataset | None = None,
    weights: Mapping[str, Tensor] | None = None,
    notes: Mapping[str, Any] | None = None,
) -> Result:
    """Trains to `config.train.steps` updates, or until `should_stop()`; resumes what is there.

    `codebook` is a `depthtok.codebook.Codebook` (its vectors and fingerprint are used), `weights`
    pretrained tensors that replace the fresh ones, `notes` whatever should stand in checkpoints.
    `on_step` is given every log line. Raises `StaleStore` for a run directory of other settings.
    """
    options = options or RunOptions()
    run = Trainer(config, dataset, Path(out_dir), options, codebook, torch.device(device), notes)
    run.prepare(weights)
    with Loader(
        dataset,
        config.train.batch,
        seed=config.train.seed,
        start=run.step,
        rank=run.ranks.rank,
        ranks=run.ranks.count,
        workers=options.workers,
        prefetch=options.prefetch,
        device=device,
    ) as loader:
        return run.loop(iter(loader), should_stop, on_step, validation)


class Trainer:
    """The state of a run: model, optimiser, average, step."""

    def __init__(
        self,
        config: Config,
        dataset: Dataset,
        out_dir: Path,
        options: RunOptions,
        codebook: Any,
        device: torch.device,
        notes: Mapping[str, Any] | None,
    ) -> None:
        self.config, self.options, self.device, self.out_dir = config, options, device, out_dir
        depth = config.model.depth
        if codebook is None and depth.supervised and depth.target != "pixels":
            raise ConfigError(
                "the depth expert is trained on codes, and no codebook is given",
                remedy="give the codes' codebook, or set model.depth.target = 'none'",
            )
        vectors = None if codebook is None else torch.tensor(np.asarray(codebook.vectors))
        self.model = build(config.model, config.train.seed, vectors)
        self.identity = State(
            0,
            dataset.norms(),
            "" if codebook is None else codebook.fingerprint,
            [[m.name, m.episodes.fingerprint, m.weight, size] for m, size in dataset.sources()],
            dict(notes or {}),
        )
        self.bf16 = config.train.precision == "bf16"
        self.ranks = Ranks.here()
        self.rows = self.ranks.rows(config.train.batch)
        self.flops = 3 * forward_flops(config.model)["total"]  # of a sample: forward, backward
        self.step = 0
        self.log = Log(out_dir / "metrics.jsonl", silent=self.ranks.rank > 0)

    def prepare(self, weights: Mapping[str, Tensor] | None) -> None:
        """Fresh, pretrained, or resumed weights; optimiser and average to match."""
        config = self.config.train
        if weights:
            checkpoint.start_from(self.model, weights)
        if config.lora_rank:
            lora.add(self.model, config.lora_rank, config.lora_alpha, config.seed)
        newest = checkpoint.steps(self.out_dir)[-1:] if self.options.resume else []
        if newest:
            checkpoint.load_weights(
                self.model, checkpoint.read_tensors(newest[0], "model"), str(newest[0])
            )
        self.model.to(self.device).train()
        for part in self.model.modules():
            if hasattr(part, "recompute"):
                part.recompute = self.options.recompute
        optim.freeze(self.model, config)
        if self.options.compile:
            compile_layers(self.model)
        self.called = spread(self.model, self.ranks, self.options.sharding)
        self.trained = optim.trained(self.model)
        self.optimizer = optim.optimizer(self.model, config)
        self.average = optim.MovingAverage(self.trained, config.ema) if config.ema else None
        if newest:
            self._resume(newest[0])
        self.ranks.wait()
        self.log.begin(self.step)
        if self.ranks.rank == 0:
            (self.out_dir / "config.json").write_text(json.dumps(self.config.to_json(), indent=1))

    def _resume(self, path: Path) -> None:
        state = checkpoint.read_state(path)
        if checkpoint.read_config(path) != self.config:
            raise StaleStore(
                f"{self.out_dir} was begun with other settings",
                remedy="give the same settings, or choose another --out",
            )
        if (state.codebook, state.data) != (self.identity.codebook, self.identity.data):
            raise StaleStore(
                f"{self.out_dir} was begun with other data or another codebook",
                remedy="give the same data, or choose another --out",
            )
        tensors = checkpoint.read_tensors(path, "optimizer")
        checkpoint.restore_optimizer(self.optimizer, self.trained, tensors, state.step)
        if self.average:
            self.average.restore(checkpoint.read_tensors(path, "average"))
        self.step = state.step

    # Going

    def loop(self, batches, should_stop, on_step, validation: Dataset | None) -> Result:
        """Updates until the last step or a stop; log lines, validations and checkpoints between."""
        options, total, line, saved = self.options, self.config.train.steps, {}, self.step
        meter = Meter(self.config.train.batch)
        while self.step < total and not self.ranks.any(should_stop(), self.device):
            with meter:
                batch = next(batches)
            meter.add(self.update(batch))
            self.step += 1
            if self.step % options.log_every == 0 or self.step == total:
                line = {"step": self.step, **meter.read(self.ranks), **self._rates()}
                line["tflops"] = line["samples_per_s"] * self.flops / 1e12
                if options.grad_norms_every and self._due(options.grad_norms_every):
                    line |= self.gradient_norms(batch)
                    meter.restart()
                if validation and options.validate_every and self._due(options.validate_every):
                    line |= self._validate(validation)
                    meter.restart()
                self.log.write(line)
                on_step(line)
            if self._due(options.checkpoint_every):
                self.save()
                saved = self.step
                meter.restart()
        if saved != self.step:
            self.save()
        return Result(self.out_dir, self.step, self.step >= total, line)

    def _due(self, every: int) -> bool:
        return self.step % every == 0 or self.step == self.config.train.steps

    def _rates(self) -> Line:
        config, done = self.config.train, self.step - 1
        rates = {"lr": config.lr * optim.lr_factor(config, done)}
        if self.config.model.depth.supervised:
            rates["depth_weight"] = optim.depth_weight(config, done)
        return rates

    def _validate(self, dataset: Dataset) -> Line:
        share = self.options.micro_batch or self.rows.stop - self.rows.start
        found = validate(
            self.model, dataset, share, self.options.validate_batches, self.device, self.ranks
        )
        return {f"val_{name}": value for name, value in found.items()}

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One optimiser step over this rank's rows, in micro-batches. Gives this rank's part of
        the losses before it."""
        config, rows = self.config.train, len(batch)
        noise, times = (x[self.rows] for x in draws(self.config, self.step, self.device))
        counts = self.ranks.total(
            torch.stack([batch.action_valid_BC.sum(), batch.depth_valid_BM.sum()])
        ).clamp(min=1)
        optim.set_lr(self.optimizer, optim.lr_factor(config, self.step))
        self.optimizer.zero_grad(set_to_none=True)
        size = self.options.micro_batch or rows
        sums: dict[str, Tensor] = {}
        for start in range(0, rows, size):
            sync_gradients(self.called, start + size >= rows)
            part = batch.rows(start, start + size)
            given = noise[start : start + size], times[start : start + size]
            for name, value in self._backward(part, *given, *counts).items():
                sums[name] = sums.get(name, 0) + value
        limit = config.clip or float("inf")
        norm = whole(torch.nn.utils.clip_grad_norm_(self.trained.values(), limit))
        self.optimizer.step()
        if self.average:
            self.average.update(self.trained.values())
        return {**sums, "grad_norm": norm / self.ranks.count}

    def _backward(
        self, part: Batch, noise: Tensor, times: Tensor, actions: Tensor, frames: Tensor
    ) -> dict[str, Tensor]:
        """Adds one micro-batch's gradient. Losses are weighted by what the global batch holds of
        valid `actions` and `frames`, so that all parts of all ranks sum to its mean."""
        config = self.config.train
        with torch.autocast(self.device.type, torch.bfloat16, self.bf16):
            losses = self.called(part, noise, times)
        sums = {"flow": losses.flow * part.action_valid_BC.sum() / actions}
        loss = sums["flow"]
        if self.config.model.depth.supervised:
            share = part.depth_valid_BM.sum() / frames
            sums["depth"] = losses.depth * share
            loss = loss + optim.depth_weight(config, self.step) * sums["depth"]
            if self.config.model.depth.target == "codes":
                sums["depth_top1"] = top1(losses.depth_predicted, part) * share
        (loss * self.ranks.count).backward()  # ranks' gradients are averaged
        return {"loss": loss.detach(), **{name: value.detach() for name, value in sums.items()}}

    def gradient_norms(self, batch: Batch) -> Line:
        """How strongly each loss pulls on SigLIP, on this rank's first micro-batch: the norms of
        its gradients, the depth loss with its weight, and their ratio."""
        weights = [w for name, w in self.trained.items() if name.startswith("vision.")]
        if not weights or not self.config.model.depth.supervised:
            return {}
        size = self.options.micro_batch or len(batch)
        noise, times = (x[self.rows][:size] for x in draws(self.config, self.step, self.device))
        with torch.autocast(self.device.type, torch.bfloat16, self.bf16):
            losses = self.model(batch.rows(0, size), noise, times)
        weight = optim.depth_weight(self.config.train, self.step)
        norms = []
        for loss in (losses.flow, weight * losses.depth):
            grads = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
            norms.append(torch.nn.utils.get_total_norm([g for g in grads if g is not None]).item())
        return {"grad_flow": norms[0], "grad_depth": norms[1], "grad_ratio": norms[1] / norms[0]}

    # Saving

    def save(self) -> None:
        """A checkpoint of this step. Every rank takes part, the first one writes."""
        moments = checkpoint.optimizer_tensors(self.optimizer, self.trained)
        tensors = {"model": self.model.state_dict(), "optimizer": moments}
        if self.average:
            tensors["average"] = self.average.weights
        tensors = {
            kind: {name: whole(tensor) for name, tensor in named.items()}
            for kind, named in tensors.items()
        }
        if self.ranks.rank == 0:
            state = State(**{**vars(self.identity), "step": self.step})
            keep = self.options.keep_last
            checkpoint.save(self.out_dir, self.config, state, tensors, keep)
        self.ranks.wait()


def draws(config: Config, step: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Noise [B, C, A] and times [B] of a step's global batch, from (seed, step) alone."""
    entropy = np.random.SeedSequence((config.train.seed, step)).generate_state(1, np.uint64)
    generator = torch.Generator().manual_seed(int(entropy[0] >> 1))
    model, batch = config.model, config.train.batch
    noise = torch.randn(batch, model.chunk, model.action_dim, generator=generator)
    times = flow.sample_times(model.flow, batch, generator)
    return noise.to(device), times.to(device)
