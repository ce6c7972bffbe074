"""The state of a training, as `torch.save` writes it. Errors of the file system are raised as
`OSError`, where torch raises a `RuntimeError` without the reason."""

from __future__ import annotations

from collections.abc import Mapping
from io import BufferedWriter
from pathlib import Path
from typing import Any

import torch
from typing_extensions import Buffer


def save_state(state: Mapping[str, Any], path: Path) -> None:
    """Writes a dictionary with tensors as `torch.save` does. Raises `OSError`."""
    with _Noting(path.open("wb", buffering=0)) as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            if file.error is not None:
                raise file.error from error
            raise


class _Noting(BufferedWriter):
    """A file that notes why it could not be written."""

    error: OSError | None = None

    def write(self, data: Buffer) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.error = error
            raise
