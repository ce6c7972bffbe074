"""From the depth expert's tokens to the codebook (paper eq. 3 and 4).

A shallow CNN turns tokens on the image grid into one vector per code; logits are
-|x - c_k|^2 * s against the frozen codebook. |x|^2 is the same for every code and drops out of the
softmax, so this is one product: s * (2 x.c - |c|^2).

The scale s is crucial, and the paper does not state it. Here it starts small enough that the
initial cross-entropy is near ln K. With a *fixed* scale of that size even a perfect x could not get
below several nats, so s is learnt unless `depth.temperature` fixes it.

Distances do not change when x and all codes are shifted together, so both are centred on the
codebook's mean, and x is in units of its root mean square. x is not normalised: real codebooks
spread along few directions, and separating their codes takes an x that may leave their sphere (on
one such codebook, after 90 steps: 4.4 nats with x normalised, 2.9 without).

With `depth.prior` the fixed log p(code | position) of the training set is added to the logits: the
head starts from the best prediction that ignores the image, and learns what the image adds.
"""

# B batch, M cameras with codes, T tokens of a camera, W expert width, D code width, K codes
# P code positions of a camera (row by row), V vision width, N outputs for a position

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn

from depthtok.errors import WeightsError
from vla.config import DepthConfig
from vla.model.convolved import product

START_SPREAD = 0.3  # standard deviation of the first logits: CE(0) = ln K + 0.3^2 / 2


