"""How fast a store of depth was made, in a file beside its parts: `STORE/speed.json`.

It is of one machine and one run, the last that made something, and no part of the store's content:
no digest covers it, and a store without it is whole.
"""

from __future__ import annotations

import json
import resource
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from depthtok.disk.files import write_atomic
from depthtok.errors import as_written
from depthtok.stores.spec import SPEED
from pipelines.stage import Outcome


@dataclass(frozen=True)
class Speed:
    """A run: `frames` images of all cameras took `seconds`, added up over `workers` (0: in one
    process). `peak_bytes` is the most memory that the process took, on a GPU that of the tensors
    there; None where it was spread over workers."""

    frames: int
    seconds: float
    device: str
    workers: int
    peak_bytes: int | None

    @property
    def frames_per_s(self) -> float:
        """Of one worker."""
        return self.frames / max(self.seconds, 1e-9)


def record(outcome: Outcome, device: str, workers: int) -> None:
    """Writes what a run took, if it made anything."""
    if outcome.made and outcome.frames_made:
        peak = None if workers else _peak_bytes(device)
        speed = Speed(outcome.frames_made, round(outcome.busy, 3), device, workers, peak)
        write_atomic(outcome.out / SPEED, json.dumps(asdict(speed), indent=1) + "\n")


def _peak_bytes(device: str) -> int:
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def recorded(store: Path) -> Speed | None:
    """What the last run on a store took; None where it is not recorded. Raises `CorruptPart`."""
    path = store / SPEED
    if not path.is_file():
        return None
    with as_written(path, "delete it: nothing else is made from it"):
        values = json.loads(path.read_bytes())
        speed = Speed(**values)
        if not (speed.frames > 0 and speed.seconds >= 0 and isinstance(speed.device, str)):
            raise ValueError(f"{speed} is no speed")
        return speed
