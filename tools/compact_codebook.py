"""A codebook of half the size, as the one that ships with the package: CODEBOOK OUT."""

import sys
from pathlib import Path

import numpy as np

from depthtok.stores import codebook
from vqvae.codec import Codec
from vqvae.training.export import weights_of


def compact(path: Path, out: Path) -> Path:
    """A copy of a codebook with weights rounded to float16, for half the size.

    This is a different codebook: rounding changes some codes, so it has its own fingerprint, and
    no quality report until it is evaluated.
    """
    codec = Codec.load(path)
    rounded = weights_of(codec.model.half().float())
    small = {
        name: value.astype(np.float16) if name != "vectors" and value.dtype == np.float32 else value
        for name, value in rounded.items()
    }
    return codebook.write(out, small, {**codec.codebook.meta, "quality": {}})


if __name__ == "__main__":
    print(compact(*map(Path, sys.argv[1:])))