class DepthInput(nn.Module):
    """A small MLP from SigLIP's patch embeddings (before the LLM) to the depth expert."""

    def __init__(self, vision_width: int, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(vision_width, width)
        self.down = nn.Linear(width, width)

    def forward(self, x_BTV: Float[Tensor, "B T V"]) -> Float[Tensor, "B T W"]:
        return self.down(F.gelu(self.up(x_BTV), approximate="tanh"))


class DepthHead(nn.Module):
    """Tokens to predictions. Holds the frozen codebook, so that checkpoints are self-contained."""

    codebook_KD: Tensor
    log_prior_MPK: Tensor  # with `depth.prior` only

    def __init__(self, config: DepthConfig, width: int, image_grid: int) -> None:
        super().__init__()
        self.config = config
        self.image_grid, self.zoom = image_grid, config.grid // image_grid
        features = 1 if config.target == "pixels" else config.code_dim
        self.spread = nn.Conv2d(width, config.code_dim * self.zoom**2, 1)
        self.smooth = nn.Conv2d(config.code_dim, features, 3, padding=1)
        linear = config.target == "codes" and config.head == "linear"
        self.classify = nn.Linear(config.code_dim, config.codes) if linear else nn.Identity()
        self.register_buffer("codebook_KD", torch.zeros(config.codes, config.code_dim))
        if config.prior:
            shape = config.cameras, config.grid**2, config.codes
            self.register_buffer("log_prior_MPK", torch.zeros(shape))
        learnt = config.target == "codes" and config.head == "distance" and config.temperature == 0
        self.log_scale = nn.Parameter(torch.zeros(1), requires_grad=learnt)
        self.fast_cpu = False  # see `train.fast_cpu`

    @torch.no_grad()
    def set_codebook(self, vectors_KD: Float[Tensor, "K D"]) -> None:
        """Sets the codebook and initialises the scale from its spread. Raises `WeightsError` for
        one of another size."""
        if vectors_KD.shape != self.codebook_KD.shape:
            raise WeightsError(
                f"the codebook is {tuple(vectors_KD.shape)} (codes, width), the model expects"
                f" {tuple(self.codebook_KD.shape)}",
                remedy="set depth.codes and depth.code_dim to the codebook's",
            )
        self.codebook_KD.copy_(vectors_KD)
        self.log_scale.copy_(self._start())

    @torch.no_grad()
    def set_prior(self, counts_MPK: Integer[Tensor, "M P K"]) -> None:
        """Sets the prior from how often each position has each code, with add-one (Laplace)
        smoothing, so that a code never seen there is unlikely but not impossible."""
        counts_MPK = counts_MPK + 1
        self.log_prior_MPK.copy_((counts_MPK / counts_MPK.sum(dim=-1, keepdim=True)).log())

    def _start(self) -> Tensor:
        """log s such that logits of a random x have standard deviation `START_SPREAD`."""
        if self.config.temperature:
            return torch.tensor(-math.log(self.config.temperature))
        c_KD = self.centred().double()
        of_products = 4 * c_KD.square().mean() * c_KD.var(dim=0, unbiased=False).sum()
        of_norms = c_KD.square().sum(dim=1).var(unbiased=False)
        return (START_SPREAD / (of_products + of_norms).sqrt().clamp(min=1e-12)).log()

    def vectors(self, x_BNW: Float[Tensor, "B N W"]) -> Float[Tensor, "B M P F"]:
        """One vector per code position; F is the code width, or 1 for pixels."""
        grid = self.image_grid
        x = rearrange(x_BNW, "B (M y x) W -> (B M) W y x", y=grid, x=grid)
        x = self._zoomed(self.spread(x))
        x = self.smooth(F.gelu(x, approximate="tanh"))
        return rearrange(x, "(B M) F y x -> B M (y x) F", B=len(x_BNW))

    def _zoomed(self, x_bFyx: Tensor) -> Tensor:
        sizes = {"p": self.zoom, "q": self.zoom}
        if self.fast_cpu:  # features stay together in memory, as they came
            x_byxD = rearrange(x_bFyx, "b (p q D) y x -> b (y p) (x q) D", **sizes)
            return x_byxD.movedim(-1, 1)
        return rearrange(x_bFyx, "b (p q D) y x -> b D (y p) (x q)", **sizes)

    def forward(self, x_BNW: Float[Tensor, "B N W"]) -> Float[Tensor, "B M P K"]:
        """Logits (target `codes`), latents (`latents`: K is D) or disparity (`pixels`: K is 1)."""
        x_BMPF = self.vectors(x_BNW)
        if self.config.target != "codes":
            return x_BMPF.float()
        logits = self._by_code(x_BMPF)
        return logits + self.log_prior_MPK if self.config.prior else logits

    def _by_code(self, x_BMPF: Float[Tensor, "B M P F"]) -> Float[Tensor, "B M P K"]:
        if self.config.head == "linear":
            return self.classify(x_BMPF).float()
        kind = x_BMPF.device.type
        if torch.amp.is_autocast_available(kind):  # bf16 logits are too coarse
            with torch.autocast(kind, enabled=False):
                return self._logits(x_BMPF.to(self.codebook_KD))
        return self._logits(x_BMPF)

    def centred(self) -> Float[Tensor, "K D"]:
        """The code vectors minus their mean."""
        return self.codebook_KD - self.codebook_KD.mean(dim=0)

    def _logits(self, x_BMPD: Float[Tensor, "B M P D"]) -> Float[Tensor, "B M P K"]:
        c_KD = self.centred()
        if self.fast_cpu:  # two passes over the logits instead of five
            scale = self.log_scale.exp()
            x_BMPD = x_BMPD * (2 * c_KD.square().mean().sqrt() * scale)
            return product(x_BMPD, c_KD) - c_KD.square().sum(dim=1) * scale
        x_BMPD = x_BMPD * c_KD.square().mean().sqrt()
        return (2 * x_BMPD @ c_KD.T - c_KD.square().sum(dim=1)) * self.log_scale.exp()


def depth_loss(
    config: DepthConfig,
    predicted: Float[Tensor, "B M P N"],
    target: Integer[Tensor, "B M P"] | Float[Tensor, "B M P"],
    valid_BM: Bool[Tensor, "B M"],
    codebook_KD: Float[Tensor, "K D"],
) -> Float[Tensor, ""]:
    """Mean of `depth_errors` over the frames that have a target."""
    error_BM = depth_errors(config, predicted, target, codebook_KD)
    return (error_BM * valid_BM).sum() / valid_BM.sum().clamp(min=1)


def depth_errors(
    config: DepthConfig,
    predicted: Float[Tensor, "B M P N"],
    target: Integer[Tensor, "B M P"] | Float[Tensor, "B M P"],
    codebook_KD: Float[Tensor, "K D"],
) -> Float[Tensor, "B M"]:
    """Mean error over each frame's code positions: cross-entropy (paper eq. 4) of codes, squared
    error of latents or of normalised disparity in [0, 1]."""
    if config.target == "codes":
        error_BMP = F.cross_entropy(
            predicted.flatten(0, 2), target.long().flatten(), reduction="none"
        )
        error_BMP = error_BMP.view(target.shape)
    elif config.target == "latents":
        error_BMP = (predicted - codebook_KD[target.long()]).square().mean(dim=-1)
    else:
        error_BMP = (predicted[..., 0] - target).square()
    return error_BMP.mean(dim=-1)
