"""train-vqvae --plan: how long a training would take on this device, measured on a few steps of
its own. Nothing is kept: the frames of a few clips are cached in a temporary folder."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import distributed as dist

from depthtok.format import human_bytes, human_count, human_duration
from depthtok.normalisation import Normalisation
from vqvae.config import TokeniserConfig
from vqvae.data.clips import ClipSource, lengths_of, spread_over
from vqvae.data.frames import DepthCache
from vqvae.data.shares import shares_of
from vqvae.training import checkpoint
from vqvae.training.start import Beginning, start, work_of
from vqvae.training.train import TokeniserTrainer

CLIPS = 4  # of which frames are cached for the measurement
FRAMES = 512  # at most
STEPS = 4  # that are timed, after one that warms up


@dataclass(frozen=True)
class TrainingPlan:
    """The estimated cost of a training, from where it was stopped."""

    out: str
    clips: int
    frames: int  # in the cache
    steps: int
    batch: int
    device: str
    frame_seconds: float  # to read and normalise one
    frame_bytes: int
    step_seconds: float
    remaining: tuple[int, ...]  # steps; a second training is the one that has no quantiser
    rank: int = 0  # of this process, where torchrun started several

    @property
    def seconds(self) -> float:
        """Of cache and steps of all trainings, without the evaluation."""
        cache = self.frames * self.frame_seconds
        return sum(cache + steps * self.step_seconds for steps in self.remaining if steps)

    def lines(self) -> list[str]:
        """The plan as text."""
        if not any(self.remaining):
            return [f"train-vqvae -> {self.out}: nothing is left to do: it is trained"]
        cache = self.frames * self.frame_seconds
        total = self.steps * len(self.remaining)
        behind = total - sum(self.remaining)
        times = f" {len(self.remaining)} times" if len(self.remaining) > 1 else ""
        since = f", of which {behind:,} are done" if behind else ", from the beginning"
        return [
            f"train-vqvae -> {self.out}: {self.steps:,} steps of {self.batch} crops{times}{since}",
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
    twin: Path | None = None,
    resume: bool = True,
) -> TrainingPlan:
    """What `train` with the same arguments would take, and with `twin` that of the same network
    without a quantiser into there. Raises what `train` raises before its first step."""
    trainings = [(config, out), *([(config.continuous(), twin)] if twin else [])]
    starts = [
        start(settings, sources, to, work_of(to), held_out=held_out, resume=resume)
        for settings, to in trainings
    ]
    training = config.training
    remaining = tuple(
        0 if begin.finished else training.steps - _behind(begin, to, resume=resume)
        for begin, (_, to) in zip(starts, trainings, strict=True)
    )
    learn, rule = starts[0].sides.learn, starts[0].rule
    frames = _frames(learn)
    shares = shares_of(learn, training.frames, by_weight=starts[0].by_weight)
    wanted = sum(share.frames for share in shares)
    measured = _Measured()
    if any(remaining):
        drawn = [source for source in learn if source.weight]
        measured = _Measured.on(device, config, drawn, rule, wanted / max(frames, 1))
    return TrainingPlan(
        str(out),
        clips=sum(len(source.clips) for source in learn),
        frames=wanted,
        steps=training.steps,
        batch=training.batch,
        device=device,
        **asdict(measured),
        remaining=remaining,
        rank=dist.get_rank() if dist.is_initialized() else 0,
    )


@dataclass(frozen=True)
class _Measured:
    """What a few frames and steps took."""

    frame_seconds: float = 0.0
    frame_bytes: int = 0
    step_seconds: float = 0.0

    @classmethod
    def on(
        cls,
        device: str,
        config: TokeniserConfig,
        drawn: Sequence[ClipSource],
        rule: Normalisation,
        share: float,
    ) -> _Measured:
        """On a device, with frames of a few clips, as dense as in the training, which takes this
        share of all: depth is read by blocks, so frames far apart cost more."""
        few = spread_over(drawn, CLIPS)
        limit = min(max(round(_frames(few) * share), CLIPS), FRAMES)
        with tempfile.TemporaryDirectory(prefix="depthtok-plan-") as folder:
            before = time.perf_counter()
            cache = DepthCache.build(Path(folder), few, rule, config.network.size, limit)
            frame_seconds = (time.perf_counter() - before) / len(cache)
            step_seconds = _seconds_of_a_step(TokeniserTrainer(_longer(config), cache, device))
            return cls(frame_seconds, cache.frames[0].nbytes, step_seconds)


def _behind(begin: Beginning, out: Path, *, resume: bool) -> int:
    return checkpoint.step_of(work_of(out), begin.identity) if resume else 0


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
