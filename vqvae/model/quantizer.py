"""Latents to codes, and how the code vectors are learned.

`forward` changes no state; `initialise` and `update` do, and only training calls them.

Shapes: N latents (any leading shape flattened), D channels, K codes.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional

from depthtok.errors import ConfigError
from vqvae.config import QuantizerConfig
from vqvae.model.search import deal, exact_float32, kmeans, nearest, sum_by_code


@dataclass(frozen=True)
class Quantized:
    """The result of quantising latents."""

    vectors: Float[Tensor, "*n D"]  # input of the decoder; passes the gradient to the latents
    codes: Int64[Tensor, "*n"] | None  # None before quantisation starts
    loss: Float[Tensor, ""]  # commitment and codebook terms


class Quantizer(nn.Module, ABC):
    """Common to all kinds. `initialised` and `step` are buffers, so they are saved with weights."""

    def __init__(self, config: QuantizerConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        self.dim = dim
        self.initialised = nn.Buffer(torch.tensor(False))
        self.step = nn.Buffer(torch.tensor(0))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Quantizer:
        """As for any module, but `initialised` and `step` stay on the host: reading them from a
        GPU would wait at every step for all that runs there."""
        host = self.initialised, self.step
        super()._apply(fn, recurse)
        self.initialised, self.step = host
        return self

    @abstractmethod
    def vectors(self) -> Float[Tensor, "K D"]:
        """The code vectors as the decoder gets them."""

    def searched(self, latents: Float[Tensor, "*n D"]) -> Float[Tensor, "*n S"]:
        """Latents in the space where the nearest code is searched."""
        return _to_sphere(latents.float()) if self.config.cosine else latents.float()

    def targets(self) -> Float[Tensor, "K S"]:
        """The code vectors in the search space."""
        return self.vectors()

    def unquantised(self, latents: Float[Tensor, "*n D"]) -> Float[Tensor, "*n D"]:
        """The decoder's input without rounding to codes."""
        return self.searched(latents)

    def codes(self, latents: Float[Tensor, "*n D"]) -> Int64[Tensor, "*n"]:
        """The code of each latent."""
        points = self.searched(latents)
        return nearest(points.flatten(0, -2), self.targets()).reshape(latents.shape[:-1])

    def forward(self, latents: Float[Tensor, "*n D"]) -> Quantized:
        """Quantise. Before `initialise` latents pass through unchanged, in training and after."""
        codes = self.codes(latents.detach()) if self.initialised else None
        latents = self.unquantised(latents)
        if codes is None:
            return Quantized(latents, None, latents.new_zeros(()))
        chosen = self.vectors()[codes]
        loss = self.config.beta * functional.mse_loss(latents, chosen.detach())
        if self.config.kind in ("gradient", "simvq"):
            loss = loss + functional.mse_loss(chosen, latents.detach())
        passed = _through(latents, chosen.detach(), self.config.estimator)
        return Quantized(passed, codes, loss)

    @abstractmethod
    def initialise(self, latents: Float[Tensor, "N D"], seed: int) -> None:
        """Initialise the vectors, once, from latents (of all ranks; rank 0 decides)."""

    @torch.no_grad()
    def update(self, latents: Float[Tensor, "*n D"], codes: Int64[Tensor, "*n"]) -> None:
        """The part of a training step's learning that does not use gradients."""
        self.step.add_(1)


