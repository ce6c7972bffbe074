"""train-vla on Ray equals train-vla under torchrun, also when it was stopped in between."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from depthtok.errors import ConfigError
from depthtok.signals import Stopped, kept_handlers
from tests.commands.trainings import call, lines, training

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning"),
]


def test_ranks_on_ray_train_as_under_torchrun(stores, tmp_path):
    """SIGTERM in the middle saves; the same command goes on; every loss is equal to the bit."""
    import ray

    more = ["--steps", 30, "--held-out", 0]
    command = [str(a) for a in training(stores, tmp_path / "torchrun", *more)]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    subprocess.run(
        [*launcher, "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0",
         "-m", "depthtok.cli", *command],
        check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip

    out = tmp_path / "ray"
    on_ray = training(stores, out, *more, "--ranks", 2)
    with kept_handlers():
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        thread = threading.Thread(target=stop_after, args=(out / "metrics.jsonl", 3))
        thread.start()
        with pytest.raises(Stopped):
            call(*on_ray)
        thread.join()
        done = len(lines(out))
        assert 3 <= done < 30
        assert (out / "checkpoints" / f"step-{done:06d}").is_dir()
        told = json.loads(call(*on_ray, "--json"))
    finally:
        ray.shutdown()
    assert told["step"] == 30
    assert lines(out) == lines(tmp_path / "torchrun")


def stop_after(log, count):
    """SIGTERM to this process once the log has so many lines."""
    while not log.is_file() or len(log.read_text().splitlines()) < count:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)


def test_flags_that_contradict_each_other(stores, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="--ray-address needs --ranks"):
        call(*training(stores, tmp_path / "a", "--ray-address", "127.0.0.1:1"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="under torchrun"):
        call(*training(stores, tmp_path / "b", "--ranks", 2))
