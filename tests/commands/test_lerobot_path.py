"""From the command line: a LeRobot data set to an EpisodeStore and to its own depth, and what the
commands say on the way."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from depthtok.cli.main import app
from depthtok.stores.depth import DepthStore
from depthtok.stores.episodes import EpisodeStore
from tests.lerobot_sets import write_v2

REAL = Path(__file__).parents[1] / "data/lerobot_v3"


def call(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, (result.output, result.exception)
    return result.output + (str(result.exception) if result.exception else "")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("lerobot")
    call("convert", REAL, "--schema", REAL / "schema.toml", "--out", folder / "episodes")
    call(
        "annotate",
        folder / "episodes",
        "--estimator",
        "dataset",
        "--size",
        0,
        "--out",
        folder / "depth",
    )
    return folder


def test_depth_of_the_data_set_is_its_depth_video_in_metres(folder):
    store, depth = EpisodeStore(folder / "episodes"), DepthStore(folder / "depth")
    assert (store.steps, len(store), depth.kind) == (32, 2, "metres")
    for episode, clip in zip(store, depth.clips(), strict=True):
        metres = clip.read(0, len(episode))
        true = episode.frames("image").true_depth(0, len(episode))
        np.testing.assert_array_equal(metres.values, true)
        assert metres.valid.all()
        assert 0.7 < metres.values.min() < metres.values.max() < 2.4


def test_without_a_schema_a_draft_is_taken(tmp_path):
    bare = shutil.copytree(REAL, tmp_path / "bare", ignore=shutil.ignore_patterns("schema.toml"))
    said = call("convert", bare, "--out", tmp_path / "ep")
    assert "no schema is shipped for these data: one was drafted" in said
    assert "unit of 7 action columns" in said
    store = EpisodeStore(tmp_path / "ep")
    assert (len(store), store.about["fps"]) == (2, 20)  # as the data set states it
    assert set(store.about["cameras"][0]) >= {"name", "orientation"}
    assert store.meaning.unknown
    assert "drafted" not in call("convert", bare, "--out", tmp_path / "ep")  # goes on as it began
    text = call("inspect", bare, "--draft")
    assert "fps = 20  # as the data set states it" in text
    seen = call("inspect", bare)
    assert "LeRobot v3.0 data set bare" in seen
    assert seen.endswith(f"next: depthtok convert {bare} --out EPISODES\n")
    beside = f"--schema {REAL / 'schema.toml'}"
    assert call("inspect", REAL).endswith(
        f"next: depthtok convert {REAL} {beside} --out EPISODES\n"
    )


def test_annotate_takes_the_data_set_itself_with_a_draft_too(tmp_path):
    bare = shutil.copytree(REAL, tmp_path / "bare", ignore=shutil.ignore_patterns("schema.toml"))
    size = ["--size", 0, "--camera", "image"]
    said = call("annotate", bare, "--estimator", "dataset", *size, "--out", tmp_path / "depth")
    assert "no schema is shipped for these data: one was drafted" in said
    clips = DepthStore(tmp_path / "depth").clips()
    assert [len(e) for e in EpisodeStore(tmp_path / "depth.episodes")] == [c.frames for c in clips]


@pytest.mark.parametrize(
    ("package", "remedy"), [("pyarrow", "depthtok[lerobot]"), ("av", "depthtok[")]
)
def test_a_package_that_is_not_installed_is_named_with_its_extra(tmp_path, package, remedy):
    words = ["convert", REAL, "--schema", REAL / "schema.toml", "--out", tmp_path / "ep"]
    assert f"pip install '{remedy}" in refused_without(package, words)


@pytest.mark.parametrize(
    "words",
    [["inspect"], ["inspect", "--draft"], ["convert", "--out"], ["annotate", "--out"]],
    ids=" ".join,
)
def test_of_version_2_too(tmp_path, words):
    root = write_v2(tmp_path / "set", [3, 4])
    out = [tmp_path / "out"] if "--out" in words else []
    assert "depthtok[lerobot]" in refused_without("pyarrow", [words[0], root, *words[1:], *out])


def refused_without(package: str, words: list[object]) -> str:
    """What a command says in an environment without a package, which no other test has."""
    program = f"import sys; sys.modules[{package!r}] = None; from depthtok.cli.main import main"
    command = [sys.executable, "-c", f"{program}; main()", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert f"needs the package `{package}`" in done.stderr
    return done.stderr


def test_a_schema_that_lies_beside_the_data_is_the_remedy(tmp_path):
    said = call("convert", REAL, "--out", tmp_path / "ep", code=1)
    assert f"give --schema {REAL / 'schema.toml'}" in said


def test_the_plan_weighs_videos_against_packed_pictures(tmp_path):
    said = call("convert", REAL, "--schema", REAL / "schema.toml", "--out", tmp_path, "--plan")
    assert "ms at random as they lie" in said
    assert "--copy-images, which writes" in said
