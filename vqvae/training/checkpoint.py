"""The state of a training run in one safetensors file, replaced atomically.

Its metadata hold `sha256`: the digest of the whole file with that digest's own digits as zeros.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes

from depthtok.disk.files import write_atomic
from depthtok.disk.regular import unavailable
from depthtok.errors import CorruptPart, StaleStore
from vqvae.model.model import Tokeniser

FILE = "checkpoint.safetensors"
FORMAT = "2"
_START_OVER = "use --no-resume to start over"
_BLANK = b"0" * 64
_DIGEST = b'"sha256":"'


@runtime_checkable
class Resumable(Protocol):
    """What is saved of a training; of its ranks the one numbered 0 saves."""

    rank: int
    step: int
    model: Tokeniser
    optimiser: torch.optim.AdamW


def save(work: Path, trainer: Resumable, identity: str) -> None:
    """Write weights, optimiser and step. Only rank 0 writes, because all ranks are identical."""
    if trainer.rank != 0:
        return
    tensors = {f"model.{k}": v.contiguous() for k, v in trainer.model.state_dict().items()}
    for index, state in trainer.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value for name, value in state.items()}
    note = {"format": FORMAT, "identity": identity, "step": str(trainer.step)}
    blank = to_bytes(tensors, metadata={**note, "sha256": _BLANK.decode()})
    digest = hashlib.sha256(blank).hexdigest().encode()
    write_atomic(work / FILE, blank.replace(_DIGEST + _BLANK, _DIGEST + digest, 1))


def _read(file: Path, identity: str) -> tuple[Mapping[str, str], dict[str, torch.Tensor]]:
    """Metadata and tensors of the checkpoint of a run."""
    try:
        data = file.read_bytes()
        with safe_open(file, framework="pt") as opened:
            note = opened.metadata() or {}
        tensors = from_bytes(data)
    except OSError as error:
        raise unavailable(file, error, "cannot be read") from error
    except (SafetensorError, ValueError, KeyError) as error:
        raise CorruptPart(f"{file} is damaged: {error}", remedy=_START_OVER) from error
    if not (_is_whole(data) if "format" in note else _is_whole_of_old(note, tensors)):
        raise CorruptPart(f"{file} was changed after it was written", remedy=_START_OVER)
    if note.get("identity") != identity:
        raise StaleStore(
            f"{file} belongs to a training run with other settings, data or ranks",
            remedy="use --no-resume to start over, or another --out",
        )
    return note, tensors


def _is_whole(data: bytes) -> bool:
    """Whether a file's bytes are those that were written."""
    start = data.find(_DIGEST) + len(_DIGEST)
    claimed = data[start : start + len(_BLANK)]
    blank = data[:start] + _BLANK + data[start + len(_BLANK) :]
    return hashlib.sha256(blank).hexdigest().encode() == claimed


def _is_whole_of_old(note: Mapping[str, str], tensors: Mapping[str, torch.Tensor]) -> bool:
    """The same for files of older versions: they have a digest of the tensors' bytes, and their
    step is the one that the optimiser counted."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(value.detach().reshape(-1).view(torch.uint8).numpy().tobytes())
    if note.get("sha256") != digest.hexdigest():
        return False
    steps = (v for k, v in tensors.items() if k.startswith("optimiser.") and k.endswith(".step"))
    return {str(int(step)) for step in steps} <= {note.get("step")}


def identity_of(work: Path) -> str | None:
    """The identity of the run whose checkpoint lies in `work`; None where none can be read."""
    try:
        with safe_open(work / FILE, framework="pt") as opened:
            return (opened.metadata() or {}).get("identity")
    except (SafetensorError, OSError):
        return None


def step_of(work: Path, identity: str) -> int:
    """The steps that the checkpoint in `work` has behind it; 0 where there is none. Raises as
    `load` does."""
    file = work / FILE
    return int(_read(file, identity)[0]["step"]) if file.is_file() else 0


def load(work: Path, trainer: Resumable, identity: str) -> bool:
    """Restore `trainer` from the checkpoint; returns whether there is one.

    Raises `StaleStore` for the checkpoint of a run with other settings or data, `CorruptPart` for
    one that was changed after it was written.
    """
    file = work / FILE
    if not file.is_file():
        return False
    note, tensors = _read(file, identity)
    try:
        _restore(trainer, tensors)
        trainer.step = int(note["step"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise CorruptPart(
            f"{file} does not fit the training: {error}", remedy=_START_OVER
        ) from error
    return True


def _restore(trainer: Resumable, tensors: Mapping[str, torch.Tensor]) -> None:
    model = {k[len("model.") :]: v for k, v in tensors.items() if k.startswith("model.")}
    trainer.model.load_state_dict(model, strict=True)
    states: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimiser."):
            _, index, field = name.split(".")
            states.setdefault(int(index), {})[field] = value
    optimiser = trainer.optimiser.state_dict()
    trainer.optimiser.load_state_dict({**optimiser, "state": states})
