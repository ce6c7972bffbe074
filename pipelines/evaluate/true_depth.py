"""A policy that takes true depth codes, played in a simulator: the upper bound in the closed loop.

Its codes come from the simulator's depth. A stored clip is normalised by the quantiles of all of
its frames; a trial in progress has those so far, so the first codes are by the first frame alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from depthtok.data import QUANTILES, DepthClip, DepthKind, ImageTransform
from pipelines.sim.rollout import Player
from vqvae.codec import Codec


class TrueDepth:
    """The policy and what makes codes of depth. `wants_depth` asks `play` for it."""

    wants_depth = True

    def __init__(self, policy: Player, guides: Sequence[str], codebook: Path, device: str) -> None:
        """`guides` are the cameras whose codes it takes."""
        self._policy, self._codec, self._guides = policy, Codec.load(codebook, device), guides
        self.cameras = getattr(policy, "cameras", None)
        self.meaning = getattr(policy, "meaning", None)
        self._metres: dict[str, list[Float32[np.ndarray, "H W"]]] = {}

    def reset(self, seed: int) -> None:
        """Starts a trial."""
        self._policy.reset(seed)
        self._metres = {}

    def act(self, observation: Mapping[str, Any]) -> Float32[np.ndarray, "C A"]:
        """A chunk of actions for an observation with `depth_m` (float32 [H W] by camera)."""
        depth = observation["depth_m"]
        codes = {camera: self._codes(camera, depth[camera]) for camera in self._guides}
        return self._policy.act({**observation, "codes": codes})

    def _codes(self, camera: str, metres: Float32[np.ndarray, "H W"]) -> UInt8[np.ndarray, "h w"]:
        """The codes of this frame, with the range of the trial so far."""
        book = self._codec.codebook
        frames = self._metres.setdefault(camera, [])
        frames.append(ImageTransform(size=book.size).depth(metres[None], DepthKind.METRES)[0])
        clip = DepthClip.of(np.stack(frames), DepthKind.METRES).to_disparity()
        quantiles = tuple(np.quantile(clip.values[clip.valid], QUANTILES).tolist())
        last = DepthClip.of(np.stack(frames[-1:]), DepthKind.METRES).to_disparity()
        return self._codec.encode(last, book.normalisation.range_of(quantiles))[0]
