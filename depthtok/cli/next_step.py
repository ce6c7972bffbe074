"""What to type after a stage: a command that works on what it made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from depthtok.log import typed

if TYPE_CHECKING:
    from pipelines.convert.stage import ConvertStage


def after_convert(stage: ConvertStage) -> str:
    """The command that makes depth: from the data's own, where they have it."""
    truth = any(view.kind == "depth" for view in stage.views)
    estimator = ("--estimator", "dataset") if truth else ()
    return typed("annotate", stage.out, *estimator, "--out", stage.out.parent / "depth")


def after_codes(episodes: str | Path, codes: Path) -> str:
    """The command that trains on codes; for episodes without actions, such as videos, the one that
    shows what the codes are worth."""
    from depthtok.stores.episodes import EpisodeStore
    from depthtok.stores.store import is_store

    if is_store(Path(episodes)) and not EpisodeStore(episodes).action_dim:
        return typed("decode", codes, "--out", codes.parent / "decoded")
    return typed(
        "train-vla", "--episodes", episodes, "--codes", codes, "--preset", "tiny",
        "--out", codes.parent / "policy",
    )  # fmt: skip
