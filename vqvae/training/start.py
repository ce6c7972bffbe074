"""What a training starts from: its clips, their rule, and what identifies it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from depthtok.errors import SourceError
from depthtok.normalisation import Normalisation
from vqvae.config import TokeniserConfig
from vqvae.data.clips import ClipSource
from vqvae.data.frames import cache_key
from vqvae.data.ranges import fit_normalisation, require_one_kind
from vqvae.data.sides import Sides, split, split_before
from vqvae.training import export


@dataclass(frozen=True)
class Beginning:
    """A training before its next step."""

    sides: Sides
    rule: Normalisation
    identity: str
    finished: bool  # `out` is its codebook
    by_weight: bool = True  # how its frames are chosen: see `shares_of`


def work_of(out: Path) -> Path:
    """Where the training of a codebook keeps its frames and its state, if nothing else is said."""
    return out.with_name(out.name + ".training")


def start(
    config: TokeniserConfig,
    sources: Sequence[ClipSource],
    out: Path,
    work: Path,
    *,
    held_out: Sequence[ClipSource] | None,
    resume: bool,
) -> Beginning:
    """What training into `out` starts from. With `held_out`, these clips are for evaluation and all
    of `sources` for training; else the episodes are split.

    Raises `StaleStore` if `out` is a codebook of another run, unless `resume` is off; `ConfigError`
    and `SourceError` for unsuitable data.
    """
    require_one_kind([*sources, *(held_out or [])])
    earlier = export.begun(out, work) if resume else None
    sides = (
        _split(config, sources, earlier)
        if held_out is None
        else Sides(list(sources), list(held_out))
    )
    if not any(len(source.clips) for source in sides.learn if source.weight):
        raise SourceError("there are no clips to train on", remedy="give at least one depth store")
    rule, identity, by_weight = _identity(config, sides.learn, earlier)
    finished = resume and export.is_finished(out, identity)
    return Beginning(sides, rule, identity, finished, by_weight)


def _split(config: TokeniserConfig, sources: Sequence[ClipSource], earlier: str | None) -> Sides:
    """The clips that train and those that evaluate. A run (`earlier` is its identity) that began by
    the rule of former versions goes on with it."""
    training = config.training
    if earlier is not None:
        before = split_before(sources, training.held_out, training.seed)
        if _identity(config, before.learn, earlier)[1] == earlier:
            return before
    return split(sources, training.held_out)


def _identity(
    config: TokeniserConfig, learn: Sequence[ClipSource], earlier: str | None
) -> tuple[Normalisation, str, bool]:
    """How clips are normalised, what identifies the training on them, and whether its frames are
    chosen by weight. A run (`earlier`) of a depthtok that chose them otherwise, or whose identities
    did not count the parts of stores, goes on as it began."""
    rule = fit_normalisation(config.normalisation, config.metric_range, learn)
    size, frames = config.network.size, config.training.frames

    def identity(*, parts: bool, by_weight: bool) -> str:
        key = cache_key(learn, rule, size, frames, parts=parts, by_weight=by_weight)
        return export.identity(config, key)

    now = identity(parts=True, by_weight=True)
    if earlier not in (None, now):
        for parts in (True, False):
            if identity(parts=parts, by_weight=False) == earlier:
                return rule, earlier, False
    return rule, now, True
