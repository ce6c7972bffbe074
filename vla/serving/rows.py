"""Several observations in one pass. A row's answer must not depend on the other rows, nor on its
place among them: that holds where products compute every row in the same order, which libraries do
at one width, but do not promise. So it is tried, on the very function that will answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from depthtok.errors import ConfigError
from vla.config import ModelConfig
from vla.model.batch import Observation


def joined(seen: Sequence[Observation]) -> Observation:
    """Observations as one, row by row."""
    if len(seen) == 1:
        return seen[0]
    parts = zip(*(observation.tensors() for observation in seen), strict=True)
    return Observation(*(torch.cat(part) for part in parts))


def example(config: ModelConfig, count: int, seed: int) -> tuple[Tensor, ...]:
    """The tensors of random observations, and noise, on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    size, words = config.vision.image_size, config.max_text
    lengths = torch.randint(1, words + 1, (count, 1), generator=generator)
    observation = Observation(
        torch.randint(0, 256, (count, config.cameras, size, size, 3), generator=generator).byte(),
        torch.randint(0, config.vocabulary, (count, words), generator=generator),
        torch.arange(words)[None] < lengths,
        torch.randn(count, config.proprio_dim, generator=generator),
    )
    noise = torch.randn(count, config.chunk, config.action_dim, generator=generator)
    return *observation.tensors(), noise


def require_independent(
    function: Callable[..., Tensor], config: ModelConfig, width: int, device: torch.device
) -> None:
    """Raises `ConfigError` if one row's answer differs by a bit between places in a pass, or
    between neighbours."""

    def answers(*tensors: Tensor) -> Tensor:
        return function(*(tensor.to(device) for tensor in tensors)).cpu()

    one = example(config, 1, 0)
    alike = answers(*(tensor.expand(width, *tensor.shape[1:]).clone() for tensor in one))
    results = [*alike]
    for row in sorted({0, width // 2, width - 1}):
        others = example(config, width, 1 + row)
        for tensor, sample in zip(others, one, strict=True):
            tensor[row] = sample[0]
        results.append(answers(*others)[row])
    if not all(torch.equal(result, alike[0]) for result in results):
        raise ConfigError(
            f"answers of {width} observations in one pass depend on their neighbours on "
            f"{device.type}, in the last bits",
            remedy="give --batch 1, or another width",
        )
