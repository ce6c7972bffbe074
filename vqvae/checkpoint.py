"""The state of a training run in one safetensors file, replaced atomically."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes

from depthtok.errors import CorruptPart, StaleStore
from depthtok.files import write_atomic

if TYPE_CHECKING:
    from vqvae.train import Trainer

FILE = "checkpoint.safetensors"


def save(work: Path, trainer: Trainer, identity: str) -> None:
    """Write weights, optimiser and step. Only rank 0 writes, because all ranks are identical."""
    if trainer.rank != 0:
        return
    tensors = {f"model.{k}": v.contiguous() for k, v in trainer.model.state_dict().items()}
    for index, state in trainer.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value for name, value in state.items()}
    note = {"identity": identity, "step": str(trainer.step), "sha256": _digest(tensors)}
    write_atomic(work / FILE, to_bytes(tensors, metadata=note))


def _read(file: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    remedy = "use --no-resume to start over"
    try:
        with safe_open(file, framework="pt") as opened:
            note = opened.metadata()
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CorruptPart(f"{file} is damaged: {error}", remedy=remedy) from error
    if note.get("sha256") != _digest(tensors):
        raise CorruptPart(f"{file} was changed after it was written", remedy=remedy)
    return note, tensors


def _digest(tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def identity_of(work: Path) -> str | None:
    """The identity of the run whose checkpoint lies in `work`; None where none can be read."""
    try:
        with safe_open(work / FILE, framework="pt") as opened:
            return (opened.metadata() or {}).get("identity")
    except (SafetensorError, OSError):
        return None


def load(work: Path, trainer: Trainer, identity: str) -> bool:
    """Restore `trainer` from the checkpoint; returns whether there is one.

    Raises `StaleStore` for the checkpoint of a run with other settings or data, `CorruptPart` for
    one that was changed after it was written.
    """
    file = work / FILE
    if not file.is_file():
        return False
    note, tensors = _read(file)
    if note["identity"] != identity:
        raise StaleStore(
            f"{file} belongs to a training run with other settings, data or ranks",
            remedy="use --no-resume to start over, or another --out",
        )
    model = {k[len("model.") :]: v for k, v in tensors.items() if k.startswith("model.")}
    trainer.model.load_state_dict(model, strict=True)
    states: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimiser."):
            _, index, field = name.split(".")
            states.setdefault(int(index), {})[field] = value
    whole = trainer.optimiser.state_dict()
    trainer.optimiser.load_state_dict({**whole, "state": states})
    trainer.step = int(note["step"])
    return True
