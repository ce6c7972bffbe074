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
Precision = Annotated[str | None, "float32 (the default), tf32 or bfloat16"]
SAMPLER = "plain, folded (fewer launches), compiled, or auto: plain in float32, else folded"
Sampler = Annotated[str | None, SAMPLER]
CUDA_GRAPH = "replay inference as one CUDA graph: so on a GPU"
CudaGraph = Annotated[bool | None, CUDA_GRAPH]
