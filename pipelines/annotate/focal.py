"""Whether the focal length of cameras is known, which makes metres of some networks' output."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from depthtok.errors import ConfigError
from depthtok.stores.episodes import EpisodeStore


def require_focal(store: EpisodeStore, cameras: Sequence[str]) -> None:
    """Raises `ConfigError` for a camera without intrinsics in the first part of a store. Episodes
    that lack them later on are recorded as failed."""
    part = next((part for part in store.parts() if len(part.frames)), None)
    if part is None:
        return
    table, names = store.table(part, "intrinsics"), list(store.cameras)
    unknown = [name for name in cameras if np.isnan(table[:, names.index(name)]).any(-1).all()]
    if unknown:
        raise ConfigError(
            f"the focal length of camera {', '.join(map(repr, unknown))} is not known, so depth in "
            "metres is not",
            remedy="give focal_px (--set focal_px=..., in pixels of the frame), name "
            "intrinsics_key in the data set's schema and convert again, or use da3-mono-large",
        )
