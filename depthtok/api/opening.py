"""Stores and policies as objects."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from depthtok.stores.store import Store
    from vla.serving.policy import Policy


def open_store(path: str | Path, *, source_root: str | Path | None = None) -> Store:
    """The store at `path`, as an EpisodeStore, a DepthStore or a CodeStore. `source_root`: where
    the data set of an EpisodeStore lies now, if it moved. Raises `StoreError`."""
    from depthtok.remote.location import located
    from depthtok.stores import lineage

    return lineage.open_store(located(path), located(source_root) if source_root else None)


def load_policy(
    run: str | Path,
    *,
    dataset: str | None = None,
    device: str = "auto",
    averaged: bool = True,
    seed: int = 0,
    precision: str = "float32",
) -> Policy:
    """The policy of a training run, or of one of its checkpoints: `policy.act` answers to images,
    proprioception and an instruction. `dataset`: whose units to act in, if trained on several;
    `averaged`: the moving average of the weights, where it was kept. Raises `WeightsError`."""
    from pipelines.device import choose
    from vla.serving.policy import Policy

    return Policy.load(
        Path(run),
        dataset=dataset,
        device=choose(device),
        averaged=averaged,
        seed=seed,
        precision=precision,
    )
