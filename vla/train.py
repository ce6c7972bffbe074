"""Training: one update is a function of the weights, the step number and the data, nothing else.

Which samples a step sees, their augmentation, noise and times all follow from (seed, step), so a
run goes on from a checkpoint exactly as it would have gone. The caller handles signals: it makes
`should_stop` true, and the loop saves and returns.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from depthtok.errors import StaleStore
from vla import checkpoint, flow, optim
from vla.batch import Batch
from vla.checkpoint import State
from vla.config import Config, RunOptions
from vla.data import Dataset
from vla.loader import Loader
from vla.model import build
from vla.validate import top1, validate

Line = dict[str, float]  # one line of metrics.jsonl


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
        vectors = None if codebook is None else torch.tensor(np.asarray(codebook.vectors))
        self.model = build(config.model, config.train.seed, vectors)
        self.identity = State(
            0,
            dataset.norms(),
            "" if codebook is None else codebook.fingerprint,
            [[m.name, m.episodes.fingerprint, m.weight, size] for m, size in dataset.sources()],
            dict(notes or {}),
        )
        self.step, self.log = 0, Log(out_dir / "metrics.jsonl")

    # Beginning

    def prepare(self, weights: Mapping[str, Tensor] | None) -> None:
        """Fresh, pretrained, or resumed weights; optimiser and average to match."""
        config = self.config.train
        if weights:
            self.model.load_state_dict(weights, strict=False)
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
        self.trained = optim.trained(self.model)
        self.optimizer = optim.optimizer(self.model, config)
        self.average = optim.MovingAverage(self.trained, config.ema) if config.ema else None
        if newest:
            self._resume(newest[0])
        self.log.begin(self.step)
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
            saved = checkpoint.read_tensors(path, "average", str(self.device))
            self.average.weights = {name: saved[name] for name in self.average.weights}
        self.step = state.step

    # Going

    def loop(self, batches, should_stop, on_step, validation: Dataset | None) -> Result:
        """Updates until the last step or a stop; log lines, validations and checkpoints between."""
        options, total, line, saved = self.options, self.config.train.steps, {}, self.step
        meter = Meter(self.config.train.batch)
        while self.step < total and not should_stop():
            with meter.waiting():
                batch = next(batches)
            meter.add(self.update(batch))
            self.step += 1
            if self.step % options.log_every == 0 or self.step == total:
                line = {"step": self.step, **meter.read(), **self._rates()}
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
        batch = self.options.micro_batch or self.config.train.batch
        found = validate(self.model, dataset, batch, self.options.validate_batches, self.device)
        return {f"val_{name}": value for name, value in found.items()}

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One optimiser step over the batch, in micro-batches; the losses before it."""
        config = self.config.train
        noise, times = draws(self.config, self.step, self.device)
        optim.set_lr(self.optimizer, optim.lr_factor(config, self.step))
        self.optimizer.zero_grad(set_to_none=True)
        size = self.options.micro_batch or len(batch)
        sums: dict[str, Tensor] = {}
        for start in range(0, len(batch), size):
            rows = slice(start, start + size)
            part = batch.rows(start, start + size)
            for name, value in self._backward(part, batch, noise[rows], times[rows]).items():
                sums[name] = sums.get(name, 0) + value
        limit = config.clip or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(self.trained.values(), limit)
        self.optimizer.step()
        if self.average:
            self.average.update(self.trained.values())
        return {**sums, "grad_norm": norm}

    def _backward(self, part: Batch, whole: Batch, noise: Tensor, times: Tensor) -> dict:
        """Adds one micro-batch's gradient, weighted so that the sum is the whole batch's mean."""
        config = self.config.train
        with torch.autocast(self.device.type, torch.bfloat16, config.precision == "bf16"):
            losses = self.model(part, noise, times)
        flow_share = part.action_valid_BC.sum() / whole.action_valid_BC.sum()
        sums = {"flow": losses.flow * flow_share}
        loss = sums["flow"]
        if self.config.model.depth.supervised:
            depth_share = part.depth_valid_BM.sum() / whole.depth_valid_BM.sum().clamp(min=1)
            sums["depth"] = losses.depth * depth_share
            loss = loss + optim.depth_weight(config, self.step) * sums["depth"]
            if self.config.model.depth.target == "codes":
                sums["depth_top1"] = top1(losses.depth_predicted, part) * depth_share
        loss.backward()
        return {"loss": loss.detach(), **{name: value.detach() for name, value in sums.items()}}

    # Saving

    def save(self) -> Path:
        """A checkpoint of this step."""
        return checkpoint.save(
            self.out_dir,
            self.config,
            State(**{**vars(self.identity), "step": self.step}),
            self.model.state_dict(),
            checkpoint.optimizer_tensors(self.optimizer, self.trained),
            self.average.weights if self.average else None,
            self.options.keep_last,
        )


def draws(config: Config, step: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Noise [B, C, A] and times [B] of a step's global batch, from (seed, step) alone."""
    entropy = np.random.SeedSequence((config.train.seed, step)).generate_state(1, np.uint64)
    generator = torch.Generator().manual_seed(int(entropy[0] >> 1))
    model, batch = config.model, config.train.batch
    noise = torch.randn(batch, model.chunk, model.action_dim, generator=generator)
    times = flow.sample_times(model.flow, batch, generator)
    return noise.to(device), times.to(device)


class Meter:
    """Sums of what updates report, and the time that they took, since the last reading."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.restart()

    def restart(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.updates, self.waited_s, self.begun_s = 0, 0.0, time.perf_counter()

    def waiting(self) -> Meter:
        return self

    def __enter__(self) -> None:
        self._asked_s = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.waited_s += time.perf_counter() - self._asked_s

    def add(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0) + value
        self.updates += 1

    def read(self) -> Line:
        """Means, samples a second, and the share of time spent waiting for data; then restarts."""
        means = {name: (value / self.updates).item() for name, value in self.sums.items()}
        passed_s = time.perf_counter() - self.begun_s
        speed = self.updates * self.batch / passed_s
        line = {**means, "samples_per_s": speed, "data_wait": self.waited_s / passed_s}
        self.restart()
        return line


class Log:
    """metrics.jsonl. A resumed run drops the lines that it will write again."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, step: int) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = self.path.read_text().splitlines() if self.path.is_file() and step else []
        kept = [line for line in lines if json.loads(line)["step"] <= step]
        self.path.write_text("".join(line + "\n" for line in kept))

    def write(self, line: Line) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
