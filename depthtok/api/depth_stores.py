"""DepthStores that a command reads, with warnings of what is left out of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from depthtok.errors import ConfigError
from depthtok.log import warn

if TYPE_CHECKING:
    from depthtok.stores.depth import DepthStore
    from vqvae.data.clips import ClipSource
    from vqvae.data.regions import EpisodesBehind


def opened(path: Path, *, partial: bool) -> DepthStore:
    """A DepthStore. Raises `MissingParts` unless `partial`."""
    store = _with_failures(path, partial=partial)
    for name, count in store.absent_counts().items():
        warn(f"{store.path}: {count} episodes do not have camera {name}: left out")
    return store


def _with_failures(path: Path, *, partial: bool) -> DepthStore:
    """A DepthStore, with a warning of what failed on the way to it."""
    from depthtok.stores.depth import DepthStore
    from depthtok.stores.failures import in_words, left_out

    store = DepthStore(path)
    store.require_complete(partial=partial)
    if failures := in_words(left_out(store)):
        warn(f"{store.path}: {failures}")
    return store


def by_task(
    sources: list[ClipSource], tasks: Sequence[str], behind: EpisodesBehind, *, both: bool = True
) -> tuple[list[ClipSource], list[ClipSource]]:
    """The clips of other tasks, and those with one of `tasks` in their instruction.

    Raises `ConfigError` where no clip has, or, if `both` sides are wanted, where all have; and for
    clips whose task is not known: on either side they could be wrong.
    """
    from vqvae.data.clips import where

    pairs = [(source, _named(source, tasks, behind)) for source in sources]
    learn = [where(source, (not mark for mark in named_in)) for source, named_in in pairs]
    held_out = [where(source, named_in) for source, named_in in pairs]
    sides = [held_out, learn] if both else [held_out]
    if not all(any(len(source.clips) for source in side) for side in sides):
        raise ConfigError(
            f"{', '.join(map(repr, tasks))} names no episode, or all of them",
            remedy="give part of an instruction; `depthtok inspect EPISODES` shows some",
        )
    return learn, held_out


def _named(source: ClipSource, tasks: Sequence[str], behind: EpisodesBehind) -> list[bool]:
    """For each clip, whether its instruction contains one of `tasks`."""
    from depthtok.held_out import names_task
    from depthtok.stores.depth import StoredDepth

    marks, unknown = [], []
    for clip in source.clips:
        if (episode := behind.episode(clip)) is None:
            unknown.append(clip.store.path if isinstance(clip, StoredDepth) else source.name)
        else:
            marks.append(names_task(episode.instruction(), tasks))
    if unknown:
        raise ConfigError(
            f"the tasks of {len(unknown)} clips of {unknown[0]} are not known",
            remedy="say where the EpisodeStore that it was made from lies now with --episodes DIR, "
            "or leave the store out",
        )
    return marks


def depth_sources(
    paths: list[Path], weights: list[float] | None, cameras: list[str] | None, *, partial: bool
) -> list[ClipSource]:
    """The clips of DepthStores. Raises `MissingParts` unless `partial`."""
    from depthtok.stores.lineage import outdated
    from pipelines.provenance import estimator_of
    from vqvae.data.clips import ClipSource, StoredClips

    weights = weights or [1.0] * len(paths)
    if len(weights) != len(paths):
        raise ConfigError(
            f"{len(weights)} weights for {len(paths)} stores",
            remedy="give one --sampling-weight a store",
        )
    sources = []
    for path, weight in zip(paths, weights, strict=True):
        store = _with_failures(path, partial=partial)
        clips = StoredClips(store, cameras or store.cameras)
        name, content = str(store.about["dataset"]), store.content
        estimator = estimator_of(store)
        sources.append(ClipSource(name, store.fingerprint, clips, weight, content, estimator))
        for line in outdated(store):
            warn(line)
        if clips.absent:
            warn(f"{path}: {clips.absent} clips of cameras that episodes do not have are left out")
    return sources
