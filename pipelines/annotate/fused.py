"""annotate --then-tokenize: EpisodeStore -> CodeStore, in one worker, without keeping depth.

A clip's codes need its range, which is only known once the whole clip is estimated. So each part's
depth is spilled: written as the only part of a DepthStore inside the part being made, read back by
the code of `tokenize`, and deleted. The codes are byte-identical to running the two stages one
after the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from depthtok.config import to_json
from depthtok.disk.files import remove
from depthtok.errors import ConfigError, did_you_mean
from depthtok.remote.repository import recorded
from depthtok.stores import codes, filling
from depthtok.stores.arrays import ArraySpec
from depthtok.stores.codebook import Codebook
from depthtok.stores.depth import DepthStore
from depthtok.stores.part_writer import PartWriter
from depthtok.stores.parts import Part
from depthtok.stores.spec import StoreSpec
from pipelines import tokenize
from pipelines.annotate.medians import NOTED, medians_of, noted_medians
from pipelines.annotate.stage import AnnotateStage
from pipelines.config import TokenizeConfig
from pipelines.convert.changes import ImageWatch
from pipelines.stage import Advance, Probe, Stage, Worker, WorkPart, write_part
from vqvae.codec import Codec

SPILL = "spilled-depth"  # in a part's directory; deleted before the part is committed


@dataclass(frozen=True)
class FusedStage:
    """Codes straight from episodes. `annotate.out` is not written."""

    annotate: AnnotateStage
    codebook: Codebook
    out: Path
    config: TokenizeConfig
    quality: Mapping[str, object]  # verdict of the quality gate on the codebook
    unit: str = "frames"

    @property
    def device(self) -> str:
        """The device of the annotation."""
        return self.annotate.device

    @cached_property
    def cameras(self) -> tuple[str, ...]:
        """The cameras to tokenize. Raises `ConfigError` for one that is not annotated."""
        annotated = self.annotate.cameras
        for name in self.config.camera:
            if name not in annotated:
                raise ConfigError(
                    f"camera {name!r} is not annotated", remedy=did_you_mean(name, annotated)
                )
        return self.config.camera or annotated

    @cached_property
    def spec(self) -> StoreSpec:
        current = self._spec_over(self.annotate.spec, tokenize.VERSION)
        versions = (1, tokenize.VERSION)
        earlier = [
            self._spec_over(*pair) for pair in zip(self.annotate.earlier, versions, strict=True)
        ]
        return filling.standing(self.out, current, earlier)

    def _spec_over(self, depth: StoreSpec, version: int) -> StoreSpec:
        """The codes of depth of this description, as a version of `tokenize` describes them."""
        what = {**to_json(self.config), "device": self.device.split(":")[0]}
        what |= {"depth": depth.fingerprint, "depth_what": depth.what}
        about = tokenize.about(depth, self.codebook, self.cameras, self.quality)
        locations = {**depth.place, "codebook": recorded(self.codebook.path.resolve())}
        upstream, shards = depth.upstream, depth.shards
        return StoreSpec("codes", "annotate", version, what, about, upstream, shards, locations)

    def work(self) -> list[WorkPart]:
        return self.annotate.work()

    def watch(self) -> ImageWatch:
        """Tells which parts cannot be made now, because their images are not there."""
        return self.annotate.watch()

    def median_depth(self, parts: Sequence[Part]) -> tuple[dict[str, float], list[str]]:
        """As `MakesDepth.median_depth`; of parts that an earlier version made it is not known."""
        return self.annotate.judged(noted_medians(parts))

    def arrays(self) -> Mapping[str, ArraySpec]:
        return codes.array_specs(self.cameras, self.codebook.grid)

    def build(self, device: str) -> Worker:
        estimate = self.annotate.build(device)
        codec = Codec.load(self.codebook.path, self.device)

        def fill(work: WorkPart, writer: PartWriter, advance: Advance) -> None:
            spill = writer.directory / SPILL
            filling.create(spill, self.annotate.spec)
            write_part(self.annotate, estimate, replace(work, replaces=False), advance, spill)
            depth = DepthStore(spill)
            part = depth.part(str(work.name))
            writer.meta.update({k: v for k, v in part.meta.items() if k != "absent"})
            if medians := medians_of(depth, part):
                writer.meta[NOTED] = medians
            tokenize.encode_part(
                codec, self.config, depth, part, self.cameras, writer, lambda *_, **__: None
            )
            remove(spill)

        return fill

    def probe(self, parts: Sequence[WorkPart]) -> Probe | None:
        """Like `annotate`: encoding is cheap in comparison, and codes are not compressed. Depth is
        spilled too, but only that of the parts in progress."""
        probe = self.annotate.probe(parts)
        codes = int(np.prod(self.codebook.grid))
        if probe is None:
            return None
        return replace(probe, bytes=probe.units * codes, at_most=False)

    def finish(self) -> None:
        """Does nothing: the store is complete once all parts exist."""


_: type[Stage] = FusedStage
