"""True depth codes as an input that actions see: the upper bound of what depth could give them.

Nothing is predicted: each depth token gets the vectors of the codes in its cell, added to what it
has of the image. The depth expert runs as always, and actions attend to its tokens.
"""

# B batch, M cameras with codes, K code positions of a camera, N codes of the codebook, D its width
# T depth tokens, W width of the depth expert

from __future__ import annotations

from einops import rearrange
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn

from depthtok.errors import ConfigError
from vla.config import ModelConfig
from vla.model.batch import Batch, Guided, Observation


class CodesIn(nn.Module):
    """The codes of a token's cell as one vector of the depth expert's width."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.zoom, self.grid = config.depth.grid // config.vision.grid, config.depth.grid
        self.up = nn.Linear(config.depth.code_dim * self.zoom**2, config.depth_expert.width)

    def forward(
        self,
        codes_BMK: Integer[Tensor, "B M K"],
        valid_BM: Bool[Tensor, "B M"],
        codebook_ND: Float[Tensor, "N D"],
    ) -> Float[Tensor, "B T W"]:
        """Zero for the cameras that have no codes."""
        centred = codebook_ND - codebook_ND.mean(dim=0)
        unit = centred / centred.square().mean().sqrt().clamp(min=1e-12)
        x = unit[codes_BMK.long()].to(self.up.weight.dtype)
        cells = rearrange(
            x,
            "B M (y p x q) D -> B M (y x) (p q D)",
            p=self.zoom,
            q=self.zoom,
            y=self.grid // self.zoom,
        )
        return rearrange(self.up(cells) * valid_BM[:, :, None, None], "B M n W -> B (M n) W")


def guidance(seen: Observation) -> tuple[Tensor, Tensor]:
    """The codes of an observation, and which of its cameras have some. Raises `ConfigError` for an
    observation without."""
    if not isinstance(seen, Guided | Batch):
        raise ConfigError(
            "this policy's actions take true depth codes, and the observation has none",
            remedy="give `codes` by camera, or play it with `depthtok eval --codebook`",
        )
    if seen.depth_BMK.dtype.is_floating_point:
        raise ConfigError("depth as an input is codes", remedy="give --codes, not depth")
    return seen.depth_BMK, seen.depth_valid_BM
