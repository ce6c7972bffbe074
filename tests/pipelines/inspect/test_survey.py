"""What is counted in an EpisodeStore equals what numpy counts over all of it, and what is planted
is found: once each, and nothing else."""

from pathlib import Path

import numpy as np
import pytest

import depthtok
from depthtok.stores.episodes import EpisodeStore
from depthtok.testing import make_rlds
from pipelines.inspect.store_pages import store_report
from pipelines.inspect.survey import survey
from pipelines.inspect.suspicious import Suspicion, suspicions, table_of

STEPS = [6, 6, 6, 6, 6, 1, 100]
SOUND = [6] * 4
ACTION, WRIST = "steps/action", "steps/observation/wrist_image"


def converted(folder: Path, **more) -> EpisodeStore:
    source = make_rlds(folder / "rlds", size=16, shards=2, **more)
    depthtok.convert(source, out=folder / "episodes")
    return EpisodeStore(folder / "episodes")


def plant(number: int, values: dict) -> None:
    """Column 1 never changes; episode 1 stands still; 2 is 0 again; 3 has a camera that hangs; 4
    has nothing to do; column 0 is clipped at 0.25 wherever it would be above."""
    rng = np.random.default_rng(number if number != 2 else 0)
    action = rng.normal(size=values[ACTION].shape).astype(np.float32)
    action[:, 0] = np.minimum(action[:, 0], 0.25)
    action[:, 1], action[:, 6] = 0.5, 1
    if number == 1:
        action[:] = action[0]
    values[ACTION] = action
    state = "steps/observation/state"
    values[state] = rng.normal(size=values[state].shape).astype(np.float32)
    if number == 3:
        values[WRIST] = [values[WRIST][0]] * len(values[WRIST])
    if number == 4:
        texts = values["steps/language_instruction"]
        values["steps/language_instruction"] = [""] * len(texts)


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> EpisodeStore:
    folder = tmp_path_factory.mktemp("planted")
    return converted(folder, episodes=len(STEPS), steps=STEPS, edit=plant)


def column(store: EpisodeStore, side: str, number: int) -> np.ndarray:
    return np.concatenate([getattr(episode, side)[:, number] for episode in store])


@pytest.mark.parametrize("side", ["action", "proprio"])
def test_histograms_are_those_of_numpy(planted, side):
    counted = survey(planted).columns[side]
    assert len(counted) == getattr(planted, f"{side}_dim")
    for number, counts in enumerate(counted):
        values = column(planted, side, number)
        expected, edges = np.histogram(values.astype(np.float64), 40)
        np.testing.assert_array_equal(counts.counts, expected)
        np.testing.assert_array_equal(counts.edges, edges)
        assert counts.counts.sum() == sum(STEPS)
        assert counts.at_high == (values == values.max()).sum()
        assert counts.at_low == (values == values.min()).sum()


def test_what_is_planted_is_found(planted):
    listed = {row.what: row for row in suspicions(planted, survey(planted))}
    keys = [str(episode.key) for episode in planted]
    clipped = listed["action x stops at its ends"]
    high = (column(planted, "action", 0) == 0.25).sum()
    assert clipped.amount == f"{100 * high / sum(STEPS):.2g} % of the steps are exactly 0.25"
    assert listed["action y is constant"].amount == "always 0.5"
    still = listed["the action never changes in an episode"]
    assert (still.amount, still.first) == ("1 of 7 episodes (14 %)", keys[1])
    copy = listed["an episode has the actions and states of an earlier one"]
    assert (copy.amount, copy.first) == ("1 of 7 episodes (14 %)", f"{keys[2]} is {keys[0]}")
    frozen = listed["wrist_image shows one frame for a whole episode"]
    assert (frozen.amount, frozen.first) == ("1 of 7 episodes (14 %)", keys[3])
    assert listed["an episode has no instruction"].amount == "1 of 7 episodes (14 %)"
    assert listed["an episode has a single step"].first == keys[5]
    assert listed["an episode is longer than 10 x the median"].first == keys[6]
    assert "action z is constant" not in listed
    assert "image shows one frame for a whole episode" not in listed


def test_a_table_has_no_empty_column():
    rows = [Suspicion("a", "1", "", "b"), Suspicion("c", "2", "", "d")]
    assert table_of(rows) == (
        ["what", "how much", "what it may mean"],
        [("a", "1", "b"), ("c", "2", "d")],
    )
    assert table_of([Suspicion("a", "1", "f", "b"), *rows])[0][2] == "first"


def test_nothing_is_suspicious_in_what_is_sound(tmp_path):
    def vary(number, values):
        rng = np.random.default_rng(number)
        for name in (ACTION, "steps/observation/state"):
            values[name] = rng.normal(size=values[name].shape).astype(np.float32)
        values[ACTION][:, 6] = rng.choice([-1, 1], len(values[ACTION]))

    store = converted(tmp_path, episodes=4, steps=SOUND, edit=vary)
    assert [row.what for row in suspicions(store, survey(store))] == []
    page = store_report(store).to_json()
    assert page["numbers"]["suspicious"] == "nothing"
    (lengths,) = [s for s in page["sections"] if s["title"] == "How long the episodes are"]
    assert lengths["paragraphs"] == [f"All of them have {store.lengths[0]} steps."]


def test_a_page_of_episodes_has_it_all(planted):
    page = store_report(planted).to_json()
    sections = {section["title"]: section for section in page["sections"]}
    assert page["numbers"]["steps of an episode (median)"] == 6
    lengths = sections["How long the episodes are"]
    counts, edges = np.asarray(lengths["counts"]), np.asarray(lengths["edges"])
    np.testing.assert_array_equal(counts, np.histogram(STEPS, edges)[0])
    assert counts.sum() == 7
    assert len(sections["What is suspicious"]["rows"]) == page["numbers"]["suspicious"]
    panels = sections["The actions of an episode"]["panels"]
    assert panels[0]["y"] == planted.episode(0).action[:, 0].tolist()
    assert [panel["name"] for panel in panels] == list(planted.action_names)
    film = sections["One episode, step by step"]["film"]
    assert film["steps"] == list(range(6))
    assert film["views"] == {"image": ["camera image"], "wrist_image": ["camera image"]}
