"""One estimator of each family through the commands: two workers, jobs and one process make the
same bytes; codes of one worker are those of two stages; and depth is held against the truth."""

import json
import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from depthtok.signals import kept_handlers
from depthtok.stores.codes import CodeStore
from depthtok.stores.depth import DepthStore
from pipelines.depth.da3.config import CONFIGS
from pipelines.depth.da3.network import DA3
from pipelines.depth.families import fresh
from pipelines.depth.gem.config import gem_config
from pipelines.depth.vida.weights import save_network
from tests.commands.trainings import call
from tests.pipelines.depth.vida import recipe

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning"),
]
ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "own_estimator" / "own_estimator.py"
OFFER = "[depthtok.estimators]\nlow-is-near = own_estimator:LowIsNear\n"


@dataclass(frozen=True)
class Family:
    """An estimator by name, the kind of its depth, and the words that it needs."""

    name: str
    kind: str
    words: list[object] = field(default_factory=list)


def package(folder):
    """The example as pip would install it."""
    record = folder / "own_estimator-1.0.dist-info"
    record.mkdir(parents=True)
    shutil.copy(EXAMPLE, folder)
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: own-estimator\nVersion: 1.0\n")
    (record / "entry_points.txt").write_text(OFFER)
    return folder


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """One Ray for all tests, whose workers have the example as a package, as this process has."""
    import ray

    folder = package(tmp_path_factory.mktemp("installed"))
    path = os.pathsep.join(filter(None, [str(ROOT), str(folder), os.environ.get("PYTHONPATH")]))
    with pytest.MonkeyPatch.context() as patch, kept_handlers():
        patch.setenv("PYTHONPATH", path)
        patch.syspath_prepend(str(folder))
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        yield folder
        ray.shutdown()
    sys.modules.pop("own_estimator", None)


def da3_small(path):
    with torch.device("meta"):
        shapes = {key: list(v.shape) for key, v in DA3(CONFIGS["da3-small"]).state_dict().items()}
    state = recipe.state_dict({f"model.{key}": shape for key, shape in shapes.items()}, seed=4)
    save_file(state, path)
    return path


def hf_model(folder):
    from pipelines.depth.hf.models import quiet
    from tests.pipelines.depth.single_frames.test_hf import MADE, processor

    torch.manual_seed(0)
    with quiet():
        MADE["glpn"]().eval().save_pretrained(folder)
        processor("glpn").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def families(tmp_path_factory):
    """One of each family, small or with a small input, with random weights."""
    pytest.importorskip("transformers")
    root, small = tmp_path_factory.mktemp("weights"), ["--set", "input_size=28"]
    save_network(fresh(gem_config("gemdepth-tiny"), 0), root / "gem.safetensors")
    da3 = [*small, "--weights", da3_small(root / "da3.safetensors")]
    hf = f"hf:{hf_model(root / 'glpn')}"
    return {
        "gem": Family(
            "gemdepth-tiny", "disparity", [*small, "--weights", root / "gem.safetensors"]
        ),
        "da3": Family("da3-small", "relative_depth", [*da3, "--set", "steady=causal"]),
        "hf": Family(hf, "metres"),
        "plug-in": Family("low-is-near", "disparity"),
    }


@pytest.mark.parametrize("family", ["gem", "da3", "hf", "plug-in"])
def test_workers_jobs_codes_and_the_audit(installed, families, whole, tmp_path, family):
    one = families[family]
    episodes = whole.root / "convert"
    words = ["annotate", episodes, "--estimator", one.name, "--size", 32, *one.words]
    for name, more in (
        ("alone", []),
        ("two", ["--workers", 2]),
        ("jobs", ["--shard", "2/2"]),
        ("jobs", ["--shard", "1/2"]),
    ):
        call(*words, "--out", tmp_path / name, *more)
    stores = {name: DepthStore(tmp_path / name) for name in ("alone", "two", "jobs")}
    assert len({store.fingerprint for store in stores.values()}) == 1
    assert str(stores["alone"].kind) == one.kind
    files = [[p.manifest["files"] for p in store.parts()] for store in stores.values()]
    assert len(files[0]) == 3
    assert files[0] == files[1] == files[2]

    call(*words, "--out", tmp_path / "codes", "--then-tokenize", whole.book)
    call("tokenize", tmp_path / "alone", "--codebook", whole.book, "--out", tmp_path / "staged")
    codes, staged = CodeStore(tmp_path / "codes"), CodeStore(tmp_path / "staged")
    assert [p.manifest["files"] for p in codes.parts()] == [
        p.manifest["files"] for p in staged.parts()
    ]
    assert codes.about["depth_kind"] == one.kind

    held = ["--estimated", tmp_path / "alone", "--truth", whole.root / "annotate"]
    told = json.loads(call("audit-depth", *held, "--out", tmp_path / "audit", "--json", code=1))
    assert {camera["camera"] for camera in told["cameras"]} == {"image", "wrist_image"}
    assert all(camera["figures"]["abs_rel"] > 0 for camera in told["cameras"])
    assert len(told["clips"]) == 12
