"""A training on a GPU, stopped and resumed. Bits may differ there, the data may not.

Runs on a CPU as well, which shows that the test is right; with a tolerance for a GPU."""

import json

import numpy as np
import pytest
import torch

from vla.run_options import TrainingOptions
from vla.training.train import train

CUDA = pytest.param(
    "cuda",
    marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
)


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_a_training_resumes_where_it_runs(micro, toy, codebook, tmp_path, device):
    config = micro(train__ema=0.9)
    data, options = toy(config), TrainingOptions(loader_threads=0, log_every=1, checkpoint_every=4)

    def run(name, stop=None):
        reports = []
        return train(
            config,
            data,
            tmp_path / name,
            options,
            codebook=codebook,
            device=device,
            on_step=reports.append,
            should_stop=lambda: len(reports) == stop,
        )

    def losses(name):
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        return {row["step"]: row["loss"] for row in map(json.loads, lines)}

    assert run("whole").finished
    stopped = run("run", stop=3)
    assert (stopped.step, stopped.finished) == (3, False)
    assert (run("run").step, sorted(losses("run"))) == (8, list(range(1, 9)))
    undisturbed, resumed = losses("whole"), losses("run")
    # The data and the noise are those of an uninterrupted run; bits are so on a CPU only.
    np.testing.assert_allclose(
        [resumed[step] for step in undisturbed],
        list(undisturbed.values()),
        rtol=0 if device == "cpu" else 0.05,
    )
