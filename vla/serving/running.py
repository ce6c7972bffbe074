"""How a policy's model is run: its precision, its sampler, its width. All are chosen once, before
the first action, and told with every description of the policy, because each can change the last
bits of an action.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from depthtok.errors import ConfigError, did_you_mean
from vla.config import ModelConfig
from vla.model.model import QDepthVLA

PRECISIONS = ("float32", "tf32", "bfloat16")
SAMPLERS = ("auto", "plain", "folded", "compiled")
WIDEST = 64  # observations in one pass


@dataclass(frozen=True)
class Running:
    """How a model is run. `sampler`: `plain` is the model as it was trained, `folded` the same
    function in fewer launches (`vla/serving/sampling.py`), `compiled` that with its elementwise
    parts compiled. `auto` is plain in float32, whose bytes are those of all earlier versions, and
    folded otherwise. `cuda_graph` None: on a CUDA device. `batch` observations pass at once,
    always."""

    precision: str = "float32"
    sampler: str = "auto"
    cuda_graph: bool | None = None
    batch: int = 1

    def on(self, device: torch.device, model: ModelConfig) -> Running:
        """What is left open, decided for a device and a model. Raises `ConfigError` for what
        cannot be had there."""
        for name, choices in (("precision", PRECISIONS), ("sampler", SAMPLERS)):
            value = getattr(self, name)
            if value not in choices:
                raise ConfigError(
                    f"{name} = {value!r} is not known", remedy=did_you_mean(value, list(choices))
                )
        if not 1 <= self.batch <= WIDEST:
            raise ConfigError(f"batch = {self.batch}", remedy=f"give 1 to {WIDEST}")
        if self.precision == "tf32" and device.type != "cuda":
            raise ConfigError(
                f"tf32 is for NVIDIA GPUs, not for {device.type}",
                remedy="give --precision float32 or bfloat16 here",
            )
        if model.depth.target == "input":
            self._require_plain()
            return replace(self, sampler="plain", cuda_graph=False)
        graph = device.type == "cuda" if self.cuda_graph is None else self.cuda_graph
        return replace(self, sampler=self._sampler(model), cuda_graph=graph)

    def _require_plain(self) -> None:
        """Raises `ConfigError` for what is not there where actions take true depth codes."""
        if self.sampler not in ("auto", "plain") or self.cuda_graph or self.batch > 1:
            raise ConfigError(
                "a policy that takes true depth codes runs plainly, one observation a pass",
                remedy="leave --sampler, --cuda-graph and --batch out",
            )

    def _sampler(self, model: ModelConfig) -> str:
        shared = model.vlm.kv_heads
        if self.sampler == "auto":
            return "plain" if self.precision == "float32" or shared != 1 else "folded"
        if self.sampler != "plain" and shared != 1:
            raise ConfigError(
                f"the {self.sampler} sampler needs one key head, the model has {shared}",
                remedy="give --sampler plain",
            )
        return self.sampler

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32

    def told(self) -> dict[str, str | int]:
        """What decides the bits of an action, for descriptions. (A CUDA graph does not.)"""
        return {"precision": self.precision, "sampler": self.sampler, "batch": self.batch}

    @contextmanager
    def arithmetic(self) -> Iterator[None]:
        """Within the block float32 products are TF32 or not, as `precision` says; what other code
        of the process had set, for matrix products and for cuDNN, is restored."""
        tf32 = self.precision == "tf32"
        before = torch.get_float32_matmul_precision()
        convolutions = torch.backends.cudnn.allow_tf32
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = tf32
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)
            torch.backends.cudnn.allow_tf32 = convolutions


def cast(model: QDepthVLA, dtype: torch.dtype) -> None:
    """Casts a model's weights in place, but for the depth head, whose logits bfloat16 is too
    coarse for."""
    for name, part in model.named_children():
        if name != "depth_head":
            part.to(dtype)
