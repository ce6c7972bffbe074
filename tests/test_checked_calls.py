"""The tests check the annotations of every call: what is planted here is seen, in each package."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from depthtok.data import DepthKind
from depthtok.pages.colour import colourise
from pipelines.depth.vida.preprocess import preprocess
from vla.config import FlowConfig
from vla.model.flow import interpolate
from vqvae.codec import fill_invalid

pytestmark = pytest.mark.skipif(
    os.environ["DEPTHTOK_CHECK_CALLS"] != "1", reason="calls are not checked"
)
FRAMES, POINTS = torch.zeros(2, 28, 28, 3, dtype=torch.uint8), torch.zeros(2, 3, 4)
DEPTH, VALID = np.zeros((2, 4, 4), np.float32), np.ones((2, 4, 4), bool)
CALLS = {
    "depthtok": lambda depth: colourise(depth, DepthKind.METRES, 0.0, 1.0),
    "pipelines": lambda frames: preprocess(frames, (28, 28)),
    "vqvae": lambda depth: fill_invalid(depth, VALID, range(2)),
    "vla": lambda noise: interpolate(FlowConfig(), POINTS, noise, torch.zeros(2)),
}
RIGHT = {"depthtok": DEPTH, "pipelines": FRAMES, "vqvae": DEPTH, "vla": POINTS}
WRONG_SHAPE = {
    "depthtok": DEPTH[0, 0],
    "pipelines": FRAMES[..., :2],
    "vqvae": DEPTH[:1],
    "vla": POINTS[:, :2],
}
WRONG_DTYPE = {"depthtok": VALID, "pipelines": FRAMES.float(), "vqvae": VALID, "vla": POINTS.int()}


@pytest.mark.parametrize("package", CALLS)
@pytest.mark.parametrize("wrong", [WRONG_SHAPE, WRONG_DTYPE], ids=["shape", "dtype"])
def test_what_is_not_annotated_is_refused(package, wrong):
    CALLS[package](RIGHT[package])
    with pytest.raises(Exception, match="Type-check error") as raised:
        CALLS[package](wrong[package])
    assert type(raised.value).__name__ == "TypeCheckError"


def test_processes_that_tests_start_are_checked():
    code = "from vqvae.codec import fill_invalid; fill_invalid(1, 2, 3)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "TypeCheckError" in done.stderr
