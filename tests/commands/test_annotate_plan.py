"""annotate --plan on a machine without the estimator's weights: all but what the network tells."""

import json

import pytest

from depthtok.errors import WeightsError
from depthtok.stores.codebook import Codebook
from pipelines.depth.hf import models
from pipelines.depth.vida import weights
from pipelines.rates import RATES
from tests.commands.trainings import DEMO, call

FRAMES = 6 * 4 * 2
VITS = next(rate for rate in RATES if rate.job == "annotate vits")


@pytest.fixture(autouse=True)
def no_weights(tmp_path, monkeypatch):
    """An empty cache; whether the Hub was asked for anything."""
    asked: list[object] = []

    def refused(*arguments: object, **more: object) -> None:
        asked.append(arguments)
        raise OSError("not online")

    for name in ("HF_HUB_CACHE", "HF_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "hub"))
    monkeypatch.setattr(weights, "urlopen", refused)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", refused)
    return asked


def planned(stores, out, *more: object) -> dict:
    text = call("annotate", stores / "episodes", "--out", out, "--plan", "--json", *more)
    assert not out.exists()
    return json.loads(text)


def test_a_plan_takes_no_weights(stores, tmp_path, no_weights):
    plan = planned(stores, tmp_path / "depth")
    assert (plan["parts"], plan["episodes"], plan["units"]) == (3, 6, FRAMES)
    assert (plan["seconds"], plan["bytes"]) == (None, FRAMES * 256 * 256 * 2)
    assert plan["gpu_rate"]["figure"] == VITS.figure
    assert no_weights == []


def test_it_says_what_is_not_measured_and_why(stores, tmp_path):
    lines = call("annotate", stores / "episodes", "--out", tmp_path / "depth", "--plan").split("\n")
    assert lines[0].endswith(": 3 parts to make, 0 done")
    assert lines[2] == "  shared by 3 jobs at most (--shard 1/3): a part is one job's"
    assert lines[3].startswith("  at most 6.3 MB to write, unpacked; ")
    assert f"on one NVIDIA H200: {VITS.figure:,} frames/s (measured at commit" in lines[4]
    said = "  this machine's rate is not measured: no weights of vits here (get video_depth_"
    assert lines[6].startswith(said)
    assert lines[6].endswith("give its path with --weights)")
    assert not any("cpu worker" in line for line in lines)


def test_codes_are_planned_too_and_their_bytes_are_known(stores, tmp_path):
    plan = planned(stores, tmp_path / "codes", "--then-tokenize", DEMO)
    rows, columns = Codebook.load(DEMO).grid
    assert (plan["bytes"], plan["bytes_at_most"]) == (FRAMES * rows * columns, False)
    assert plan["notes"][0].startswith("this machine's rate is not measured: no weights of vits")


@pytest.mark.parametrize("name", ["vitl", "da3-mono-large", "gemdepth"])
def test_of_every_family(stores, tmp_path, name, no_weights):
    plan = planned(stores, tmp_path / "depth", "--estimator", name)
    assert plan["notes"][0].startswith(f"this machine's rate is not measured: no weights of {name}")
    assert no_weights == []


def test_of_a_model_of_the_hub_only_what_is_here_is_asked_for(stores, tmp_path, monkeypatch):
    asked = []

    class Automatic:
        @staticmethod
        def from_pretrained(*names: str, **more: object) -> None:
            asked.append(more["local_files_only"])
            raise OSError("not here")

    class Library:
        AutoConfig = Automatic

    monkeypatch.setattr(models, "_transformers", Library)
    plan = planned(stores, tmp_path / "depth", "--estimator", "hf:some/model")
    assert "no weights of some/model here (`hf download some/model`" in plan["notes"][0]
    with pytest.raises(WeightsError, match="cannot be loaded as a depth model: not here"):
        call(
            "annotate",
            *(stores / "episodes", "--out", tmp_path / "d", "--estimator", "hf:some/model"),
        )
    assert asked == [True, False]


def test_what_is_wrong_with_the_command_is_said_by_its_plan(stores, tmp_path):
    absent = ("annotate", stores / "episodes", "--out", tmp_path / "d", "--plan", "--weights", "w")
    with pytest.raises(WeightsError, match="there is no file w"):
        call(*absent)


def test_without_plan_it_is_refused_as_before(stores, tmp_path, no_weights):
    with pytest.raises(WeightsError, match="weights of vits are not in the Hub cache"):
        call("annotate", stores / "episodes", "--out", tmp_path / "depth")
    assert len(no_weights) == 1
