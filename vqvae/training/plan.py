"""train-vqvae --plan: how long a training would take on this device, measured on a few steps of
its own. Nothing is kept: the frames of a few clips are cached in a temporary folder."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from depthtok.errors import SourceError
from depthtok.format import human_bytes, human_count, human_duration
from vqvae.config import TokeniserConfig
from vqvae.data.clips import ClipSource, lengths_of, spread_over
from vqvae.data.frames import DepthCache
from vqvae.data.ranges import fit_normalisation, require_one_kind
from vqvae.data.sides import split
from vqvae.training.train import TokeniserTrainer

CLIPS = 4  # of which frames are cached for the measurement
FRAMES = 512  # at most
STEPS = 4  # that are timed, after one that warms up


@dataclass(frozen=True)
class TrainingPlan:
    """The estimated cost of a training from its beginning."""

    out: str
    clips: int
    frames: int  # in the cache
    steps: int
    batch: int
    device: str
    frame_seconds: float  # to read and normalise one
    frame_bytes: int
    step_seconds: float
    trainings: int = 1  # 2 with the one that has no quantiser
    rank: int = 0  # of this process, where torchrun started several

    @property
    def seconds(self) -> float:
        """Of cache and steps of all trainings, without the evaluation."""
        one = self.frames * self.frame_seconds + self.steps * self.step_seconds
        return self.trainings * one

    def lines(self) -> list[str]:
        """The plan as text."""
        cache = self.frames * self.frame_seconds
        times = f" {self.trainings} times" if self.trainings > 1 else ""
        return [
            f"train-vqvae -> {self.out}: {self.steps:,} steps of {self.batch} crops{times}, "
            "from the beginning",
            f"  {human_count(self.clips)} clips; {human_count(self.frames)} of their frames are "
            f"cached: {human_bytes(self.frames * self.frame_bytes)}, {human_duration(cache)}",
            f"  about {human_duration(self.seconds)} on this {self.device}, "
            f"{self.step_seconds:.2g} s a step; then held-out clips are evaluated",
        ]


def plan(
    config: TokeniserConfig,
    sources: Sequence[ClipSource],
    out: Path,
    device: str,
    *,
    held_out: Sequence[ClipSource] | None = None,
    twin: bool = False,
) -> TrainingPlan:
    """What `train` with the same arguments would take, from its beginning. Raises `ConfigError` and
    `SourceError` for unsuitable data."""
    require_one_kind([*sources, *(held_out or [])])
    training = config.training
    learn = split(sources, training.held_out).learn if held_out is None else list(sources)
    drawn = [source for source in learn if source.weight]
    if not _frames(drawn):
        raise SourceError("there are no clips to train on", remedy="give at least one depth store")
    frames = _frames(learn)  # those of weight 0 are cached, too
    wanted = min(frames, training.frames or frames)
    rule = fit_normalisation(config.normalisation, config.metric_range, learn)
    few = spread_over(drawn, CLIPS)
    # As dense as in the training: depth is read by blocks, so frames far apart cost more.
    some = round(_frames(few) * wanted / frames)
    size, limit = config.network.size, min(max(some, CLIPS), FRAMES)
    with tempfile.TemporaryDirectory(prefix="depthtok-plan-") as folder:
        start = time.perf_counter()
        cache = DepthCache.build(Path(folder), few, rule, size, limit)
        frame_seconds = (time.perf_counter() - start) / len(cache)
        trainer = TokeniserTrainer(_longer(config), cache, device)
        step_seconds = _seconds_of_a_step(trainer)
    return TrainingPlan(
        str(out),
        clips=sum(len(source.clips) for source in learn),
        frames=wanted,
        steps=training.steps,
        batch=training.batch,
        device=device,
        frame_seconds=frame_seconds,
        frame_bytes=cache.frames[0].nbytes,
        step_seconds=step_seconds,
        trainings=2 if twin else 1,
        rank=trainer.rank,
    )


def _frames(sources: Sequence[ClipSource]) -> int:
    return sum(int(lengths_of(source.clips).sum()) for source in sources)


def _longer(config: TokeniserConfig) -> TokeniserConfig:
    """A training that has steps to time after its codes are initialised."""
    return config.with_training(steps=config.training.steps + STEPS + 1)


def _seconds_of_a_step(trainer: TokeniserTrainer) -> float:
    """Of the steps after the warm-up, with codes, as most are."""
    trainer.step = trainer.config.warmup
    try:
        trainer.advance()
        start = time.perf_counter()
        for _ in range(STEPS):
            trainer.advance()  # its figures are fetched, so a GPU has done it
        return (time.perf_counter() - start) / STEPS
    finally:
        trainer.crops.close()
