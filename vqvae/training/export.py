"""From a finished training to a codebook directory with its quality report."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors import __version__ as safetensors_version
from torch import distributed as dist

from depthtok.config import digest
from depthtok.errors import StaleStore
from depthtok.held_out import BEFORE
from depthtok.normalisation import Normalisation
from depthtok.stores import codebook
from depthtok.stores.codebook import Codebook
from vqvae.codec import Codec
from vqvae.config import TokeniserConfig, TrainingConfig
from vqvae.data.clips import ClipSource, spread_over
from vqvae.data.sides import Sides, split, split_before
from vqvae.model.model import Tokeniser
from vqvae.quality.quality import Masks, assess
from vqvae.training import checkpoint


def identity(config: TokeniserConfig, cache_key: str) -> str:
    """Identifies a training run: its checkpoint and codebook must have the same identity."""
    ranks = dist.get_world_size() if dist.is_initialized() else 1
    return digest([config.to_json(), cache_key, ranks])


def is_finished(out: Path, identity: str) -> bool:
    """Whether `out` is the evaluated codebook of this same run. Raises `StaleStore` for that of
    another run, because codes may have been made with it."""
    if not (out / codebook.META).is_file():
        return False
    book = Codebook.load(out)
    if book.meta.get("training_identity") != identity:
        raise StaleStore(
            f"{out} is a codebook from other settings, data or ranks",
            remedy="choose another --out, or replace it with --no-resume: its codes would "
            "become meaningless",
        )
    return bool(book.quality)


def begun(out: Path, work: Path) -> str | None:
    """The identity of the run that `out` is the codebook of, or that was stopped in `work`."""
    if (out / codebook.META).is_file():
        return Codebook.load(out).meta.get("training_identity")
    return checkpoint.identity_of(work)


def finish(
    out: Path,
    trainer,
    rule: Normalisation,
    sides: Sides,
    identity: str,
    *,
    masks: Masks | None,
    demo: bool,
) -> None:
    """Write the codebook, evaluate it as loaded from disk, and write its quality report."""
    meta = description(trainer.config, rule, demo=demo)
    meta["codes"] = len(trainer.model.quantizer.vectors())
    meta["training_identity"] = identity
    chosen, was_held_out = evaluation_clips(
        sides.learn, sides.held_out, trainer.config.training.judged
    )
    meta["data"] = {
        **sides.to_json(),
        "frames": len(trainer.cache),
        "skipped": trainer.cache.index["skipped"],
        "held_out": sorted(
            {f"{s.name}|{c.key}" for s in chosen for c in s.clips} if was_held_out else ()
        ),
    }
    codebook.write(out, weights_of(trainer.model), meta)
    quality, examples = assess(Codec.load(out, trainer.device), chosen, masks=masks)
    quality["held_out"] = was_held_out
    examples.save(out)
    write_quality(out, quality)


def add_twin(path: Path, twin: Path) -> None:
    """Add to a codebook's quality the figures of the same networks without a quantiser."""
    quality, bound = Codebook.load(path).quality, Codebook.load(twin).quality
    figures = {name: bound[name] for name in ("disparity", "metres", "regions") if name in bound}
    write_quality(path, {**quality, "continuous": figures})


def add_sticky(
    path: Path,
    sources: Sequence[ClipSource],
    held_out: Sequence[ClipSource] | None,
    sticky: float,
    device: str,
) -> None:
    """Add to a codebook's quality the figures of sticky codes on the same evaluation clips.
    `sources` and `held_out` are those that it was trained with."""
    book = Codebook.load(path)
    training, learn = TrainingConfig(**book.meta["training"]), sources
    if held_out is None:
        sides = split(sources, training.held_out)
        if book.meta["data"].get("held_out_rule", BEFORE) == BEFORE:
            sides = split_before(sources, training.held_out, training.seed)
        learn, held_out = sides.learn, sides.held_out
    chosen, _ = evaluation_clips(learn, held_out, training.judged)
    quality, _ = assess(Codec.load(path, device), chosen, sticky=sticky)
    figures = {name: quality[name] for name in ("disparity", "metres", "flips") if name in quality}
    write_quality(path, {**book.quality, "with_sticky": {"sticky": sticky, **figures}})


def evaluation_clips(
    learn: Sequence[ClipSource], held_out: Sequence[ClipSource], number: int
) -> tuple[list[ClipSource], bool]:
    """At most `number` clips to evaluate on, and whether they were held out: if none were, training
    clips are used."""
    was_held_out = any(len(source.clips) for source in held_out)
    return spread_over(held_out if was_held_out else learn, number), was_held_out


def write_quality(path: Path, quality: dict) -> None:
    """Write a quality report into a codebook directory; its fingerprint stays the same."""
    codebook.write_meta(path, {**Codebook.load(path).meta, "quality": quality})


def weights_of(model: Tokeniser) -> dict[str, np.ndarray]:
    """All weights and buffers, and the code vectors as `vectors`."""
    state = {name: value.detach().cpu().numpy() for name, value in model.state_dict().items()}
    return {**state, "vectors": model.quantizer.vectors().detach().float().cpu().numpy()}


def description(config: TokeniserConfig, rule: Normalisation, *, demo: bool) -> dict:
    """The content of codebook.json before there is a quality report."""
    return {
        "network": asdict(config.network),
        "quantizer": {**asdict(config.quantizer), "levels": list(config.quantizer.levels)},
        "normalisation": rule.to_json(),
        "input": "disparity",
        "training": asdict(config.training),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "safetensors": safetensors_version,
        },
        "quality": {},
        "demo": demo,
    }
