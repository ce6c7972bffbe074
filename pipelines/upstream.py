"""What stages ask of the store that they read, and what they take over from its parts."""

from __future__ import annotations

from collections.abc import Sequence

from depthtok.errors import ConfigError
from depthtok.stores.depth import DepthStore
from depthtok.stores.episodes import EpisodeStore
from depthtok.stores.part_writer import PartWriter
from depthtok.stores.parts import Part


def require_somewhere(store: EpisodeStore | DepthStore, chosen: Sequence[str]) -> None:
    """Raises `ConfigError` for a chosen camera that no episode has, and names those there are."""
    absent = store.absent_counts()
    episodes = sum(len(part.frames) for part in store.parts())
    nowhere = [name for name in store.cameras if absent.get(name, 0) >= episodes > 0]
    if refused := [name for name in chosen if name in nowhere]:
        others = ", ".join(name for name in store.cameras if name not in nowhere)
        raise ConfigError(
            f"no episode of {store.path} has camera {', '.join(map(repr, refused))}",
            remedy=f"cameras that there are: {others}" if others else "there is no other",
        )


def inherit(part: Part, writer: PartWriter, *, first_piece: bool = True) -> None:
    """Carries over the failures of earlier stages: counted once, by the first piece."""
    for failure in part.failures if first_piece else ():
        writer.fail(failure.key.index, failure.reason, failure.stage)
