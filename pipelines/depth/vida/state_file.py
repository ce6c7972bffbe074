"""The state of a training, as `torch.save` writes it. What the file system says is an `OSError`:
torch says something else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch


def save_state(state: Mapping[str, Any], path: Path) -> None:
    """Writes a dictionary with tensors as `torch.save` does. Raises `OSError`."""
    with path.open("wb") as file:
        noting = _Noting(file)
        try:
            torch.save(state, noting)
        except RuntimeError as error:
            if noting.error is not None:
                raise noting.error from error
            raise


class _Noting:
    """A file that notes why it could not be written."""

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
