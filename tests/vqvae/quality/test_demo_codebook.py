from __future__ import annotations

from importlib.resources import files

import numpy as np

from depthtok.data import DepthClip, DepthKind
from vqvae.codec import Codec
from vqvae.config import TokeniserConfig
from vqvae.quality.gate import failed_limits


def test_the_shipped_codebook_loads_passes_the_gate_and_says_it_is_a_demo():
    codec = Codec.load(str(files("vqvae") / "demo"))
    book = codec.codebook
    assert book.demo
    assert failed_limits(book.quality) == []
    assert book.quality["held_out"] is True
    assert len(book.meta["data"]["held_out"]) == book.quality["episodes"] == 4
    assert TokeniserConfig.from_json(
        {name: book.meta[name] for name in ("network", "quantizer", "training")}
    )


def test_it_keeps_a_step_between_two_surfaces():
    codec = Codec.load(str(files("vqvae") / "demo"))
    disparity = np.repeat(np.linspace(0.4, 0.9, 256, dtype=np.float32)[:, None], 256, axis=1)
    disparity[96:176, 96:176] = 1.4
    clip = DepthClip.of(disparity[None], DepthKind.DISPARITY)
    bounds = (0.4, 1.4)
    decoded = codec.decode_disparity(codec.encode(clip, bounds), bounds)[0]
    assert np.abs(decoded - disparity).mean() < 0.05
    assert decoded[110:160, 110:160].mean() - decoded[110:160, 40:80].mean() > 0.5
