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

from depthtok import codebook
from depthtok.codebook import Codebook
from depthtok.config import digest
from depthtok.normalisation import Normalisation
from vqvae.codec import Codec
from vqvae.config import TokeniserConfig
from vqvae.frames import ClipSource, FrameCache
from vqvae.model import Tokeniser
from vqvae.quality import Masks, assess


def identity(config: TokeniserConfig, cache: FrameCache) -> str:
    """What a checkpoint must have in common with the training that goes on from it."""
    ranks = dist.get_world_size() if dist.is_initialized() else 1
    return digest([config.to_json(), cache.index["key"], ranks])


def finish(
    out: Path,
    trainer,
    rule: Normalisation,
    learn: Sequence[ClipSource],
    judge: Sequence[ClipSource],
    *,
    masks: Masks | None,
    demo: bool,
) -> None:
    """Write the codebook, judge it as a reader would load it, and write the judgement."""
    meta = description(trainer.config, rule, demo=demo)
    meta["codes"] = len(trainer.model.quantizer.vectors())
    meta["data"] = {
        "sources": [
            {"name": s.name, "fingerprint": s.fingerprint, "weight": s.weight} for s in learn
        ],
        "frames": len(trainer.cache),
        "skipped": trainer.cache.index["skipped"],
        "held_out": sorted({f"{s.name}|{c.key}" for s in judge for c in s.clips}),
    }
    codebook.write(out, weights_of(trainer.model), meta)
    clips = [clip for source in (judge or learn) for clip in source.clips]
    quality = assess(Codec.load(out, trainer.device), clips, masks=masks)
    quality["held_out"] = bool(judge)
    rejudge(out, quality)


def rejudge(path: Path, quality: dict) -> None:
    """Put a quality report into a codebook directory; its fingerprint stays."""
    codebook.write_meta(path, {**Codebook.load(path).meta, "quality": quality})


def compact(path: Path, out: Path) -> Path:
    """A copy of a codebook with weights rounded to float16, for half the size.

    Another codebook: rounding moves some codes, so it has its own fingerprint, and no quality
    report before it is judged.
    """
    codec = Codec.load(path)
    rounded = weights_of(codec.model.half().float())
    small = {
        name: value.astype(np.float16) if name != "vectors" and value.dtype == np.float32 else value
        for name, value in rounded.items()
    }
    return codebook.write(out, small, {**codec.codebook.meta, "quality": {}})


def weights_of(model: Tokeniser) -> dict[str, np.ndarray]:
    """All weights and flags, and the code vectors as `vectors`."""
    state = {name: value.detach().cpu().numpy() for name, value in model.state_dict().items()}
    return {**state, "vectors": model.quantizer.vectors().detach().float().cpu().numpy()}


def description(config: TokeniserConfig, rule: Normalisation, *, demo: bool) -> dict:
    """What codebook.json says before there is a judgement."""
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
