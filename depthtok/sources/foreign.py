"""Recognises sources that are not RLDS, so that the error says what they are and what to do."""

from __future__ import annotations

from pathlib import Path

from depthtok.disk.regular import require_file
from depthtok.errors import SourceError
from depthtok.remote.errors import Refused
from depthtok.remote.location import is_remote
from depthtok.sources.videos import IMAGES, VIDEOS

_HDF5 = b"\x89HDF\r\n\x1a\n"
UNFINISHED = ".export"  # in a directory that `depthtok export` has begun, and not finished
_DEMOS = (
    "demonstrations of LIBERO and robomimic: depthtok convert {0} --out EPISODES; those of LIBERO "
    "replayed, with true depth: depthtok collect --suite SUITE --demos {0} --out DIR"
)


def is_lerobot(path: Path) -> bool:
    """Whether a folder is a LeRobot data set. A server that refuses to say has none."""
    try:
        return (path / "meta" / "info.json").is_file()
    except Refused:
        return False


def foreign_folder(path: Path) -> SourceError:
    """The error for a LeRobot data set in place of an RLDS directory."""
    return SourceError(
        f"{path} is a LeRobot data set, not RLDS",
        remedy=f"depthtok convert {path} --out EPISODES reads it",
    )


def foreign_file(path: Path) -> SourceError:
    """The error for a file in place of an RLDS directory."""
    if path.suffix.lower() in VIDEOS:
        return SourceError(
            f"{path} is a video, not an RLDS directory",
            remedy=f"for its depth: depthtok annotate {path} --out DIR",
        )
    require_file(path)
    with path.open("rb") as file:
        if file.read(len(_HDF5)) == _HDF5:
            remedy = _DEMOS.format(path)
            return SourceError(f"{path} is an HDF5 file, not an RLDS directory", remedy=remedy)
    return SourceError(
        f"{path} is a file, not an RLDS directory",
        remedy="give the local directory with features.json, such as <name>/<version>",
    )


def folder_remedy(path: Path) -> str:
    """The remedy for a folder that is not an RLDS directory, by the files in it; "" if unknown."""
    if (path / UNFINISHED).is_dir():
        return "it is an export that was stopped: run the same `depthtok export` again"
    suffixes = {file.suffix.lower() for file in path.iterdir()}
    if suffixes & {".hdf5", ".h5"}:
        return _DEMOS.format("FILE")
    if suffixes & {*VIDEOS, *IMAGES}:
        if is_remote(path):
            return "copy its videos or images to a disk: depthtok annotate reads them there"
        return f"for depth of its videos or images: depthtok annotate {path} --out DIR"
    return ""
