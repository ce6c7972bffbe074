"""push: policies, which act as they did, without what only training needs."""

import shutil

import numpy as np
import pytest
import yaml

import depthtok
from depthtok.errors import CorruptPart
from depthtok.remote.snapshots import here, pinned
from pipelines.evaluate.play import PolicySource
from tests.commands.trainings import DEMO, call, training
from vla.training import checkpoint, soundness

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")  # the client's


def observation(policy) -> dict:
    size = policy.config.model.vision.image_size
    images = {name: np.zeros((size, size, 3), np.uint8) for name in policy.config.data.cameras}
    proprio = np.zeros(policy.config.model.proprio_dim, np.float32)
    return {"images": images, "proprio": proprio, "instruction": "open the drawer"}


def acts(run) -> np.ndarray:
    policy = depthtok.load_policy(run, device="cpu", seed=3)
    return policy.act(observation(policy))


def test_there_and_back(hub, made):
    pushed = depthtok.push(made / "run", "lab/policy")
    names = set(hub.files("models/lab/policy"))
    inside = "checkpoints/step-000002"
    assert {"README.md", "config.json", "metrics.jsonl", f"{inside}/model.safetensors"} <= names
    assert not any("optimizer" in name for name in names)
    assert (acts(pushed.url) == acts(made / "run")).all()
    folder = here(pushed.url)
    assert [f.problem for f in soundness.findings(folder)] == []
    assert depthtok.verify(folder).sound
    assert depthtok.inspect([folder]).summaries[0].facts["checkpoints"] == "step-000002"
    assert depthtok.push(made / "run", "lab/policy").commits == 0


def test_its_card(hub, made):
    depthtok.push(made / "run", "lab/policy")
    text = hub.files("models/lab/policy")["README.md"].decode()
    assert yaml.safe_load(text.split("---\n")[1])["license"] == "unknown"
    name = next(iter(checkpoint.read_state(checkpoint.find(made / "run")).norms))
    row = next(line for line in text.splitlines() if line.startswith(f"| {name}"))
    assert "| dataset | the data set's own |" in row  # noted by the training
    assert "| seed | 0 |" in text
    assert "| steps | 2 |" in text
    assert f"| version of numpy | {np.__version__} |" in text
    assert "| success in a simulator or on a robot | unknown |" in text
    assert "**Demo weights: they show the pipeline." in text  # of its codebook
    assert str(made) not in text


def test_a_checkpoint_by_itself(hub, made, tmp_path):
    alone = tmp_path / "alone"
    shutil.copytree(checkpoint.find(made / "run"), alone)
    url = depthtok.push(alone, "lab/alone").url
    assert (acts(url) == acts(made / "run")).all()
    assert depthtok.verify(here(url)).sound


def test_a_later_checkpoint_takes_the_place_of_the_one_before(hub, made, tmp_path):
    depthtok.push(made / "run", "lab/policy")
    call(*training(made, tmp_path / "run", "--steps", 3))
    assert depthtok.push(tmp_path / "run", "lab/policy").commits == 1
    folders = {name.split("/")[1] for name in hub.files("models/lab/policy") if "/" in name}
    assert folders == {"step-000003"}


def test_training_starts_from_one_and_records_its_commit(hub, made, tmp_path):
    url = depthtok.push(made / "run", "lab/policy").url
    out = tmp_path / "next"
    call(*training(made, out, "--steps", 1, "--weights", "hf://lab/policy"))
    notes = checkpoint.read_state(checkpoint.find(out)).notes
    assert notes["weights"] == url


def test_codes_of_the_hub_are_noted_with_their_commit(hub, made, tmp_path):
    codes = depthtok.push(made / "codes", "lab/codes").url
    url = depthtok.push(DEMO, "lab/book").url
    arguments = training(made, tmp_path / "run", "--steps", 1)
    arguments[arguments.index("--codes") + 1] = "hf://lab/codes"
    call(*arguments, "--set", "codebook=hf://lab/book")
    noted = checkpoint.read_state(checkpoint.find(tmp_path / "run")).notes["depth"]
    assert [(one["codes"], one["codebook"]) for one in noted.values()] == [(codes, url)]


def test_a_damaged_run_is_not_sent(hub, made, tmp_path):
    shutil.copytree(made / "run", tmp_path / "run")
    weights = tmp_path / "run" / "checkpoints" / "step-000002" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(CorruptPart, match=r"model\.safetensors"):
        depthtok.push(tmp_path / "run", "lab/policy")
    assert hub.asked == []


def test_an_evaluation_records_the_commit(hub, made):
    url = depthtok.push(made / "run", "lab/policy").url
    state = checkpoint.read_state(checkpoint.find(made / "run"))
    (robot,) = state.meanings.values()
    card = PolicySource(pinned("hf://lab/policy")).card(robot)
    assert card["policy"] == url
    assert card["weights"] == checkpoint.weights_sha256(checkpoint.find(made / "run"))
