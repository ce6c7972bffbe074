"""Writes one part: its arrays episode by episode, and its manifest."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TypedDict

import numpy as np

from depthtok.disk.digests import file_sha256
from depthtok.stores.arrays import ArraySpecs, ArrayWriter, group_json
from depthtok.stores.manifest import MANIFEST, pack_manifest
from depthtok.stores.parts import PartName, ShardKey


def without(roots: Iterable[Path], text: str) -> str:
    """`text` with the paths below one of `roots` made relative to it."""
    for root in roots:
        text = re.sub(rf"(?<![\w./-]){re.escape(str(root))}/", "", text)
    return text


class _Failed(TypedDict):
    """A failure, as the manifest has it."""

    index: int
    stage: str
    reason: str


class PartWriter:
    """Fills one part. Episodes are begun, given rows, and ended; a failed one leaves no row.

    `roots` are the directories that the part is made from. They are left out of the reasons of
    failures: a data set that has moved gives the same bytes.
    """

    def __init__(
        self, directory: Path, name: PartName, shard: ShardKey, stage: str, arrays: ArraySpecs
    ) -> None:
        self.directory, self.name, self.shard, self.stage = directory, name, shard, stage
        self.meta: dict[str, object] = {}
        self._absent: dict[str, list[int]] = {}
        self.roots: tuple[Path, ...] = ()
        writers = {key: ArrayWriter(directory, key, spec) for key, spec in arrays.items()}
        self._by_frame = {k: w for k, w in writers.items() if not arrays[k].per_episode}
        self._by_episode = {k: w for k, w in writers.items() if arrays[k].per_episode}
        self._episodes: dict[str, list[int]] = {"index": [], "frames": []}
        self._failed: list[_Failed] = []
        self._rows = 0

    def append(self, array: str, values: np.ndarray) -> None:
        """Adds rows to the episode at hand."""
        self._by_frame[array].append(values)

    def take_back(self, array: str) -> None:
        """Drops what was added to one array for the episode at hand."""
        self._by_frame[array].truncate(self._rows)

    def absent(self, camera: str, index: int) -> None:
        """Notes that the episode `index` does not have this camera. Episodes come in order."""
        self._absent.setdefault(camera, []).append(index)
        self.meta["absent"] = self._absent

    def end(self, index: int, frames: int, **rows: np.ndarray) -> None:
        """Closes the episode `index` of the shard: every array by frame has got `frames` rows for
        it; `rows` are its rows of the arrays by episode."""
        for name, array in self._by_frame.items():
            assert array.rows == self._rows + frames, f"{name} has {array.rows - self._rows} rows"
        for name, array in self._by_episode.items():
            array.append(rows[name][None])
        self._rows += frames
        self._episodes["index"].append(index)
        self._episodes["frames"].append(frames)

    def fail(self, index: int, reason: str, stage: str | None = None) -> None:
        """Records that episode `index` could not be processed, and takes its rows back."""
        for array in self._by_frame.values():
            array.truncate(self._rows)
        reason = without(self.roots, reason)
        self._failed.append({"index": index, "stage": stage or self.stage, "reason": reason})

    def close(self, fingerprint: str, upstream: str) -> None:
        """Writes what is left and the manifest."""
        for array in (*self._by_frame.values(), *self._by_episode.values()):
            array.close()
        (self.directory / "zarr.json").write_text(group_json({}))
        files = sorted(path for path in self.directory.rglob("*") if path.is_file())
        content = {
            "format": 1,
            "part": str(self.name),
            "stage": self.stage,
            "fingerprint": fingerprint,
            "upstream": upstream,
            "shard": asdict(self.shard),
            "meta": self.meta,
            "episodes": self._episodes,
            "failed": sorted(self._failed, key=lambda entry: entry["index"]),
            "files": {
                path.relative_to(self.directory).as_posix(): [
                    path.stat().st_size,
                    file_sha256(path),
                ]
                for path in files
            },
        }
        (self.directory / MANIFEST).write_bytes(pack_manifest(content))
