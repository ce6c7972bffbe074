"""convert says which schema it took, and which steps that left out."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from depthtok.config import RunOptions
from depthtok.sources.keep import Keep, MotionColumns
from depthtok.testing import make_rlds
from pipelines.config import ConvertConfig
from pipelines.convert.opening import stage_of
from pipelines.convert.told import with_schema
from pipelines.run import run
from tests.commands.trainings import call

DATA = Path(__file__).parents[1] / "data"
BRIDGE = DATA / "real" / "bridge_dataset" / "1.0.0"
MOTION = "the first of each episode that begins without motion"


def converted(*more: object) -> dict:
    return json.loads(call("convert", *more, "--json"))


def test_the_schema_and_the_steps_that_it_leaves_out_are_said(tmp_path):
    first = call("convert", BRIDGE, "--out", tmp_path / "e").splitlines()
    assert "6 episodes, 54 steps" in first[0]
    assert first[1:3] == [
        "schema bridge_dataset (verified)",
        f"6 steps left out: {MOTION}, as the schema says",
    ]
    again = call("convert", BRIDGE, "--out", tmp_path / "e").splitlines()  # nothing is read again
    assert again[1] == "schema bridge_dataset (verified)"
    assert again[2].startswith(f"steps left out, as the schema says: {MOTION} (how many is not")


def test_the_same_is_told_as_json(tmp_path):
    outcome = converted(BRIDGE, "--out", tmp_path / "e")
    assert (outcome["schema"], outcome["steps_left_out"]) == ("bridge_dataset (verified)", 6)
    assert outcome["steps_rule"] == MOTION
    over = converted(BRIDGE, "--out", tmp_path / "e", "--copy-images", "--overwrite")
    assert (over["schema"], over["steps_left_out"]) == ("bridge_dataset (verified)", 6)
    again = converted(BRIDGE, "--out", tmp_path / "e", "--copy-images")
    assert (again["schema"], again["steps_left_out"]) == ("bridge_dataset (verified)", None)


def test_of_a_file_its_path_and_fixed_counts_are_known_for_kept_parts_too(tmp_path):
    schema, source = tmp_path / "mine.toml", DATA / "lerobot_v3"
    brought = (source / "schema.toml").read_text()
    schema.write_text(
        brought.replace("[[camera]]", "[keep]\ndrop_first = 2\ndrop_last = 1\n\n[[camera]]", 1)
    )
    plain = converted(source, "--out", tmp_path / "plain", "--schema", source / "schema.toml")
    assert (plain["steps_left_out"], plain["steps_rule"]) == (0, "")
    for parts_there in (0, 1):
        outcome = converted(source, "--out", tmp_path / "e", "--schema", schema)
        assert outcome["kept"] == parts_there
        assert outcome["schema"] == str(schema)
        assert (
            outcome["steps_left_out"]
            == plain["steps"] - outcome["steps"]
            == 3 * outcome["episodes"]
        )
        assert outcome["steps_rule"] == "the first 2 and the last of each episode"


def test_a_draft_is_called_one(tmp_path):
    (source,) = (DATA / "real" / "g1_pick_bottle").glob("*.0.0")
    outcome = converted(source, "--out", tmp_path / "e")
    assert outcome["schema"] == "draft (of the data's features: nobody has checked it)"
    again = converted(source, "--out", tmp_path / "e")
    assert again["schema"] == f"of {tmp_path / 'e'}"


def test_steps_of_a_broken_episode_are_not_counted(tmp_path):
    def edit(number, values):
        if number == 1:
            values["steps/action"][3] = float("nan")

    source = make_rlds(tmp_path / "rlds", episodes=4, steps=5, shards=2, edit=edit)
    stage = stage_of(source, tmp_path / "e", ConvertConfig())
    keep = Keep(drop_last=1)
    object.__setattr__(stage, "schema", replace(stage.schema, keep_rule=keep))
    outcome = with_schema(run(stage, RunOptions()), stage)
    assert (len(outcome.failures), outcome.episodes, outcome.steps) == (1, 3, 12)
    assert outcome.steps_left_out == 3
    elsewhere = replace(stage, dropped={})  # as on Ray: the workers' counts stay there
    object.__setattr__(elsewhere, "schema", stage.schema)
    assert with_schema(outcome, elsewhere).steps_left_out == 3


def test_what_was_converted_on_the_way_to_depth_says_so_too(tmp_path):
    text = call(
        *("annotate", BRIDGE, "--out", tmp_path / "d", "--estimator", "tiny"),
        *("--camera", "image_0", "--input-size", 28, "--size", 32),
    )
    assert "schema bridge_dataset (verified)\n6 steps left out: " in text


@pytest.mark.parametrize(
    ("keep", "words"),
    [
        (Keep(), ""),
        (Keep(drop_first=1), "the first of each episode"),
        (Keep(drop_last=2), "the last 2 of each episode"),
        (Keep(drop_first_if_zero=(MotionColumns("a"),)), MOTION),
        (
            Keep(drop_last=1, drop_first_if_zero=(MotionColumns("a"),)),
            f"{MOTION}, and the last of each episode",
        ),
        (Keep(drop_first=1, drop_first_if_zero=(MotionColumns("a"),)), "the first of each episode"),
    ],
)
def test_a_rule_in_words(keep, words):
    assert keep.words == words
