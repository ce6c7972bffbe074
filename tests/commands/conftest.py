"""A small data set as episodes, depth and codes, for the tests of `train-vla`."""

import pytest

from depthtok.testing import make_rlds
from tests.commands.trainings import DEMO, MICRO, call


@pytest.fixture(scope="session")
def stores(tmp_path_factory):
    """A small data set as episodes, depth and codes; the settings of a micro model."""
    out = tmp_path_factory.mktemp("policies")
    source = make_rlds(out / "rlds", episodes=6, steps=4, size=32)
    call("convert", source, "--out", out / "episodes", "--workers", "0")
    call(
        "annotate",
        out / "episodes",
        "--out",
        out / "depth",
        "--estimator",
        "dataset",
        "--workers",
        "0",
    )
    call("tokenize", out / "depth", "--codebook", DEMO, "--out", out / "codes", "--workers", "0")
    (out / "micro.toml").write_text(MICRO)
    return out
