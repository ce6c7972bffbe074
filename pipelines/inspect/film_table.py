"""What `inspect` says of videos, and of folders of videos or images; evaluations write some."""

from __future__ import annotations

from pathlib import Path

from depthtok.errors import DepthtokError, SourceError
from depthtok.log import typed
from depthtok.sources.videos import VideoEpisode, films
from pipelines.inspect.facts import Summary, Tables

SHOWN = 20


def summary(path: Path, *, inside: bool) -> Summary | None:
    """The summary of a video, or a folder of videos or images; None for anything else,
    and for a folder that has what we know `inside`."""
    if inside or not path.exists():
        return None
    try:
        listed = films(path)
    except SourceError:
        return None
    facts: dict[str, object] = {
        "videos": sum(not film.images for film in listed),
        "folders of images": sum(bool(film.images) for film in listed),
        "next": typed("annotate", path, "--out", "DEPTH"),
    }
    columns = ("name", "frames", "size", "Hz")
    title = f"{len(listed)} films" if len(listed) > SHOWN else "Films"
    tables: Tables = {title: (columns, [_row(film) for film in listed[:SHOWN]])}
    return Summary(f"Videos or images in {path}", facts, tables)


def _row(film: VideoEpisode) -> tuple[str, str, str, str]:
    try:
        look = film.look()
    except DepthtokError as error:  # damaged, or a video without the package for it
        return film.name, "?", "?", error.problem
    size = "{1} x {0} px".format(*look.size) if look.size else "depth" if look.depth else "?"
    return (
        film.name,
        str(len(film.images) or look.frames or "?"),
        size,
        f"{look.rate:g}" if look.rate else "?",
    )
