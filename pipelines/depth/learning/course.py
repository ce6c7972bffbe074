"""A fine-tuning run from start to finish: initial weights, checkpoint, final weights, card."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from statistics import median

import torch

from depthtok.config import digest
from depthtok.data import DepthEstimator, DepthKind
from depthtok.disk.files import make_directory, output_errors, remove, write_atomic
from depthtok.errors import SourceError
from depthtok.json_values import JsonObject
from depthtok.required import fulfilled
from pipelines.audit.findings import summarise
from pipelines.depth.learning.evaluation import evaluate, evaluate_maps, mean_maps, name_of
from pipelines.depth.learning.finetune import FinetuneConfig, StepReport, begun, finetune
from pipelines.depth.learning.learner import Family, Learner
from pipelines.depth.truth import TrueClip
from pipelines.depth.vida.weights import read_weights, save_weights, weights_hash


@dataclass(frozen=True)
class Course:
    """The setup of a fine-tuning run. `data` is a digest of the training clips. Raises
    `ConfigError` for an output that is no .safetensors file, and for weights to start from scratch
    with."""

    family: Family
    config: FinetuneConfig
    clips: Sequence[TrueClip]
    held_out: Sequence[TrueClip]
    data: str
    out: Path
    weights: Path | None = None
    from_scratch: bool = False
    half: bool = False
    truth: Sequence[JsonObject] = ()  # what made the true depth, by store

    def __post_init__(self) -> None:
        fulfilled(
            self.out.suffix == ".safetensors",
            f"--out {self.out} is not a .safetensors file",
            "name it x.safetensors",
        )
        fulfilled(
            not self.from_scratch or self.weights is None,
            "--from-scratch takes no --weights",
            "leave out one of the two",
        )

    @property
    def checkpoint(self) -> Path:
        return self.out.with_suffix(".checkpoint.pt")

    @property
    def card(self) -> Path:
        return self.out.with_suffix(".json")

    @cached_property
    def start(self) -> Learner:
        """The network before the first step."""
        if self.from_scratch:
            return self.family.fresh(self.config.seed)
        return self.family.load(self.weights)

    @cached_property
    def start_hash(self) -> str:
        return weights_hash(self.start.network)

    @property
    def origin(self) -> str:
        """A digest of what the run starts from: its clips, and the weights."""
        return digest([self.data, self.start_hash])

    def goes_on(self) -> bool:
        """Whether a checkpoint is there that was begun from the same clips and weights."""
        return begun(self.checkpoint) == self.origin

    def train(
        self,
        device: str,
        on_step: Callable[[StepReport], None],
        should_stop: Callable[[], bool],
        *,
        resume: bool = True,
    ) -> bool:
        """Takes all remaining steps; returns False if `should_stop` ended it before the last.
        Raises `SourceError` or `ConfigError` for clips that the network cannot learn from, and for
        weights at `out` that are of another training: they are not overwritten."""
        fulfilled(
            not resume or self.checkpoint.is_file() or not self.out.exists(),
            f"{self.out} is there already, without the checkpoint of its training",
            "choose another --out, or give --no-resume to train anew and overwrite it",
        )
        self.start.require([*self.clips, *self.held_out])
        with output_errors(self.out):
            make_directory(self.out.parent)
        if not resume:
            remove(self.checkpoint)
        network = finetune(
            self.start,
            self.clips,
            self.config,
            checkpoint=self.checkpoint,
            device=torch.device(device),
            data=self.origin,
            on_step=on_step,
            should_stop=should_stop,
        )
        if network is not None:
            dtype = torch.float16 if self.half else torch.float32
            kind = None if self.family.tells_kind else self.start.kind
            save_weights(self.family.tensors(network), self.family.name, self.out, dtype, kind)
        return network is not None

    def finish(self, device: str) -> dict:
        """Evaluates the weights as written to disk; writes their card, and returns it."""
        family, size = self.family, self.config.input_size
        estimator = family.estimator(self.out, size, torch.device(device))
        relative = estimator.spec.kind is DepthKind.RELATIVE_DEPTH
        card = {
            "name": family.name,
            **family.recorded,
            "kind": str(estimator.spec.kind),
            "input_size_px": size or None,
            "weights_sha256": estimator.spec.weights,
            "parameters": sum(value.numel() for value in read_weights(self.out).values()),
            "stored_as": "float16" if self.half else "float32",
            "training": {
                "started_from": "random weights" if self.from_scratch else self.start_hash,
                "started_from_network": None if self.from_scratch else str(self.start.origin),
                "clips": self._listed(self.clips),
                "true_depth": [{k: of.get(k) for k in ("name", "licence")} for of in self.truth],
                "settings": asdict(self.config),
            },
            "held_out": {
                "clips": self._listed(self.held_out),
                "protocol": "one least-squares scale and shift in "
                f"{'depth' if relative else 'disparity'} for each clip, depth held to the clip's "
                "true range; means over the pixels of a clip, then over clips",
                **self._held_out(estimator),
            },
        }
        write_atomic(self.card, json.dumps(card, indent=2) + "\n")
        return card

    def _held_out(self, estimator: DepthEstimator) -> dict[str, object]:
        """Figures of the network, and of the mean map of each camera's training clips; of relative
        depth also the shift with which 1 / (z + shift) is nearest to true disparity. Clips that
        fail are named. Raises `SourceError` where all do."""
        if not self.held_out:
            return {"figures": {}}
        failures: dict[str, str] = {}
        audits = list(evaluate(estimator, self.held_out, failures))
        if not audits:
            raise SourceError(
                f"{self.out} is written, but none of {len(self.held_out)} held-out clips can be "
                f"evaluated; the first: {': '.join(next(iter(failures.items())))}",
                remedy="give --no-resume and more --steps, or see to those episodes",
            )
        evaluated = [clip for clip in self.held_out if name_of(clip) not in failures]
        maps = mean_maps(self.clips)
        ways = {
            "this network": audits,
            "mean map of the training clips": list(evaluate_maps(maps, evaluated)),
        }
        figures = {
            f"{camera.camera}, {way}": camera.figures
            for way, clips in ways.items()
            for camera in summarise(clips)
        }
        fits = [clip.fit for clip in audits if clip.fit.in_depth and clip.fit.scale > 0]
        shift = {"fitted_shift": median(fit.shift / fit.scale for fit in fits)} if fits else {}
        return {"figures": figures, **({"failed": failures} if failures else {}), **shift}

    def _listed(self, clips: Sequence[TrueClip]) -> list[str]:
        """The episodes with their instructions, each listed once for all cameras."""
        return list(dict.fromkeys(f"{clip.key}: {clip.instruction}" for clip in clips))
