"""Flags of several commands that are no fields of a settings class."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

Cameras = Annotated[list[str] | None, "only these cameras"]
Device = Annotated[str, "auto, cpu, cuda or cuda:N"]
EpisodesMoved = Annotated[list[Path] | None, "the EpisodeStores behind the depth, if they moved"]
Partial = Annotated[bool, "use stores that lack parts"]
Resume = Annotated[bool, "resume from the newest checkpoint"]
SourceRoot = Annotated[Path | None, "where the source data set lies now, if it moved"]
Threads = Annotated[int, "CPU threads of the model; 0: all cores"]
