"""Training: an update depends on the weights, the step number and the data, and on nothing else.

A step's samples, their augmentation, noise and times all follow from (seed, step), so a resumed run
continues exactly as if it had not been interrupted. The caller handles signals: it makes
`should_stop` return true, and the loop saves and returns.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from depthtok.disk.files import write_atomic
from depthtok.disk.locks import writing
from depthtok.errors import ConfigError
from vla.config import Config
from vla.data.dataset import Dataset
from vla.data.loader import Loader
from vla.data.meanings import require_same
from vla.data.stores import CodeVectors
from vla.data.tokenizer import AUTO
from vla.evaluation.depth_view import Decode
from vla.model import lora
from vla.model.batch import Batch
from vla.model.flops import forward_flops, peak_tflops
from vla.model.gemma import Expert
from vla.model.model import build
from vla.model.siglip import Siglip
from vla.run_options import TrainingOptions
from vla.training import checkpoint, optim, restoring
from vla.training import resume as going_on
from vla.training.checkpoint import TrainingState
from vla.training.deterministic import reproducible
from vla.training.order import keep_memory, set_order
from vla.training.parallel import Ranks, compile_layers, gathered, spread
from vla.training.runlog import METRICS, VALIDATIONS, Line, Log, UpdateMeter
from vla.training.soundness import beside
from vla.training.trackers import Trackers
from vla.training.update import Update, require_finite
from vla.training.validation import validate

BEST = "val_action_mse"  # the best weights have the lowest value of this figure


@dataclass(frozen=True)
class Result:
    """The progress of a run."""

    run: Path
    step: int
    finished: bool
    last: Line = field(default_factory=dict)


def train(
    config: Config,
    dataset: Dataset,
    out_dir: str | Path,
    options: TrainingOptions | None = None,
    *,
    codebook: CodeVectors | None = None,
    device: torch.device | str = "cpu",
    should_stop: Callable[[], bool] = lambda: False,
    on_step: Callable[[Line], None] = lambda line: None,
    validation: Dataset | None = None,
    weights: Mapping[str, Tensor] | None = None,
    notes: Mapping[str, Any] | None = None,
    decode: Decode | None = None,
) -> Result:
    """Trains for `config.train.steps` updates, or until `should_stop()`; resumes an existing run.

    `weights` are pretrained tensors that replace the fresh ones, `notes` are stored in every
    checkpoint, `decode` turns codes into normalised disparity, so that depth can be evaluated and
    shown. `on_step` gets every log line. Raises `StaleStore` if the run directory has other
    settings, `InUse` while another process trains into it.
    """
    options = options or TrainingOptions()
    device = torch.device(device)
    if device.type == "cpu":
        keep_memory()
    determinism = reproducible(config.train.deterministic, device, options.compile)
    with determinism, writing(Path(out_dir)) if Ranks.here().rank == 0 else nullcontext():
        run = PolicyTrainer(
            config, dataset, Path(out_dir), options, codebook, device, notes, decode
        )
        run.prepare(weights)
        with (
            closing(run.trackers),
            Loader(
                dataset,
                config.train.batch,
                seed=config.train.seed,
                start=run.step,
                rank=run.ranks.rank,
                ranks=run.ranks.count,
                threads=options.loader_threads,
                prefetch=options.prefetch,
                device=device,
            ) as loader,
        ):
            return run.loop(iter(loader), should_stop, on_step, validation)


class PolicyTrainer:
    """A run. Raises `ConfigError` for codes without a codebook, a batch that ranks cannot share."""

    def __init__(
        self,
        config: Config,
        dataset: Dataset,
        out_dir: Path,
        options: TrainingOptions,
        codebook: CodeVectors | None,
        device: torch.device,
        notes: Mapping[str, Any] | None,
        decode: Decode | None,
    ) -> None:
        self.options, self.device, self.out_dir = options, device, out_dir
        self.ranks = Ranks.here()
        self.rows = self.ranks.rows(config.train.batch)
        self.words = dataset.tokenizer
        if config.data.tokenizer == AUTO:
            config = config.updated({"data.tokenizer": self.words.name})
        self.config = config
        depth = config.model.depth
        if codebook is None and depth.uses_depth and depth.target != "pixels":
            raise ConfigError(
                "the depth expert is trained on codes, but no codebook is given",
                remedy="give the codebook of the codes, or set model.depth.target = 'none'",
            )
        options.require_suits(config)
        vectors = None if codebook is None else torch.tensor(np.asarray(codebook.vectors))
        self.model = build(config.model, config.train.seed, vectors)
        if depth.prior:
            self.model.depth_head.set_prior(torch.from_numpy(dataset.code_counts()))
        self.identity = TrainingState(
            0,
            dataset.norms(),
            "" if codebook is None else codebook.fingerprint,
            going_on.identities(dataset.sources(), config.data.cameras),
            dict(notes or {}),
            dataset.meanings(),
            dataset.orientations(),
        )
        self.decode, self.trackers = decode, Trackers()
        self.flops = 3 * forward_flops(config.model)["total"]  # per sample: forward, backward
        self.peak_tflops = peak_tflops(device)
        self.step = 0
        self.log = Log(out_dir / METRICS, silent=self.ranks.rank > 0)
        self.validation_log = Log(out_dir / VALIDATIONS, silent=self.ranks.rank > 0)

    def prepare(self, weights: Mapping[str, Tensor] | None) -> None:
        """Sets up fresh, pretrained or resumed weights, with matching optimiser and average."""
        config = self.config.train
        if self.ranks.rank == 0:
            checkpoint.clear(self.out_dir, everything=not self.options.resume)
        self.ranks.wait()
        if weights:
            restoring.start_from(self.model, weights)
        if config.lora_rank:
            lora.add(self.model, config.lora_rank, config.lora_alpha, config.seed)
        newest = checkpoint.steps(self.out_dir)[-1:]
        if not newest:  # a run that goes on has passed, or was begun before this was checked
            require_same(self.identity.meanings, self.config)
        if newest:
            tensors = checkpoint.read_tensors(newest[0], "model")
            restoring.load_weights(self.model, tensors, str(newest[0]))
        self.model.to(self.device).train()
        for part in self.model.modules():
            if isinstance(part, Expert | Siglip):
                part.recompute = self.options.recompute
        set_order(self.model, config)
        optim.freeze(self.model, config)
        if self.options.compile:
            compile_layers(self.model, budget=self.options.activations)
        called = spread(self.model, self.ranks, self.options.sharding)
        trained = optim.trained(self.model)
        optimizer = optim.optimizer(self.model, config)
        average = optim.MovingAverage(trained, config.ema) if config.ema else None
        state = self.config, self.model, called, trained, optimizer, average
        self.update = Update(*state, self.ranks, self.device, self.options.micro_batch)
        if newest:
            self._resume(newest[0])
        self.ranks.wait()
        self._open_logs()

    def _open_logs(self) -> None:
        lines = self.log.begin(self.step)
        self.validation_log.begin(self.step)
        self.best = min((line[BEST] for line in lines if BEST in line), default=float("inf"))
        if self.ranks.rank == 0:
            settings = self.config.to_json()
            write_atomic(self.out_dir / "config.json", json.dumps(settings, indent=1))
            self.trackers.open(self.options.trackers, self.out_dir, self.step, settings)

    def _resume(self, path: Path) -> None:
        state = checkpoint.read_state(path)
        going_on.require_same_settings(self.out_dir, checkpoint.read_config(path), self.config)
        going_on.require_same_data(self.out_dir, state, self.identity)
        going_on.tell_of_bits(self.out_dir, self.config, self.device)
        tensors = checkpoint.read_tensors(path, "optimizer")
        update = self.update
        restoring.restore_optimizer(update.optimizer, update.trained, tensors, state.step)
        if update.average:
            update.average.restore(checkpoint.read_tensors(path, "average"))
        self.step = state.step

    # Running

    def loop(
        self,
        batches: Iterator[Batch],
        should_stop: Callable[[], bool],
        on_step: Callable[[Line], None],
        validation: Dataset | None,
    ) -> Result:
        """Updates until the last step or a stop, with logging, validation and checkpoints."""
        options, total, line, saved = self.options, self.config.train.steps, {}, self.step
        meter = UpdateMeter(self.config.train.batch)
        while self.step < total and not self.ranks.any(should_stop(), self.device):
            with meter:
                batch = next(batches)
            meter.add(self.update(batch, self.step))
            self.step += 1
            norms_due = self._due(options.grad_norms_every)
            held_out = validation if self._due(options.validate_every) else None
            save_due = self._due(options.checkpoint_every)
            if norms_due or held_out is not None or save_due or self._due(options.log_every):
                line = {"step": self.step, **meter.read(self.ranks)}
                line |= optim.rates(self.config, self.step - 1)
                line |= self._used(line["samples_per_s"])
                require_finite(line, self.step)
                if norms_due:
                    line |= self.update.gradient_norms(batch, self.step)
                if held_out is not None:
                    line |= self._validate(held_out)
                meter.restart()
                self.log.write(line)
                self.trackers(line)
                on_step(line)
            if save_due:
                self.save()
                saved = self.step
                meter.restart()
        if saved != self.step:
            if meter.updates:
                require_finite(meter.read(self.ranks), self.step)
            self.save()
        return Result(self.out_dir, self.step, self.step >= total, line)

    def _due(self, every: int) -> bool:
        """Whether something done every `every` steps, and after the last one, is due now."""
        return every > 0 and (self.step % every == 0 or self.step == self.config.train.steps)

    def _used(self, samples_per_s: float) -> Line:
        """The model's TFLOP/s, and their share of the peak of all GPUs (MFU)."""
        tflops = samples_per_s * self.flops / 1e12
        if self.peak_tflops is None:
            return {"tflops": tflops}
        return {"tflops": tflops, "mfu": tflops / (self.peak_tflops * self.ranks.count)}

    def _validate(self, dataset: Dataset) -> Line:
        """Scores on held-out samples of the weights used for acting (the average, if enabled); the
        weights with the best actions so far are saved."""
        average, begun_s = self.update.average, time.perf_counter()
        with average.in_place_of(self.update.trained) if average else nullcontext():
            share = self.options.micro_batch or self.rows.stop - self.rows.start
            samples = self.options.validate_batches * self.config.train.batch
            shared = self.device, self.ranks, self.decode, self.update.autocast
            scores = validate(self.model, dataset, share, samples, *shared)
        if scores.view is not None and self.ranks.rank == 0:
            scores.view.save(self.out_dir)
        self.validation_log.write({"step": self.step, "episodes": scores.episodes})
        line = {f"val_{name}": value for name, value in scores.means.items()}
        line["validate_s"] = time.perf_counter() - begun_s
        if line[BEST] <= self.best:
            self.best = line[BEST]
            self._write(self.out_dir / checkpoint.BEST, self._weights())
        return line

    # Saving

    def save(self) -> None:
        """Writes a checkpoint of this step, and deletes old ones."""
        moments = restoring.optimizer_tensors(self.update.optimizer, self.update.trained)
        path = checkpoint.place(self.out_dir, self.step)
        logs = self.log, self.validation_log
        noted = beside(self.out_dir, logs) if self.ranks.rank == 0 else None
        self._write(path, {**self._weights(), "optimizer": moments}, noted)
        if self.ranks.rank == 0:
            checkpoint.prune(self.out_dir, self.options.keep_last)

    def _weights(self) -> dict[str, Mapping[str, Tensor]]:
        """The tensors needed for acting."""
        weights: dict[str, Mapping[str, Tensor]] = {"model": self.model.state_dict()}
        if self.update.average:
            weights["average"] = self.update.average.weights
        return weights

    def _write(
        self,
        path: Path,
        tensors: Mapping[str, Mapping[str, Tensor]],
        noted: Mapping[str, Any] | None = None,
    ) -> None:
        """Writes a checkpoint: every rank takes part in gathering, the first one writes."""
        full = {kind: gathered(named, self.ranks) for kind, named in tensors.items()}
        if self.ranks.rank == 0:
            state = replace(self.identity, step=self.step)
            checkpoint.write(path, self.config, state, full, self.words.content, noted)
        self.ranks.wait()
