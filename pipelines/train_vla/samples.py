"""Stores to what a policy trains on or is validated by; not a command itself.

`vla` knows no codec: what it needs of one, decoding and encoding, is handed to it here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from depthtok.errors import ConfigError, GateError
from depthtok.log import warn
from depthtok.required import require
from depthtok.stores.codebook import Codebook
from depthtok.stores.episodes import EpisodeStore
from pipelines.train_vla import checks
from pipelines.train_vla.stores import OpenStores, member_names
from vla.config import Config
from vla.data.dataset import Dataset
from vla.data.member import Member
from vla.data.tokenizer import Tokenizer
from vla.training.checkpoint import TrainingState


def decoder(book: Codebook | None, device: str) -> Callable | None:
    """Codes to normalised disparity; None without a codebook."""
    from vqvae.codec import Codec

    return Codec.load(book.path, device).decode if book else None


def pass_gate(book: Codebook | None, *, force: bool) -> dict[str, Any]:
    """Refuses a bad codebook. What was overridden goes into the checkpoint."""
    from vqvae.quality.gate import shortfalls

    failures = shortfalls(book.quality) if book else []
    if book and failures and not force:
        raise GateError(
            f"{book.path} is below the quality gate: {'; '.join(failures)}",
            remedy="train the codebook longer or on more data, or train anyway with "
            "--set force=true, which the checkpoint records",
        )
    if book and book.demo:
        warn(
            f"{book.path} is a demo codebook: it shows the pipeline; do not report results from it"
        )
    return {"gate_overridden": failures} if failures else {}


def fit(config: Config, opened: OpenStores, cameras: Sequence[str] | None) -> Config:
    """The settings with everything that the data decide: dimensions, cameras, the code grid. Raises
    `ConfigError` where a stated grid is not that of the codes, and for episodes without actions."""
    from vla.config import DepthConfig

    checks.require_actions(opened.episodes)
    first = opened.episodes[0]
    coded = opened.targets[0].cameras if opened.targets else ()
    names = list(cameras or config.data.cameras)
    if not names and opened.mixture:
        names = [opened.mixture.camera]
    if not names:
        names = sorted(first.cameras, key=lambda name: name not in coded)[: config.model.cameras]
    changes: dict[str, Any] = {
        "data.cameras": names,
        "model.cameras": len(names),
        "model.action_dim": first.action_dim,
    }
    if config.model.proprio_dim:
        changes["model.proprio_dim"] = first.proprio_dim
    if opened.book:
        wanted, has = config.model.depth.grid, opened.book.grid[0]
        if wanted not in (has, DepthConfig.grid):
            raise ConfigError(
                f"the depth expert is to predict {wanted}x{wanted} codes, these are {has}x{has}",
                remedy=f"train a codebook with --grid {wanted}, and tokenize with it",
            )
        changes |= {
            "model.depth.code_dim": opened.book.vectors.shape[1],
            "model.depth.codes": opened.book.vectors.shape[0],
            "model.depth.grid": opened.book.grid[0],
            "model.depth.cameras": min(config.model.depth.cameras, len(names)),
        }
    return config.updated(changes)


def datasets(
    config: Config,
    opened: OpenStores,
    weights: Sequence[float] | None,
    held_out: float,
    *,
    partial: bool,
    cache: Path | None = None,
    reader: Tokenizer | None = None,
    begun: TrainingState | None = None,
) -> tuple[Dataset, Dataset | None]:
    """What is learnt from and what validates, split by episode. `cache` is where frames are kept
    decoded, a directory a data set; `reader` is the tokenizer, if not the one the settings name. A
    run that goes on from `begun` keeps its norms, and the rules by which its episodes are held out
    and its samples drawn. Raises `ConfigError` for random crops of a frame cache, which holds no
    source's frames.
    """
    from vla.data import dataset as data
    from vla.data import tokenizer
    from vla.data.controls import controlled, fewer

    weights = opened.weights(weights or ())
    if cache is not None and config.data.crop < 1:
        raise ConfigError(
            "crops are cut from the source's frames, which a frame cache does not hold",
            remedy="leave frame_cache out, or set data.crop = 1",
        )
    reader = reader or tokenizer.load(config.data.tokenizer, config.model.vocabulary)
    joined = []
    for index, store in enumerate(opened.episodes):
        store.require_complete(partial=partial)
        member = _member(config, opened, index, weights[index], cache, partial, begun is not None)
        if begun is not None:
            member = replace(member, norms=begun.norms.get(member.name, member.norms))
        _say_absent(member.cameras, store, opened.targets[index] if opened.targets else None)
        if member.left_out:
            warn(f"{store.path}: {member.left_out} episodes without codes are left out")
        checks.say_origin(store, opened.targets[index] if opened.targets else None)
        checks.check_spread(member, config)
        joined.append(member)
    checks.check_meaning(joined, config, begun)
    learn, out = _sides(joined, held_out, checks.rule_of(begun))
    if not learn:
        raise _nothing_left(joined)
    learn = [controlled(fewer(member, config), config) for member in learn]
    if held_out and not out:
        warn("no episode is held out: nothing will be validated")
    drawn, validation = checks.drawn_by(begun), None
    if out:
        validation = data.Dataset(out, config, reader, augment=False, held_out=True, drawn=drawn)
    return data.Dataset(learn, config, reader, drawn=drawn), validation


def _nothing_left(joined: Sequence[Member]) -> ConfigError:
    """What to raise where no episode is left to train on."""
    from depthtok.stores.instructions import NAME_IT

    if any(len(member.episodes_used) for member in joined):
        why, remedy = "all are held out", "lower --held-out"
    elif any(member.left_out for member in joined):
        why = "none has codes"
        remedy = "see which failed, and why: `depthtok inspect CODES`"
    else:
        why = "none has an instruction"
        remedy = f"{NAME_IT}; or train without: --set data.empty_instructions=keep"
    return ConfigError(f"no episode is left to train on: {why}", remedy=remedy)


def _sides(joined: Sequence[Member], share: float, rule: str) -> tuple[list[Member], list[Member]]:
    """The members with the episodes to learn from, and those with episodes that validate."""
    from vla.data.member import held_out

    require(0 <= share < 1, "held_out", share, "give a share from 0 (none) to below 1")
    sides: tuple[list[Member], list[Member]] = [], []
    for member, out in zip(joined, held_out(joined, share, rule), strict=True):
        for marks, side in zip((~out, out), sides, strict=True):
            if marks.any():
                side.append(replace(member, episodes_used=member.episodes_used[marks]))
    return sides


def _usable(config: Config, store: EpisodeStore) -> np.ndarray:
    """bool[E]: which episodes may be used: all, or only those with an instruction."""
    from depthtok.stores.instructions import without

    if config.data.empty_instructions == "keep":
        return np.ones(len(store.lengths), bool)
    empty = without(store)
    if empty.any():
        warn(f"{store.path}: {int(empty.sum())} episodes without an instruction are left out")
    return ~empty


def _say_absent(cameras: Sequence[str], episodes: EpisodeStore, codes: Any) -> None:
    """Says which of the cameras to train on are masked, and in how many episodes."""
    absent = [episodes.absent_counts()] + ([_absent_in(codes)] if codes is not None else [])
    for camera in cameras:
        if count := max(counts.get(camera, 0) for counts in absent):
            total = len(episodes)
            warn(f"{episodes.path}: {camera} is absent in {count} of {total} episodes: masked")


def _absent_in(codes: Any) -> dict[str, int]:
    """By camera: in how many episodes of a CodeStore, or of what stands for one, it is absent."""
    absent: dict[str, int] = {}
    for part in codes.parts():
        for camera, indices in part.absent.items():
            absent[camera] = absent.get(camera, 0) + len(indices)
    return absent


def _member(config, opened: OpenStores, index: int, weight, cache: Path | None, partial, begun):
    from vla.data.frames import FrameCache
    from vla.data.member import member

    store, name = opened.episodes[index], member_names(opened.episodes)[index]
    cameras, frames = opened.cameras_of(store, config.data.cameras), None
    if cache is not None:
        size = config.model.vision.image_size
        frames = FrameCache.open(cache / name, store, cameras, size)
    return member(
        name,
        store,
        opened.targets[index] if opened.targets else None,
        config,
        codebook=opened.book.fingerprint if opened.book else "",
        weight=weight,
        only=_usable(config, store).nonzero()[0],
        partial=partial,
        cameras=cameras,
        frames=frames,
        begun=begun,
    )
