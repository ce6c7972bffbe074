"""Writes tensors to safetensors files, and raises an `OSError` where the file system refuses: the
library raises an error of its own."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_NUMBER = re.compile(r"\(os error (\d+)\)")


def save_tensors(
    tensors: Mapping[str, Any], path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Writes a safetensors file. Raises `OSError`."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(dict(tensors), path, dict(metadata) if metadata else None)
    except SafetensorError as error:
        if match := _NUMBER.search(str(error)):
            number = int(match[1])
            raise OSError(number, os.strerror(number), str(path)) from error
        raise
