"""Files from the Hugging Face Hub, downloaded or from its cache (extra `hf`)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from depthtok.errors import MissingPackage, WeightsError


def is_name(name: str) -> bool:
    """Whether this is a name on the Hub (google/paligemma-3b-pt-224), and no path that exists."""
    return bool(re.fullmatch(r"[\w.-]+/[\w.-]+", name)) and not Path(name).exists()


def snapshot(name: str, patterns: Sequence[str]) -> Path:
    """A folder with the files of `name` that match. Raises `MissingPackage` and `WeightsError`."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as error:
        raise MissingPackage(
            f"downloading {name} needs the package `huggingface_hub`",
            remedy="pip install 'depthtok[hf]', or give a local folder",
        ) from error
    try:
        return Path(snapshot_download(name, allow_patterns=list(patterns)))
    except (HfHubHTTPError, OSError) as error:
        raise WeightsError(
            f"{name} cannot be downloaded from the Hugging Face Hub: {str(error).splitlines()[0]}",
            remedy="accept its licence there and run `hf auth login`, or give a local folder",
        ) from error
