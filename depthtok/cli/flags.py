"""Flags that several commands share, spelt and told alike. Those of every stage are in
`depthtok.config.RunOptions`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Cameras = Annotated[list[str] | None, typer.Option("--camera", help="only these cameras")]
CudaGraph = Annotated[
    bool | None,
    typer.Option(
        "--cuda-graph/--no-cuda-graph", help="replay inference as one CUDA graph: so on a GPU"
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N")]
EpisodesMoved = Annotated[
    list[Path] | None,
    typer.Option("--episodes", help="the EpisodeStores behind the depth, if they moved"),
]
Json = Annotated[bool, typer.Option("--json", help="machine-readable result on stdout")]
Partial = Annotated[bool, typer.Option("--partial", help="use stores that lack parts")]
Precision = Annotated[
    str | None, typer.Option("--precision", help="float32 (the default), tf32 or bfloat16")
]
Resume = Annotated[
    bool, typer.Option("--resume/--no-resume", help="resume from the newest checkpoint")
]
Sampler = Annotated[
    str | None,
    typer.Option(
        "--sampler",
        help="plain, folded (fewer launches), compiled, or auto: plain in float32, else folded",
    ),
]
SourceRoot = Annotated[
    Path | None,
    typer.Option("--source-root", help="where the source data set lies now, if it moved"),
]
Threads = Annotated[
    int, typer.Option("--threads", min=0, max=4096, help="CPU threads of the model; 0: all cores")
]
