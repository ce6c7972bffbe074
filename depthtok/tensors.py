"""Tensors to files. What the file system says of them is an `OSError`, as of any other file: the
libraries say it in words of their own."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

_NUMBER = re.compile(r"\(os error (\d+)\)")


def save_tensors(
    tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Writes a safetensors file. Raises `OSError`."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(dict(tensors), path, dict(metadata) if metadata else None)
    except SafetensorError as error:
        if found := _NUMBER.search(str(error)):
            number = int(found[1])
            raise OSError(number, os.strerror(number), str(path)) from error
        raise


def save_state(state: Mapping[str, Any], path: Path) -> None:
    """Writes a dictionary with tensors as `torch.save` does. Raises `OSError`."""
    import torch

    with path.open("wb") as file:
        noting = _Noting(file)
        try:
            torch.save(state, noting)
        except RuntimeError as error:
            if noting.error is not None:
                raise noting.error from error
            raise


class _Noting:
    """A file that notes why it could not be written: torch loses that."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()
