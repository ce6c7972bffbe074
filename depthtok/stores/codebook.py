"""A codebook directory, read and written without torch.

    codebook.safetensors   all weights and flags of the tokeniser, and `vectors` float32 [K, D]
    codebook.json          architecture, normalisation, training, quality; digests of both files

Two hashes. The *fingerprint* names what a code means: weights, architecture and normalisation. It
stays when a codebook is evaluated anew. The *digest* covers all of codebook.json, quality included,
so that nothing changes unnoticed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from depthtok.config import digest
from depthtok.data import DepthKind
from depthtok.disk.digests import file_sha256
from depthtok.disk.files import write_atomic
from depthtok.errors import (
    ConfigError,
    CorruptPart,
    DepthtokError,
    WeightsError,
    as_type,
    as_written,
)
from depthtok.normalisation import Normalisation
from depthtok.remote.snapshots import here

FORMAT = 1
WEIGHTS, META = "codebook.safetensors", "codebook.json"
_IDENTITY = ("format", "weights_sha256", "network", "quantizer", "normalisation")


@dataclass(frozen=True)
class Codebook:
    """An opened codebook directory."""

    path: Path
    vectors: Float32[np.ndarray, "K D"]
    meta: dict[str, Any]

    @classmethod
    def load(cls, path: str | Path) -> Codebook:
        """Open and check a codebook directory, or one of the Hub by its URL (hf://OWNER/NAME).

        Raises `WeightsError` where it is none, `CorruptPart` where its bytes are not those written,
        and `SourceUnavailable` where it cannot be fetched.
        """
        path = here(path)
        meta = _read_meta(path)
        if file_sha256(path / WEIGHTS) != meta["weights_sha256"]:
            raise CorruptPart(
                f"{path / WEIGHTS} is not the file that {META} describes",
                remedy="copy the codebook again; its codes would mean something else",
            )
        try:
            with safe_open(path / WEIGHTS, framework="numpy") as file:
                vectors = file.get_tensor("vectors")
        except SafetensorError as error:
            raise WeightsError(
                f"{path / WEIGHTS} holds no code vectors: {error}", remedy="train the codebook anew"
            ) from error
        expected = (meta["codes"], meta["network"]["dim"])
        if vectors.dtype != np.float32 or vectors.shape != expected:
            raise WeightsError(
                f"{path / WEIGHTS}: vectors are {vectors.dtype} {vectors.shape}, not float32 "
                f"{expected}",
                remedy="train the codebook anew",
            )
        if not np.isfinite(vectors).all():
            raise WeightsError(
                f"{path / WEIGHTS}: code vectors are not finite: its training diverged",
                remedy="train the codebook anew, with a lower training.lr",
            )
        vectors.flags.writeable = False
        return cls(path, vectors, meta)

    @cached_property
    def fingerprint(self) -> str:
        """Names what a code means: weights, architecture, normalisation."""
        return fingerprint(self.meta)

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the code grid, cells."""
        return (self.meta["network"]["grid"],) * 2

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the depth images, px."""
        return (self.meta["network"]["size"],) * 2

    @property
    def normalisation(self) -> Normalisation:
        """How disparity becomes the encoder's input."""
        return Normalisation.from_json(self.meta["normalisation"])

    @property
    def quality(self) -> dict[str, Any]:
        """The quality report of the last evaluation; empty before the first."""
        return self.meta["quality"]

    @property
    def demo(self) -> bool:
        """Whether this codebook is there to show the pipeline, not to train policies on."""
        return self.meta["demo"]


def fingerprint(meta: Mapping[str, Any]) -> str:
    """The fingerprint of a codebook's description."""
    return digest({name: meta[name] for name in _IDENTITY})


def write(path: str | Path, weights: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Path:
    """Write a codebook directory; a codebook that was there is replaced.

    `meta` holds network, quantizer, normalisation, codes, quality, demo and whatever else is worth
    keeping. The description goes last, so that an interrupted write is seen as one.
    """
    path = Path(path)
    data = save({name: np.asarray(value, order="C") for name, value in weights.items()})
    write_atomic(path / WEIGHTS, data)
    return write_meta(
        path, {**meta, "format": FORMAT, "weights_sha256": hashlib.sha256(data).hexdigest()}
    )


def write_meta(path: str | Path, meta: Mapping[str, Any]) -> Path:
    """Write the description alone, digest included: a new quality report for the same weights."""
    meta = {name: value for name, value in meta.items() if name != "digest"}
    meta["fingerprint"] = fingerprint(meta)
    meta["digest"] = digest(meta)
    text = json.dumps(meta, indent=1, sort_keys=True, allow_nan=False) + "\n"
    write_atomic(Path(path) / META, text)
    return Path(path)


def fingerprint_at(path: Path) -> str:
    """The fingerprint of the codebook in a directory, of which the weights are not read. Raises as
    `Codebook.load` does."""
    return fingerprint(_read_meta(path))


def _read_meta(path: Path) -> dict[str, Any]:
    file = path / META
    if not file.is_file() or not (path / WEIGHTS).is_file():
        raise WeightsError(
            f"{path} is not a codebook: it lacks {META} or {WEIGHTS}",
            remedy="make one with `depthtok train-vqvae DEPTH --out CODEBOOK`",
        )
    try:
        meta = json.loads(file.read_bytes())
        claimed = meta.pop("digest")
        sound = claimed == digest(meta) and meta["fingerprint"] == fingerprint(meta)
    except (ConfigError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _changed(file) from error
    if not sound:
        raise _changed(file)
    if (version := meta.get("format")) != FORMAT:
        raise WeightsError(
            f"{file} has format {version}, this version reads {FORMAT}",
            remedy="use the depthtok version it was written with, or train the codebook anew",
        )
    with as_written(file, "train the codebook anew"):
        _require_types(meta)
    return meta


def _require_types(meta: Mapping[str, Any]) -> None:
    """Raises `KeyError` or `TypeError` for a description that `write_meta` did not write."""
    for name in ("dim", "grid", "size"):
        as_type(int, meta["network"][name])
    for name, kind in (("codes", int), ("demo", bool), ("quality", dict), ("quantizer", dict)):
        as_type(kind, meta[name])
    Normalisation.from_json(meta["normalisation"])
    if meta["quality"]:
        DepthKind(meta["quality"]["kind"])
        _require_figures(meta["quality"])


_FIGURES = {"disparity", "metres", "unquantised", "codes", "flips"}  # tables of numbers alone


def _require_figures(quality: Mapping[str, Any]) -> None:
    """Raises `TypeError` or `ValueError` for a quality report that no version has written: other
    types, or tables in tables in tables."""
    for name, value in quality.items():
        if name in _FIGURES:
            for number in as_type(dict, value).values():
                if number is not None and type(number) not in (int, float):
                    raise TypeError(f"the figure {number!r:.80} of {name} is no number")
        elif name == "regions":
            for table in as_type(dict, value).values():
                _require_figures(as_type(dict, table))
        elif name in ("continuous", "with_sticky"):  # the same of another codebook
            _require_figures(as_type(dict, value))
        elif name in ("frames", "episodes"):
            as_type(int, value)
        elif name == "histogram":
            for count in as_type(list, value):
                as_type(int, count)
        elif name == "failed":
            for episode, camera, why in as_type(list, value):
                _ = [as_type(str, text) for text in (episode, camera, why)]
        elif isinstance(value, list | dict):
            raise TypeError(f"{name} is no figure")


def _changed(file: Path) -> DepthtokError:
    return CorruptPart(
        f"{file} was changed after it was written",
        remedy="copy the codebook again; edit nothing in it by hand",
    )
