"""Sources that are not RLDS, recognised so that the refusal says what they are and what to do."""

from __future__ import annotations

from pathlib import Path

from depthtok.errors import SourceError
from depthtok.sources.videos import VIDEOS

_HDF5 = b"\x89HDF\r\n\x1a\n"
_TO_RLDS = (
    "write it as RLDS first, with tensorflow-datasets or depthtok.sources.write.RldsWriter "
    "(docs/interfaces.md)"
)


def foreign(path: Path) -> SourceError | None:
    """What to raise for a source of a kind that is known and not RLDS; None for anything else."""
    if path.is_file():
        problem, remedy = _of_file(path)
        return SourceError(problem, remedy=remedy)
    if (path / "meta" / "info.json").is_file():
        return SourceError(
            f"{path} is a LeRobot data set, not RLDS",
            remedy=f"for depth of its videos: depthtok annotate {path} --out DIR; for its actions "
            f"{_TO_RLDS}",
        )
    return None


def _of_file(path: Path) -> tuple[str, str]:
    """Problem and remedy."""
    if path.suffix.lower() in VIDEOS:
        return (
            f"{path} is a video, not an RLDS directory",
            f"for its depth: depthtok annotate {path} --out DIR",
        )
    with path.open("rb") as file:
        if file.read(len(_HDF5)) == _HDF5:
            return f"{path} is an HDF5 file, not an RLDS directory", _TO_RLDS
    return (
        f"{path} is a file, not an RLDS directory",
        "give the local directory with features.json, such as <name>/<version>",
    )