class VectorQuantizer(Quantizer):
    """One free vector per code, learned by running averages (`ema`) or gradients (`gradient`)."""

    def __init__(self, config: QuantizerConfig, dim: int) -> None:
        super().__init__(config, dim)
        # Random vectors with about the spread of normalised latents: the standard initialisation.
        start = torch.randn(config.codes, dim)
        start = _to_sphere(start) if config.cosine else start
        self.book = nn.Parameter(start, requires_grad=config.kind == "gradient")
        self.counts = nn.Buffer(torch.ones(config.codes))
        self.sums = nn.Buffer(start.clone())

    def vectors(self) -> Float[Tensor, "K D"]:
        return _to_sphere(self.book) if self.config.cosine else self.book

    @torch.no_grad()
    def initialise(self, latents: Float[Tensor, "N D"], seed: int) -> None:
        if self.config.kmeans:
            samples = self.searched(_gather(latents))
            book = kmeans(samples, self.config.codes, self.config.kmeans, seed)
            self.book.copy_(_from_rank0(_to_sphere(book) if self.config.cosine else book))
        self.counts.fill_(1.0)
        self.sums.copy_(self.book)
        self.initialised.fill_(True)

    @torch.no_grad()
    def update(self, latents: Float[Tensor, "*n D"], codes: Int64[Tensor, "*n"]) -> None:
        super().update(latents, codes)
        flat = self.searched(latents).reshape(-1, self.dim)
        count, total = _totals(flat, codes.reshape(-1), self.config.codes)
        decay = self.config.decay
        self.counts.mul_(decay).add_(count, alpha=1 - decay)
        if self.config.kind != "ema":
            return
        self.sums.mul_(decay).add_(total, alpha=1 - decay)
        alive = (self.counts > 1e-6)[:, None]  # a code without any weight stays where it is
        mean = self.sums / self.counts.clamp_min(1e-6)[:, None]
        self.book.copy_(torch.where(alive, mean, self.book))
        if self.config.reseed:
            self._reseed(flat)

    def _reseed(self, flat_ND: Float[Tensor, "N D"]) -> None:
        """Move rarely used codes onto latents of this step. Count and sum are reset with them: with
        a stale sum the next average would pull the code back."""
        threshold = self.config.reseed * self.counts.mean()
        dead = (self.counts < threshold)[:, None]
        draw = torch.Generator().manual_seed(int(self.step))
        number = self.config.codes  # as if all were dead: how many are would have to be waited for
        pick = torch.randint(len(flat_ND), (number,), generator=draw)
        fresh = _from_rank0(deal(_gather(flat_ND[pick.to(flat_ND.device)]), number))
        fresh = fresh[(dead[:, 0].cumsum(0) - 1).clamp_min(0)]  # the first one for the first dead
        self.book.copy_(torch.where(dead, fresh, self.book))
        self.counts.copy_(torch.where(dead[:, 0], threshold, self.counts))
        self.sums.copy_(torch.where(dead, fresh * threshold, self.sums))


class SimVQ(Quantizer):
    """A frozen random codebook under one learned linear map, so that all codes move together."""

    def __init__(self, config: QuantizerConfig, dim: int) -> None:
        super().__init__(config, dim)
        self.book = nn.Buffer(torch.randn(config.codes, dim) / math.sqrt(dim))
        self.map = nn.Linear(dim, dim, bias=False)

    def vectors(self) -> Float[Tensor, "K D"]:
        with exact_float32(self.book.device):
            mapped = self.map(self.book)
        return _to_sphere(mapped) if self.config.cosine else mapped

    @torch.no_grad()
    def initialise(self, latents: Float[Tensor, "N D"], seed: int) -> None:
        self.initialised.fill_(True)


