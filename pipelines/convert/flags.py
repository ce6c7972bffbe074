"""convert: which cameras an episode does not have, by its pictures and by flags of the data set."""

from __future__ import annotations

import numpy as np

from depthtok.sources.columns import ReadableEpisode
from depthtok.sources.schema import Schema
from depthtok.stores.part_writer import PartWriter


class Flags:
    """What flags of the data set say of cameras, held against the pictures.

    `against` counts, by camera, the episodes whose flag contradicts them: `seen` is said to be
    absent and shows something, `blank` is said to be there and is one flat colour.
    """

    def __init__(self, schema: Schema) -> None:
        self._keys = {camera.name: camera.present_key for camera in schema.cameras}
        self.against: dict[str, dict[str, int]] = {}

    def absent(self, raw: ReadableEpisode, camera: str, *, blank: bool) -> bool:
        """Whether the camera is absent: by its picture, or by its flag."""
        key = self._keys[camera]
        if key is None:
            return blank
        present = bool(np.any(raw.values(key)))
        if present == blank:
            counts = self.against.setdefault(camera, {"seen": 0, "blank": 0})
            counts["blank" if blank else "seen"] += 1
        return blank or not present

    def record(self, writer: PartWriter) -> None:
        """Notes the contradictions of a part, if there are any."""
        if self.against:
            writer.meta["flags_against_pictures"] = self.against
