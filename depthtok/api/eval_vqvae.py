"""What a codebook makes of other data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from depthtok.api.depth_stores import by_task, depth_sources
from depthtok.api.flags import Cameras, Device, EpisodesMoved, Partial, SourceRoot
from depthtok.api.parameters import Flag, Positional
from depthtok.errors import as_written
from depthtok.required import require


@dataclass(frozen=True)
class CodebookEvaluation:
    """What the codebook keeps and loses of the data, and the page that shows it."""

    codebook: Path
    report: Path
    quality: dict[str, Any]


def eval_vqvae(
    codebook: Annotated[Path, Positional("CODEBOOK", "directory of a codebook")],
    depth: Annotated[list[Path], Positional("DEPTH...", "DepthStores")],
    out: Annotated[Path, "directory of the report"],
    camera: Cameras = None,
    task: Annotated[list[str] | None, "only episodes whose instruction contains this"] = None,
    clips: Annotated[int, Flag("evaluate at most this many clips; 0: all", least=0)] = 0,
    sticky: Annotated[float, "tolerance of sticky codes; 0: off"] = 0.0,
    episodes: EpisodesMoved = None,
    source_root: SourceRoot = None,
    partial: Partial = False,
    device: Device = "auto",
) -> CodebookEvaluation:
    """Evaluate a codebook on another data set's depth.

    Example: depthtok eval-vqvae runs/codebook other/depth --out runs/other
    """
    from depthtok.disk.files import require_writable, write_atomic
    from depthtok.stores.codebook import META
    from pipelines.device import choose
    from vqvae.codec import Codec
    from vqvae.data.clips import spread_over
    from vqvae.data.regions import EpisodesBehind
    from vqvae.quality.quality import assess
    from vqvae.quality.report import build, require_shown

    require(sticky >= 0, "sticky", sticky, "give 0 (off) or more")
    codec = Codec.load(codebook, choose(device))
    require_writable(out)
    training_quality = codec.codebook.quality or None
    with as_written(codebook / META, "copy the codebook again"):
        require_shown(codec.codebook)
    behind = EpisodesBehind(episodes or (), source_root)
    sources = depth_sources(depth, None, camera, partial=partial)
    if task:
        sources = by_task(sources, task, behind, both=False)[1]
    chosen = spread_over(sources, clips)
    quality, examples = assess(codec, chosen, masks=behind.masks, sticky=sticky)
    quality = {**quality, "held_out": None, "codebook": codec.codebook.fingerprint}
    dataset = ", ".join(map(str, depth)) + (f" ({', '.join(task)})" if task else "")
    page = build(codec, quality, examples, dataset=dataset, own=training_quality).write(out)
    write_atomic(out / "quality.json", json.dumps(quality, indent=1) + "\n")
    return CodebookEvaluation(codebook, page, quality)
