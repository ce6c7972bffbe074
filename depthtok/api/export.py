"""export: episodes, depth and codes as a data set of LeRobot or RLDS."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from depthtok.api.parameters import BySet, Flag, Only, Positional
from depthtok.config import RunOptions
from depthtok.log import warn
from depthtok.signals import stoppable
from pipelines.export.config import ExportConfig

if TYPE_CHECKING:
    from pipelines.export.work import Exported


def export(
    episodes: Annotated[Path, Positional("EPISODES", "an EpisodeStore")],
    out: Annotated[Path, "directory of the data set, new or to go on with"],
    settings: Annotated[
        ExportConfig,
        BySet(
            *("name", "fps", "copy", "codec", "crf", "key_frames"),
            *("depth_min", "depth_max", "depth_shift", "depth_log"),
            *("molmoact", "data_file_mb", "video_file_mb", "episodes_per_shard"),
        ),
    ],
    options: Annotated[RunOptions, Only("partial", "source_root")],
    codes: Annotated[Path | None, "a CodeStore of these episodes"] = None,
    depth: Annotated[Path | None, "a DepthStore of these episodes"] = None,
    threads: Annotated[int, Flag("episodes at the same time; 0: one a core", least=0)] = 0,
) -> Exported:
    """Write episodes, with depth and codes, as LeRobot v3.0 or RLDS.

    Given again, it goes on where it was stopped. `depthtok convert DIR --schema DIR/schema.toml`
    reads the export back, if the episodes have actions.

    Example: depthtok export runs/episodes --codes runs/codes --depth runs/depth --out runs/lerobot
    """
    from depthtok.disk.locks import writing
    from depthtok.installation import cores
    from depthtok.stores.codes import CodeStore
    from depthtok.stores.depth import DepthStore
    from depthtok.stores.episodes import EpisodeStore
    from pipelines.export.joined import join
    from pipelines.export.lerobot import export_lerobot
    from pipelines.export.rlds import export_rlds

    joined = join(
        EpisodeStore(episodes, source_root=options.source_root),
        CodeStore(codes) if codes else None,
        DepthStore(depth) if depth else None,
        settings.camera,
        partial=options.partial,
    )
    joined.episodes.require_source()
    for note in joined.notes:
        warn(note)
    with stoppable(), writing(out, file=True):
        if settings.format == "rlds":
            return export_rlds(joined, settings, out)
        return export_lerobot(joined, settings, out, threads or cores())
