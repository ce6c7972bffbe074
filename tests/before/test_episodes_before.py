"""An EpisodeStore made before meaning was kept opens, resumes, and says what is unknown in it."""

import shutil
from pathlib import Path

import pytest

from depthtok.config import RunOptions
from depthtok.sources.rlds import RldsDirectory
from depthtok.stores.episodes import EpisodeStore
from depthtok.stores.filling import drop_part
from pipelines.config import ConvertConfig
from pipelines.convert.stage import ConvertStage
from pipelines.run import run

BEFORE = Path(__file__).parents[1] / "data" / "before"


@pytest.fixture
def episodes(tmp_path):
    return Path(shutil.copytree(BEFORE / "episodes", tmp_path / "episodes"))


def stage(out, schema=BEFORE / "schema.toml"):
    rlds = RldsDirectory.open(BEFORE / "rlds" / "1.0.0")
    return ConvertStage(rlds, out, ConvertConfig(schema=str(schema)))


def test_it_opens_and_says_what_is_unknown(episodes):
    meaning = EpisodeStore(episodes).meaning
    assert [column.name for column in meaning.action][-1] == "gripper"
    assert (meaning.gripper, meaning.fps) == ("open1_closed0", 10.0)
    assert meaning.unknown == [
        "reference of 7 action columns",
        "unit of 7 action columns",
        "reference of 8 state columns",
        "unit of 8 state columns",
    ]


def test_a_complete_store_is_kept(episodes):
    fingerprint = EpisodeStore(episodes).fingerprint
    outcome = run(stage(episodes), RunOptions())
    assert (outcome.made, outcome.kept) == (0, 2)
    assert EpisodeStore(episodes).fingerprint == fingerprint


def test_a_missing_part_is_completed(episodes):
    store = EpisodeStore(episodes)
    actions = [episode.action.copy() for episode in store]
    drop_part(episodes, store.part_names[1])
    outcome = run(stage(episodes), RunOptions())
    assert (outcome.made, outcome.kept) == (1, 1)
    again = EpisodeStore(episodes, source_root=BEFORE / "rlds" / "1.0.0")
    assert again.fingerprint == store.fingerprint
    assert all((a == e.action).all() for a, e in zip(actions, again, strict=True))
    assert again.episode(5).frames("image").read(0, 1).shape == (1, 32, 32, 3)


def test_stating_what_was_unknown_does_not_make_it_another_store(episodes, tmp_path):
    text = (BEFORE / "schema.toml").read_text()
    stated = tmp_path / "stated.toml"
    stated.write_text(text.replace("[[action]]\n", '[[action]]\nreference = "delta"\n'))
    assert run(stage(episodes, stated), RunOptions()).kept == 2
    fresh = stage(tmp_path / "new", stated)
    run(fresh, RunOptions())
    assert {c.reference for c in EpisodeStore(fresh.out).meaning.action} == {"delta"}
