"""What to type after a stage: a command that works on what it made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from depthtok.log import typed


def after_convert(episodes: Path) -> str:
    """The command that makes depth: from the data's own, where they have it."""
    from depthtok.stores.episodes import EpisodeStore

    truth = any(view.kind == "depth" for view in EpisodeStore(episodes).views)
    estimator = ("--estimator", "dataset") if truth else ()
    return typed("annotate", episodes, *estimator, "--out", episodes.parent / "depth")


def after_finetuning(
    depth: Path,
    estimator: str,
    settings: Sequence[str],
    weights: Path,
    source_root: Path | None,
) -> str:
    """The command that estimates depth with new weights, of the episodes that they learnt from."""
    episodes = episodes_behind(depth)
    out = weights.with_name(f"{weights.stem}-depth")
    moved = ("--source-root", source_root) if source_root else ()
    network = ("--estimator", estimator, "--weights", weights)
    variant = [word for setting in settings for word in ("--set", setting)]
    unfinished = partial(episodes)
    return typed("annotate", episodes, *moved, "--out", out, *network, *variant, *unfinished)


def after_codebook(depth: Path, codebook: Path, codes: Path) -> str:
    """The command that encodes depth by a new codebook."""
    return typed("tokenize", depth, "--codebook", codebook, "--out", codes, *partial(depth))


def after_codes(episodes: Path, codes: Path) -> str:
    """The command that trains on codes; for episodes without actions, such as videos, the one that
    shows what the codes are worth; and their page where `train-vla` refuses them, as their codebook
    is below the quality gate."""
    from depthtok.stores.codes import CodeStore
    from depthtok.stores.episodes import EpisodeStore
    from depthtok.stores.spec import is_store

    if is_store(episodes) and not EpisodeStore(episodes).action_dim:
        return typed("decode", codes, "--out", codes.parent / "decoded", *partial(codes))
    if is_store(codes) and CodeStore(codes).below_gate:
        return typed("report", codes)
    stores = ("--episodes", _as_from_here(episodes), "--codes", codes)
    unfinished = ("--set", "partial=true") if partial(episodes, codes) else ()
    out = codes.parent / "policy"
    return typed("train-vla", *stores, "--preset", "tiny", "--out", out, *unfinished)


def episodes_behind(store: Path) -> Path:
    """The EpisodeStore itself, or where that of depth lies now; a placeholder where it is not
    known."""
    from depthtok.remote.location import located
    from depthtok.stores.store import Store

    opened = Store(store)
    if opened.spec.type == "episodes":
        return store
    if "episodes" not in opened.spec.place:
        return Path("EPISODES")
    return located(opened.source("episodes"))


def partial(*sources: str | Path) -> tuple[str, ...]:
    """The flag without which a command refuses stores that lack parts; () where none lacks any. A
    path where no store lies, such as a placeholder, lacks nothing."""
    from depthtok.remote.location import located
    from depthtok.stores.spec import is_store
    from depthtok.stores.store import Store

    stores = (path for path in map(located, sources) if is_store(path))
    return ("--partial",) if any(Store(path).missing() for path in stores) else ()


def _as_from_here(path: Path) -> Path:
    """A path that a store recorded in full, shorter where it lies below the working directory."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
