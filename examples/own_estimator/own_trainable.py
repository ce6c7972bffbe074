"""An estimator of one's own that `finetune-depth` teaches: disparity from row and colour."""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file


class RowAndColour(torch.nn.Module):
    """A small network, pixel by pixel: four numbers to disparity, which is above 0."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(4, 16, 1), torch.nn.GELU(), torch.nn.Conv2d(16, 1, 1)
        )

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """[n, 4, h, w] to disparity [n, h, w]."""
        return torch.nn.functional.softplus(self.layers(inputs)[:, 0])


class Learns:
    """Beside what an estimator has (see `own_estimator.py`): `module` and `inputs`.

    depthtok runs the training: windows, loss, checkpoints, held-out episodes. It writes a
    .safetensors file of `module.state_dict()`, which comes back as `weights`.
    """

    kind = "disparity"  # what `module` gives; it chooses the loss
    licence = "Apache-2.0"
    version = "1"

    def __init__(self, weights: Path | None, device: str) -> None:
        self.device = device
        self.module = RowAndColour()
        if weights:
            self.module.load_state_dict(load_file(weights))
        self.module.to(device).eval()

    def inputs(self, frames: torch.Tensor) -> torch.Tensor:
        """uint8 [n, H, W, 3] on the CPU to what `module` takes."""
        n, height, width = frames.shape[:3]
        rows = torch.linspace(-1, 1, height).view(1, height, 1, 1).expand(n, -1, width, 1)
        return torch.cat((frames / 127.5 - 1, rows), dim=3).permute(0, 3, 1, 2)

    @torch.inference_mode()
    def depth(self, frames: np.ndarray) -> np.ndarray:
        """uint8 [n, H, W, 3] to float32 [n, h, w]: `module` on `inputs`."""
        inputs = self.inputs(torch.tensor(frames)).to(self.device)
        return self.module(inputs).cpu().numpy()
