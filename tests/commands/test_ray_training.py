"""train-vla on Ray equals train-vla under torchrun, also when it was stopped in between."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from depthtok.errors import ConfigError, WorkerDied
from depthtok.signals import Stopped, kept_handlers
from depthtok.testing import tree_digest
from pipelines.ray.ranks import _Ranks
from tests.commands.trainings import call, lines, training
from vla.training import checkpoint

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning"),
]


MORE = ("--steps", 30, "--validate-every", 10, "--checkpoint-every", 3)


@pytest.fixture(scope="module")
def undisturbed(stores, tmp_path_factory):
    """A training of two ranks under torchrun."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    subprocess.run(
        [
            *launcher,
            "--rdzv-backend",
            "c10d",
            "--rdzv-endpoint",
            "localhost:0",
            "-m",
            "depthtok.cli",
            *map(str, training(stores, out, *MORE)),
        ],
        check=True,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return out


@pytest.fixture(scope="module")
def local_ray():
    """One Ray for all tests."""
    import ray

    with kept_handlers():
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


def equal(run, other):
    """Whether two runs have the same log but for the clock, held-out figures, and tensors."""
    assert lines(run) == lines(other)
    for name in ("validation.jsonl", "validation.sums", "config.json"):
        assert (run / name).read_bytes() == (other / name).read_bytes()
    for folder in ("checkpoints/step-000030", "best"):
        digests, wanted = tree_digest(run / folder), tree_digest(other / folder)
        tensors = [name for name in wanted if name.endswith(".safetensors")]
        assert tensors
        assert {name: digests[name] for name in tensors} == {name: wanted[name] for name in tensors}
    return True


def test_ranks_on_ray_train_as_under_torchrun(stores, tmp_path, undisturbed, local_ray):
    """SIGTERM in the middle saves; the same command goes on; every loss is equal to the bit."""
    out = tmp_path / "ray"
    on_ray = training(stores, out, *MORE, "--ranks", 2)
    thread = threading.Thread(target=stop_after, args=(out / "metrics.jsonl", 3))
    thread.start()
    with pytest.raises(Stopped):
        call(*on_ray)
    thread.join()
    done = len(lines(out))
    assert 3 <= done < 30
    assert (out / "checkpoints" / f"step-{done:06d}").is_dir()
    printed = json.loads(call(*on_ray, "--json"))
    assert printed["step"] == 30
    assert equal(out, undisturbed)


def test_a_run_whose_rank_was_killed_goes_on_as_if_it_had_not_been(
    stores, tmp_path, monkeypatch, undisturbed, local_ray
):
    """SIGKILL of one rank between two checkpoints, and the same command again: losses, held-out
    figures, weights and moments are those of a run that nothing befell, to the bit."""
    out, begin, processes = tmp_path / "hurt", _Ranks.begin, []
    hurt = training(stores, out, *MORE, "--ranks", 2)

    def noting(ranks, *rest):
        begin(ranks, *rest)
        processes.extend(int(re.search(r"process (\d+)", name)[1]) for name in ranks.names)

    monkeypatch.setattr(_Ranks, "begin", noting)
    thread = threading.Thread(target=kill_after, args=(out / "metrics.jsonl", 4, processes))
    thread.start()
    with pytest.raises(WorkerDied, match="rank 1") as caught:
        call(*hurt)
    thread.join()
    assert "run the same command again" in caught.value.remedy
    assert 3 <= checkpoint.newest_step(out) < 30
    call(*hurt)
    assert equal(out, undisturbed)


def kill_after(log, count, processes):
    """SIGKILL to the second rank once the log has so many lines."""
    while not log.is_file() or len(log.read_text().splitlines()) < count:
        time.sleep(0.002)
    os.kill(processes[1], signal.SIGKILL)


def stop_after(log, count):
    """SIGTERM to this process once the log has so many lines."""
    while not log.is_file() or len(log.read_text().splitlines()) < count:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)


def test_flags_that_contradict_each_other(stores, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="--ray-address needs --ranks"):
        call(*training(stores, tmp_path / "a", "--ray-address", "127.0.0.1:1"))
    with pytest.raises(ConfigError, match="4 does not divide over 3"):
        call(*training(stores, tmp_path / "c", "--ranks", 3, "--ray-address", "127.0.0.1:1"))
    one_of_two = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in one_of_two.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="under torchrun"):
        call(*training(stores, tmp_path / "b", "--ranks", 2))
