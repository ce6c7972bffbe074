"""Stores to export, for tests: of the LeRobot set that lerobot wrote, and of a small RLDS."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from typer.testing import CliRunner

from depthtok.cli.main import app
from depthtok.sources.lerobot.dataset import LeRobotDirectory
from depthtok.stores.codes import CodeStore
from depthtok.stores.depth import DepthStore
from depthtok.stores.episodes import EpisodeStore
from tests.commands.trainings import DEMO, call

WRITTEN = Path(__file__).parents[2] / "data/lerobot_v3"


def made(out: Path, source: Path, schema: Path | None = None) -> Path:
    """A folder with `episodes`, `depth` (the data set's own) and `codes` of a data set."""
    with_schema = ["--schema", schema] if schema else []
    call("convert", source, *with_schema, "--out", out / "episodes")
    dataset = ("--estimator", "dataset", "--size", 256)
    call("annotate", out / "episodes", *dataset, "--out", out / "depth")
    call("tokenize", out / "depth", "--codebook", DEMO, "--out", out / "codes")
    return out


def exported(stores: Path, out: Path, *words: object, code: int = 0) -> str:
    """Exports all of it; what is said on stdout."""
    both = ("--codes", stores / "codes", "--depth", stores / "depth")
    return call("export", stores / "episodes", *both, "--out", out, *words, code=code)


def refused(*words: object) -> str:
    """What a command says that refuses."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code != 0
    return f"{result.output}{result.exception}"


def opened(stores: Path) -> tuple[EpisodeStore, DepthStore, CodeStore]:
    """The three stores."""
    return (
        EpisodeStore(stores / "episodes"),
        DepthStore(stores / "depth"),
        CodeStore(stores / "codes"),
    )


def info(out: Path) -> dict:
    return json.loads((out / "meta/info.json").read_text())


def rows(path: Path) -> list[dict]:
    return pq.read_table(path).to_pylist()


def code_columns(out: Path, key: str) -> list[np.ndarray]:
    """A column of every episode of an export, as depthtok's own reader gives it."""
    data = LeRobotDirectory.open(out)
    return [
        episode.values(key)
        for group in data.groups("train", [])
        for _, episode in data.episodes(group, [])
    ]