class FSQ(Quantizer):
    """Finite scalar quantisation: a few dimensions, each rounded to a few levels; no codebook.
    Raises `ConfigError` for levels of more codes than a byte holds."""

    def __init__(self, config: QuantizerConfig, dim: int) -> None:
        super().__init__(config, dim)
        levels = config.levels
        if math.prod(levels) > 256:
            raise ConfigError(
                f"levels {levels} make {math.prod(levels)} codes, but a code is one byte",
                remedy="choose levels whose product is at most 256, for example 8,6,5",
            )
        self.project = nn.Linear(dim, len(levels))
        self.expand = nn.Linear(len(levels), dim)
        points = torch.cartesian_prod(*[torch.arange(n) for n in levels])
        self.highest = nn.Buffer(torch.tensor(levels) - 1.0)
        self.points = nn.Buffer(points.reshape(-1, len(levels)).float())

    def vectors(self) -> Float[Tensor, "K D"]:
        return self._expanded(self.points)

    def searched(self, latents: Float[Tensor, "*n D"]) -> Float[Tensor, "*n S"]:
        """Each dimension in [0, its number of levels - 1]."""
        with exact_float32(latents.device):
            return torch.sigmoid(self.project(latents.float())) * self.highest

    def targets(self) -> Float[Tensor, "K S"]:
        return self.points

    def unquantised(self, latents: Float[Tensor, "*n D"]) -> Float[Tensor, "*n D"]:
        return self._expanded(self.searched(latents))

    def forward(self, latents: Float[Tensor, "*n D"]) -> Quantized:
        points = self.searched(latents)
        codes = self.codes(latents.detach()) if self.initialised else None
        if codes is not None:
            points = points + (self.points[codes] - points).detach()
        return Quantized(self._expanded(points), codes, points.new_zeros(()))

    def _expanded(self, points: Float[Tensor, "*n S"]) -> Float[Tensor, "*n D"]:
        with exact_float32(points.device):
            return self.expand(2 * points / self.highest - 1)

    @torch.no_grad()
    def initialise(self, latents: Float[Tensor, "N D"], seed: int) -> None:
        self.initialised.fill_(True)


class Continuous(Quantizer):
    """No quantiser: the upper bound for the others."""

    def vectors(self) -> Float[Tensor, "K D"]:
        return torch.zeros(0, self.dim)

    def codes(self, latents: Float[Tensor, "*n D"]) -> Int64[Tensor, "*n"]:
        """Raises `ConfigError`: there are none."""
        raise ConfigError(
            "a continuous codebook has no codes",
            remedy="train with another `quantizer.kind` than none",
        )

    def initialise(self, latents: Float[Tensor, "N D"], seed: int) -> None:
        """Does nothing: latents always pass through."""


def build(config: QuantizerConfig, dim: int, seed: int) -> Quantizer:
    """The quantiser selected by `config`, with random parts drawn from `seed`."""
    kinds: dict[str, type[Quantizer]] = {"simvq": SimVQ, "fsq": FSQ, "none": Continuous}
    kind = kinds.get(config.kind, VectorQuantizer)  # ema, gradient
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(config, dim)


def _through(z: Tensor, vectors: Tensor, estimator: str) -> Tensor:
    """The chosen vectors, with a gradient to the latents.

    `straight` copies the gradient (straight-through). `rotation` rotates and scales it by the
    transform that maps the latent to its vector (Fifty et al., 2024).
    """
    if estimator == "straight":
        return z + (vectors - z).detach()
    length_z = z.norm(dim=-1, keepdim=True).clamp_min(1e-6).detach()
    length_v = vectors.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    unit_z, unit_v = (z / length_z).detach(), vectors / length_v
    middle = functional.normalize(unit_z + unit_v, dim=-1)
    turned = z - 2 * (z * middle).sum(-1, keepdim=True) * middle
    turned = turned + 2 * (z * unit_z).sum(-1, keepdim=True) * unit_v
    return turned * (length_v / length_z)


def _to_sphere(x: Tensor) -> Tensor:
    """Vectors normalised to a root mean square of 1."""
    return functional.normalize(x, dim=-1) * math.sqrt(x.shape[-1])


def _totals(flat_ND: Tensor, codes_N: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """`sum_by_code` over all ranks."""
    count, total = sum_by_code(flat_ND, codes_N, number)
    if dist.is_initialized():
        both = torch.cat([count[:, None], total], dim=1)
        dist.all_reduce(both)
        both = _from_rank0(both)  # rank 0's rounding for all, whatever the backend's reduction
        count, total = both[:, 0], both[:, 1:]
    return count, total


def _gather(x: Tensor) -> Tensor:
    """The rows of all ranks (each has equally many), interleaved by rank."""
    if not dist.is_initialized():
        return x
    parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, x.contiguous())
    return torch.stack(parts, dim=1).flatten(0, 1)  # interleaved, so that any prefix mixes ranks


def _from_rank0(x: Tensor) -> Tensor:
    if dist.is_initialized():
        x = x.contiguous()
        dist.broadcast(x, src=0)
    return x
