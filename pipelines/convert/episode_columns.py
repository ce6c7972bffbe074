"""convert, one part: actions, states and instructions of raw episodes, as the schema says; their
frames are written by whoever knows where they are."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from depthtok.errors import CorruptRecord
from depthtok.sources.columns import ReadableEpisode
from depthtok.sources.schema import Schema
from depthtok.stores.episodes import write_instructions
from depthtok.stores.part_writer import PartWriter
from pipelines.convert.gripper import require_gripper


class EpisodeColumns:
    """Writes into one part. `checks_grippers`: whether one out of its range is an error."""

    def __init__(self, schema: Schema, writer: PartWriter, *, checks_grippers: bool) -> None:
        self.schema, self.writer, self.checks_grippers = schema, writer, checks_grippers
        self.instructions: dict[tuple[str, ...], int] = {}
        self.left_out: dict[str, list[int]] = {}

    def write(self, raw: ReadableEpisode, file: str) -> slice | None:
        """Writes the steps to use, and returns them; None if the schema leaves the episode out.
        `file` is where it is from, for messages. Raises `SourceError`, `SchemaError`."""
        schema, writer = self.schema, self.writer
        keep = schema.keep(raw)
        steps = len(range(*keep.indices(len(raw))))
        texts = schema.instructions_of(raw)
        if reason := schema.left_out(raw, keep, texts):
            self.left_out.setdefault(reason, []).append(raw.index)
            return None
        if steps == 0:
            raise CorruptRecord("the episode has no steps (the schema's `keep` leaves none)")
        action = schema.action(raw, keep)[keep]
        if self.checks_grippers:
            episode = f"{file}, episode {raw.index}"
            require_gripper(action[:, schema.gripper_dims], schema.gripper, episode)
        texts = texts * len(raw) if len(texts) == 1 else texts
        numbers = [self.instructions.setdefault(text, len(self.instructions)) for text in texts]
        writer.append("action", action)
        writer.append("proprio", schema.proprio(raw, keep)[keep])
        writer.append("instruction", np.asarray(numbers, np.uint32)[keep])
        return keep

    def intrinsics(self, raw: ReadableEpisode) -> Float32[np.ndarray, "C 9"]:
        """Of every camera, row by row; NaN where the data set does not say."""
        rows = (self.schema.intrinsics(raw, camera.name) for camera in self.schema.cameras)
        return np.array([row or [np.nan] * 9 for row in rows], np.float32)

    def close(self) -> None:
        """Writes the texts, and notes the episodes that were left out."""
        if self.left_out:
            self.writer.meta["left_out"] = self.left_out
        write_instructions(self.writer.directory, list(self.instructions))
