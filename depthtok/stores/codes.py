"""CodeStore: a grid of codes for every frame, bound to the codebook that made it.

Tables of a part: for every camera C `codes/<C>` uint8[N, h, w], and once `range` float32[E,
cameras, 2], the disparity interval that each clip's normalisation mapped to [0, 1]. Of a camera
that an episode does not have, the codes are 0, the range is NaN, and neither is given out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from depthtok.data import CodeGrid, EpisodeKey, ImageTransform
from depthtok.disk.files import slug
from depthtok.errors import (
    ConfigError,
    SourceError,
    StaleStore,
    StoreError,
    as_written,
    known_cameras,
)
from depthtok.json_values import value_of, values_of
from depthtok.remote.snapshots import here
from depthtok.stores.arrays import ArraySpec
from depthtok.stores.codebook import META, Codebook, fingerprint_at
from depthtok.stores.spec import ROOT, ROOT_REMEDY, as_size
from depthtok.stores.store import Store


def array_name(camera: str) -> str:
    """The table of a camera's codes in a part."""
    return f"codes/{slug(camera)}"


def array_specs(cameras: Sequence[str], grid: tuple[int, int]) -> dict[str, ArraySpec]:
    """The tables of a part."""
    codes = ArraySpec("uint8", grid, axes=("row", "column"))
    bounds = ArraySpec(
        "float32",
        (len(cameras), 2),
        per_episode=True,
        axes=("camera", "bound"),
        attributes={"camera": list(cameras), "bound": ["low", "high"]},
    )
    return {**{array_name(name): codes for name in cameras}, "range": bounds}


class CodeStore(Store):
    """Codes by episode key and camera."""

    TYPE = "codes"

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        with as_written(self.path / ROOT, ROOT_REMEDY):
            self.codebook = value_of(self.about, "codebook", str)
            self.cameras = values_of(self.about, "cameras", str)
            self.grid = as_size(self.about["grid"])
            self.transform = ImageTransform.from_json(value_of(self.about, "transform", dict))

    @property
    def below_gate(self) -> tuple[str, ...]:
        """The limits of the quality gate that the codebook missed when the codes were made, in
        words."""
        gate = self.about.get("gate")
        if not isinstance(gate, Mapping) or "failures" not in gate:
            return ()
        return values_of(gate, "failures", str)

    def require_codebook(self, fingerprint: str) -> None:
        """Raises `StaleStore` unless the codes are of this codebook."""
        if self.codebook != fingerprint:
            raise StaleStore(
                f"the codes in {self.path} are of codebook {self.codebook[:12]}, not of "
                f"{fingerprint[:12]}",
                remedy="give the codebook that made them, or tokenize again into another --out",
            )

    def open_codebook(self, moved: Path | None = None) -> Codebook:
        """The codebook that made the codes, at `moved` or where it was.

        Raises `StoreError` where it is in neither place, `StaleStore` where it is another one.
        """
        if moved is None and "codebook" not in self.spec.place:  # it was fetched from elsewhere
            raise StoreError(
                f"{self.path} does not say where its codebook lies ({self.codebook[:16]})",
                remedy="give it with --codebook, or --set codebook= (a directory, hf://OWNER/NAME)",
            )
        path = here(moved or self.source("codebook"))
        if not path.is_dir():
            problem = f"the codebook of {self.path} is not in {path}"
            remedy = "say where it is with --codebook DIR (train-vla: --set codebook=DIR)"
            raise StoreError(problem, remedy=remedy)
        codebook = Codebook.load(path)
        self.require_codebook(codebook.fingerprint)
        return codebook

    def is_source(self, path: Path, what: str) -> bool:
        if what != "codebook":
            return super().is_source(path, what)
        return (path / META).is_file() and fingerprint_at(path) == self.codebook

    def __contains__(self, key: EpisodeKey) -> bool:
        return self.find(key) is not None

    def absent(self, key: EpisodeKey, camera: str) -> bool:
        """Whether the episode is known not to have this camera, and so no codes of it."""
        location = self.find(key)
        return location is not None and location[0].lacks(camera, key.index)

    def grid_of(self, key: EpisodeKey, camera: str) -> CodeGrid:
        """The codes of one clip, memory-mapped. Raises `SourceError` where there are none."""
        grid = self.find_grid(key, camera)
        if grid is None:
            raise SourceError(
                f"episode {key} does not have camera {camera!r}: there are no codes of it",
                remedy="ask `absent(key, camera)` first, or `find_grid`, which gives None",
            )
        return grid

    def find_grid(self, key: EpisodeKey, camera: str) -> CodeGrid | None:
        """Like `grid_of`, but None where the episode does not have this camera. Raises
        `ConfigError` for a camera, `SourceError` for an episode that the store does not have."""
        if camera not in self.cameras:
            raise ConfigError(
                f"{self.path} has no codes of camera {camera!r}",
                remedy=known_cameras(self.cameras),
            )
        location = self.find(key)
        if location is None:
            raise SourceError(
                f"{self.path} has no codes of episode {key}",
                remedy="`depthtok inspect` lists what failed; `tokenize --retry-failed` tries anew",
            )
        part, row = location
        if part.lacks(camera, key.index):
            return None
        start, frames = int(part.starts[row]), int(part.frames[row])
        low, high = self.table(part, "range")[row, self.cameras.index(camera)].tolist()
        codes = self.table(part, array_name(camera))[start : start + frames]
        return CodeGrid(codes, self.codebook, (low, high), self.transform)
