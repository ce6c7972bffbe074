"""The memory of a device in a training: what fills it, and what fits. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

GIB = 2**30
CARDS = {"H100": 79.0, "H200": 139.8}  # GiB that programs can use
USABLE = 0.95  # of it: the rest is lost between tensors


@dataclass(frozen=True)
class Memory:
    """Bytes on one device. `per_sample` are activations of a pass, `casts` what is saved whatever
    its size: the weights in half precision."""

    weights: float
    moments: float
    average: float
    gradients: float
    casts: float
    per_sample: float

    def peak(self, samples: int, passes: int = 1) -> float:
        """At passes of so many samples: either when the backward pass begins (where gradients lie
        only if there was a pass before) or when it ends."""
        return max(self._begins(samples, passes), self._state + self.gradients)

    def fits(self, gib: float, passes: int = 1) -> int:
        """The largest pass that a device has room for; 0 if none."""
        room = USABLE * gib * GIB
        if self._state + self.gradients > room:
            return 0
        return max(0, int((room - self._begins(0, passes)) // self.per_sample))

    @property
    def _state(self) -> float:
        return self.weights + self.moments + self.average

    def _begins(self, samples: int, passes: int) -> float:
        gradients = self.gradients if passes > 1 else 0
        return self._state + gradients + self.casts + samples * self.per_sample
