"""Episodes, depth and codes in rerun's viewer, or as a file for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from depthtok.api.flags import Device, SourceRoot
from depthtok.api.parameters import Flag, Positional
from depthtok.errors import ConfigError, MissingPackage
from depthtok.signals import stoppable


@dataclass(frozen=True)
class ViewedEpisodes:
    """What was shown: the file (None where the viewer was opened), episodes of how many, and their
    frames; the names of the pictures; what could not be shown (`notes`), and how many episodes
    could not be read."""

    path: Path | None
    episodes: int
    of: int
    frames: int
    pictures: Sequence[str]
    notes: Sequence[str]
    failed: int


@dataclass(frozen=True)
class ViewPlan:
    """What would be shown: episodes of how many, frames, bytes before rerun packs them."""

    episodes: int
    of: int
    frames: int
    size: int


def view(
    stores: Annotated[list[Path], Positional("STORE...", "stores of episodes, depth and codes")],
    out: Annotated[Path | None, "write this .rrd file, and open no window"] = None,
    episodes: Annotated[
        str | None, Flag("which, such as 0,4,10-19; the first 10 by default", metavar="NUMBERS")
    ] = None,
    codebook: Annotated[Path | None, "the codes' codebook, if it has moved"] = None,
    source_root: SourceRoot = None,
    device: Device = "cpu",
    plan: Annotated[bool, "say how much that is, and do nothing"] = False,
) -> ViewedEpisodes | ViewPlan:
    """Show stores in rerun: images, depth, codes, decoded depth, actions and instructions.

    The stores that a given one was made from are shown with it, where they are at hand. Every
    episode is a recording; its timelines are the number of the frame, and seconds. A file of
    another name than .rrd is refused, and a window where the extra is not installed.

    Example: depthtok view runs/codes --out codes.rrd
    """
    from pipelines.view.episode import count_of
    from pipelines.view.gather import gather
    from pipelines.view.selection import numbers_of, size_of

    if out is not None and out.suffix != ".rrd":
        raise ConfigError(f"--out {out} is no .rrd file", remedy="name it FILE.rrd")
    shown = gather(stores, codebook=codebook, source_root=source_root)
    total = count_of(shown)
    numbers = numbers_of(episodes, total)
    if plan:
        return ViewPlan(len(numbers), total, *size_of(shown, numbers))
    if find_spec("rerun") is None:
        raise MissingPackage("rerun is not installed", remedy="pip install 'depthtok[view]'")
    from pipelines.device import choose
    from pipelines.view.writing import show, write

    chosen = choose(device)
    with stoppable():
        if out is None:
            written = show(shown, numbers, chosen)
        else:
            written = write(shown, numbers, out, chosen)
    notes = (*shown.notes, *written.missing)
    counts = written.episodes, total, written.frames
    return ViewedEpisodes(out, *counts, shown.pictures, notes, written.failed)
