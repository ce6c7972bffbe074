"""With workers, what the cluster has decides about the device, and not what the driver has."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from depthtok.config import RunOptions
from depthtok.errors import ConfigError
from depthtok.signals import kept_handlers
from depthtok.stores.episodes import EpisodeStore
from pipelines.annotate.stage import AnnotateStage
from pipelines.config import AnnotateConfig
from pipelines.device import choose_for
from pipelines.run import run

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="for a driver without a GPU"),
]


@pytest.fixture(scope="module", autouse=True)
def gpu_cluster():
    """A Ray that believes to have GPUs; its workers can import this file."""
    import ray

    path = os.pathsep.join(
        filter(None, [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH")])
    )
    with pytest.MonkeyPatch.context() as patch, kept_handlers():
        patch.setenv("PYTHONPATH", path)
        ray.init(
            num_cpus=2,
            num_gpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
        )
    yield
    ray.shutdown()


@pytest.mark.parametrize(
    ("settings", "device"),
    [
        ({}, "cuda"),
        ({"device": "cuda"}, "cuda"),
        ({"device": "cpu"}, "cpu"),
        ({"gpus_per_worker": 0.0}, "cpu"),
        ({"gpus_per_worker": 0.5}, "cuda"),
    ],
)
def test_the_cluster_decides(settings, device):
    assert choose_for(RunOptions(workers=1, ray_address="auto", **settings)) == device


def test_without_a_cluster_this_machine_decides(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for options in (RunOptions(), RunOptions(workers=1)):
        assert choose_for(options) == "cpu"
    for options in (
        RunOptions(device="cuda"),
        RunOptions(workers=1, gpus_per_worker=1.0),
        RunOptions(workers=1, ray_address="auto", device="cuda", plan=True),  # measured here
    ):
        with pytest.raises(ConfigError, match="cuda cannot be used on"):
            choose_for(options)


def test_a_worker_that_lacks_the_device_says_so(whole, tmp_path):
    """The driver can say what would be made on a GPU without having one."""
    episodes = EpisodeStore(whole.root / "convert")
    stage = AnnotateStage(episodes, tmp_path / "out", AnnotateConfig(estimator="tiny"), "cuda")
    assert dict(stage.spec.what["estimator"]["settings"])["device"] == "cuda"
    with pytest.raises(ConfigError, match="cuda cannot be used on") as caught:
        run(stage, RunOptions(workers=1))
    assert "--gpus-per-worker" in caught.value.remedy


@dataclass(frozen=True)
class Told:
    """A stage whose workers write down which GPUs they are shown."""

    stage: object
    notes: Path

    def __getattr__(self, name):
        return getattr(object.__getattribute__(self, "stage"), name)

    def __reduce__(self):
        return Told, (self.stage, self.notes)

    def build(self, device):
        self.notes.write_text(os.environ.get("CUDA_VISIBLE_DEVICES", ""))
        return self.stage.build(device)


@pytest.mark.parametrize("name", ["convert", "annotate"])
def test_a_stage_on_the_cpu_holds_no_gpu(whole, tmp_path, name):
    stage = Told(whole.stage(name, tmp_path / "out"), tmp_path / "notes")
    assert run(stage, RunOptions(workers=1)).made == 3
    assert stage.notes.read_text() == ""
