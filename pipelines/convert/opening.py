"""The stage that converts what lies at a path."""

from __future__ import annotations

from pathlib import Path

from depthtok.sources.opening import open_files
from depthtok.sources.rlds import RldsDirectory
from pipelines.config import ConvertConfig
from pipelines.convert.files import FilesStage
from pipelines.convert.stage import ConvertStage

Converting = ConvertStage | FilesStage


def stage_of(source: Path, out: Path, config: ConvertConfig) -> Converting:
    """The stage for the data set at `source`. Raises `SourceError` where there is none."""
    files = open_files(source)
    if files is not None:
        return FilesStage(files, out, config)
    return ConvertStage(RldsDirectory.open(source), out, config)
