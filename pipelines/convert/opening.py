"""The stage that converts what lies at a path. On the Hub a branch becomes the commit that it is
now: what is read, now and later, is of one commit."""

from __future__ import annotations

from pathlib import Path

from depthtok.remote.location import Location, located
from depthtok.sources.opening import open_files
from depthtok.sources.rlds import RldsDirectory
from pipelines.config import ConvertConfig
from pipelines.convert.files import FilesStage
from pipelines.convert.stage import ConvertStage

Converting = ConvertStage | FilesStage


def stage_of(source: Path, out: Path, config: ConvertConfig) -> Converting:
    """The stage for the data set at `source`. Raises `SourceError` where there is none."""
    source = located(source)
    source = source.at_revision if isinstance(source, Location) else source
    files = open_files(source)
    if files is not None:
        return FilesStage(files, out, config)
    return ConvertStage(RldsDirectory.open(source), out, config)
