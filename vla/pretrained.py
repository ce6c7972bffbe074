"""Pretrained weights that training may start from."""

from __future__ import annotations

import re
from pathlib import Path

from torch import Tensor

from depthtok.errors import MissingPackage, WeightsError
from vla import checkpoint
from vla.config import ModelConfig
from vla.openpizero import load_open_pi_zero
from vla.policy import load_model
from vla.weights import load_paligemma


def pretrained(name: str, config: ModelConfig) -> dict[str, Tensor]:
    """The weights to start from: a run or checkpoint of ours (its average if it has one, adapters
    merged), a checkpoint file of open-pi-zero, a folder with PaliGemma, or its name on the Hugging
    Face Hub (google/paligemma-3b-pt-224), downloaded or from the Hub's cache.

    Raises `WeightsError` if `name` is none of these, and `MissingPackage`.
    """
    path = Path(name)
    if (path / "state.json").is_file() or (path / "checkpoints").is_dir():
        return load_model(checkpoint.find(path)).state_dict()
    if path.is_dir():
        return load_paligemma(path, config)
    if path.is_file():
        return load_open_pi_zero(path, config)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise WeightsError(
            f"there are no weights at {name}",
            remedy="name a run, a PaliGemma folder, a checkpoint of open-pi-zero, or "
            "google/paligemma-3b-pt-224",
        )
    return load_paligemma(_download(name), config)


def _download(name: str) -> str:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as error:
        raise MissingPackage(
            f"downloading {name} needs the package `huggingface_hub`",
            remedy="pip install 'depthtok[hf]', or give a local folder",
        ) from error
    try:
        return snapshot_download(name, allow_patterns=["*.safetensors", "*.json"])
    except (HfHubHTTPError, OSError) as error:
        raise WeightsError(
            f"{name} cannot be downloaded from the Hugging Face Hub: {str(error).splitlines()[0]}",
            remedy="accept its licence there and run `hf auth login`, or give a local folder",
        ) from error
