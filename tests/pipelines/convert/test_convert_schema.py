"""What a schema says is what convert does: steps, episodes, grippers, texts, states."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from depthtok.api.stage_runs import open_episodes, warn_of_unknown
from depthtok.cli.stage_results import tell_stage
from depthtok.config import RunOptions
from depthtok.errors import ConfigError, SchemaError, StaleStore
from depthtok.sources.features import Feature
from depthtok.sources.rlds import RldsDirectory
from depthtok.sources.write import RldsWriter
from depthtok.stores import filling, instructions
from depthtok.stores.episodes import EpisodeStore
from depthtok.stores.verify import verify_store
from depthtok.testing import tree_digest
from pipelines.config import ConvertConfig
from pipelines.convert.stage import ConvertStage
from pipelines.inspect.summary import inspect
from pipelines.run import run

OB = "steps/observation/"
FEATURES = {
    feature.path: feature
    for feature in (
        Feature(OB + "image", "image", "uint8", (16, 16, 3), "png"),
        Feature(OB + "pose", "tensor", "float32", (7,), "none"),
        Feature("steps/action", "tensor", "float32", (3,), "none"),
        Feature("steps/texts", "text", "str", (None,)),
        Feature("steps/is_first", "scalar", "bool", (), "none"),
        Feature("success", "scalar", "bool", (), "none", per_step=False),
    )
}
SCHEMA = """
datasets = ["arm"]
status = "unseen"
fps = 10
instruction = "steps/texts"
gripper = "open1_closed0"
[[camera]]
name = "image"
key = "steps/observation/image"
orientation = "identity"
[[action]]
from = "steps/action"
take = "0:2"
dims = ["x", "y"]
reference = "delta"
unit = "m"
[[action]]
from = "steps/action"
take = "2"
dims = ["gripper"]
reference = "absolute"
unit = "1"
[[proprio]]
from = "steps/observation/pose"
take = "3:7"
ops = ["quat_xyzw_to_euler"]
dims = ["roll", "pitch", "yaw"]
reference = "absolute"
unit = "rad"
"""
STEPS = 6


def episode(number):
    rng = np.random.default_rng(number)
    gripper = (np.arange(STEPS) > 2).astype(np.float32)
    return {
        OB + "image": [np.full((16, 16, 3), 40 * number + t, np.uint8) for t in range(STEPS)],
        OB + "pose": rng.normal(size=(STEPS, 7)).astype(np.float32),
        "steps/action": np.column_stack([rng.normal(size=(STEPS, 2)), gripper]).astype(np.float32),
        "steps/texts": [[f"do {number}", f"please do {number}"]] * STEPS,
        "steps/is_first": np.arange(STEPS) == 0,
        "success": number % 3 != 2,
    }


@pytest.fixture
def convert(tmp_path):
    """Converts four episodes by SCHEMA, both changed at will, into one place."""

    def make(edit=lambda number, values: None, old="", new="", out="store"):
        assert old in SCHEMA
        (tmp_path / "arm.toml").write_text(SCHEMA.replace(old, new) if old else SCHEMA, "utf-8")
        path = tmp_path / "rlds" / "1.0.0"
        if not path.exists():
            writer = RldsWriter(path, "arm", "1.0.0", FEATURES)

            def edited(number):
                values = episode(number)
                edit(number, values)
                return values

            writer.write("train", map(edited, range(4)), 2)
            writer.finish()
        config = ConvertConfig(schema=str(tmp_path / "arm.toml"))
        return ConvertStage(RldsDirectory.open(path), tmp_path / out, config)

    return make


def test_numbers_of_dropped_steps_may_be_anything(convert):
    def edit(number, values):
        values["steps/action"][-1] = np.nan
        values[OB + "pose"][0] = -np.inf

    stage = convert(edit, "[[camera]]", "[keep]\ndrop_first = 1\ndrop_last = 1\n[[camera]]")
    assert run(stage, RunOptions()).exit_code == 0
    episodes = EpisodeStore(stage.out)
    assert episodes.lengths.tolist() == [STEPS - 2] * 4
    np.testing.assert_array_equal(episodes.episode(1).action, episode(1)["steps/action"][1:-1])
    assert np.isfinite(episodes.episode(1).proprio).all()


def test_numbers_of_kept_steps_may_not(convert):
    def edit(number, values):
        values["steps/action"][-2, 0] = np.nan if number == 1 else 0

    stage = convert(edit, "[[camera]]", "[keep]\ndrop_last = 1\n[[camera]]")
    outcome = run(stage, RunOptions())
    assert [f.key.index for f in outcome.failures] == [1]
    assert "step 4: the data have a number that is not finite" in outcome.failures[0].reason


@pytest.mark.parametrize(("last", "state"), [(0.8, 1.0), (0.3, 0.0)])
def test_a_cut_off_motion_is_rounded_at_the_last_step_that_is_kept(convert, last, state):
    def edit(number, values):
        values["steps/action"][:, 2] = [0, 0, 0, 0, last, np.nan]

    stage = convert(edit, 'take = "2"\n', 'take = "2"\nops = ["binarize_gripper"]\n')
    stage = replace(stage, out=stage.out.with_name("cut"))
    text = stage.out.with_name("arm.toml")
    text.write_text(text.read_text().replace("[[camera]]", "[keep]\ndrop_last = 1\n[[camera]]"))
    run(stage, RunOptions())
    assert EpisodeStore(stage.out).episode(0).action[:, 2].tolist() == [0, 0, 0, 0, state]


def test_episodes_that_the_schema_leaves_out_are_counted_and_are_no_failures(convert, capsys):
    def edit(number, values):
        values["steps/texts"] = [[""]] * STEPS if number == 1 else values["steps/texts"]
        values["steps/action"][0, 0] = np.nan if number == 2 else 0

    rules = '[keep.episodes]\nif_true = "success"\ninstruction = "not empty"\n[[camera]]'
    stage = convert(edit, "[[camera]]", rules)
    outcome = run(stage, RunOptions())
    why = {"the instruction is empty": 1, "success is not true": 1}
    assert (outcome.exit_code, outcome.failures, outcome.left_out) == (0, [], why)
    assert outcome.episodes == 2
    tell_stage(outcome, json=False)
    said = (
        "left out, as the schema's [keep.episodes] says: 1 (the instruction is empty), 1 (success"
    )
    assert said in capsys.readouterr().out
    episodes = EpisodeStore(stage.out)
    assert episodes.left_out == why
    assert [episode.key.index for episode in episodes] == [0, 1]
    assert [part.meta["left_out"] for part in episodes.parts()] == [
        {"the instruction is empty": [1]},
        {"success is not true": [0]},
    ]
    assert list(verify_store(stage.out)) == []
    fact = inspect(stage.out).facts["left out by the schema"]
    assert fact == "1 (the instruction is empty), 1 (success is not true)"
    again = run(stage, RunOptions())
    assert (again.made, again.left_out) == (0, why)


def test_a_set_of_which_nothing_is_left_converts(convert, capsys):
    stage = convert(old="[[camera]]", new="[keep.episodes]\nmin_steps = 7\n[[camera]]")
    outcome = run(stage, RunOptions())
    tell_stage(outcome, lambda: "depthtok annotate", json=False)
    assert "next:" not in capsys.readouterr().out  # there is nothing to annotate
    tell_stage(replace(outcome, episodes=1), lambda: "depthtok annotate", json=False)
    assert "next: depthtok annotate" in capsys.readouterr().out
    assert (outcome.exit_code, outcome.episodes) == (0, 0)
    assert outcome.left_out == {"fewer than 7 steps": 4}
    assert EpisodeStore(stage.out).statistics().steps == 0


def test_a_schema_without_a_state_works(convert):
    start = SCHEMA.index("[[proprio]]")
    stage = convert(old=SCHEMA[start:], new="")
    assert run(stage, RunOptions()).exit_code == 0
    episodes = EpisodeStore(stage.out)
    assert (episodes.proprio_dim, episodes.episode(2).proprio.shape) == (0, (STEPS, 0))
    assert episodes.stored_statistics().proprio.count == 4 * STEPS
    assert episodes.stored_statistics().proprio.q99 == ()
    assert list(verify_store(stage.out, images=True)) == []
    assert inspect(stage.out).facts["proprio"] == "0: none"


def gripper(*values):
    """An edit that gives the gripper these values, in turn."""

    def edit(number, episode_values):
        episode_values["steps/action"][:, 2] = np.resize(np.float32(values), STEPS)

    return edit


@pytest.mark.parametrize(
    ("values", "convention", "seen", "remedy"),
    [
        ((0, 100), "open1_closed0", "0 or 100", "unit_interval 0 100"),
        ((0, 311, 850), "open1_closed0", "0 or 311 or 850", "unit_interval 0 850"),
        ((45, 98), "unknown", "45 or 98", "unit_interval 0 100"),
        ((0, 251), "open0_closed1", "0 or 251", "unit_interval 0 255"),
        ((-1, 1), "open1_closed0", "-1 or 1", 'gripper = "open1_closed-1"'),
        ((0, 1), "open1_closed-1", "0 or 1", 'gripper = "open1_closed0"'),
        ((0, 1), "open-1_closed1", "0 or 1", "scale 2"),
        (range(0, 120, 20), "open1_closed0", "0 to 100 (6 distinct values)", "unit_interval"),
    ],
)
def test_a_gripper_of_another_range_is_refused_at_once(convert, values, convention, seen, remedy):
    stage = convert(gripper(*values), '"open1_closed0"', f'"{convention}"')
    with pytest.raises(SchemaError) as caught:
        run(stage, RunOptions())
    assert f"episode 0: the gripper is {seen}, but" in caught.value.problem
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("values", "convention", "remains"),
    [
        ((0, 100), "open1_closed0", "open1_closed0"),
        ((0, 100), "open0_closed1", "open0_closed1"),
        ((3, 80), "open1_closed-1", "open1_closed0"),
        ((0, 850), "open-1_closed1", "open0_closed1"),
    ],
)
def test_the_remedy_keeps_which_end_is_open(convert, values, convention, remains):
    """Typed as it stands it may not turn a gripper around."""
    with pytest.raises(SchemaError) as caught:
        run(convert(gripper(*values), '"open1_closed0"', f'"{convention}"'), RunOptions())
    assert f'gripper = "{remains}"' in caught.value.remedy
    assert {*re.findall(r"open\S+_closed-?\d", caught.value.remedy)} == {remains}


def test_the_remedy_works_in_the_same_place(convert):
    with pytest.raises(SchemaError):
        run(convert(gripper(0, 50, 100)), RunOptions())
    stage = convert(old='take = "2"\n', new='take = "2"\nops = ["unit_interval 0 100"]\n')
    assert run(stage, RunOptions()).exit_code == 0
    assert EpisodeStore(stage.out).episode(0).action[:3, 2].tolist() == [0, 0.5, 1]


@pytest.mark.parametrize(
    ("values", "convention"),
    [
        ((0, 1), "open1_closed0"),
        ((0.16, 0.56, 1.007), "open1_closed0"),  # as real grippers report
        ((-0.05, 0.7), "open0_closed1"),
        ((-1, 1), "open-1_closed1"),
        ((1,), "open-1_closed1"),  # never moves
        ((0.4, 1), "open1_closed-1"),
        ((-1, 1), "unknown"),
        ((0, 1), "unknown"),
    ],
)
def test_a_gripper_within_its_range_is_not(convert, values, convention):
    stage = convert(gripper(*values), '"open1_closed0"', f'"{convention}"')
    assert run(stage, RunOptions()).exit_code == 0


def test_a_slip_is_found_among_all_episodes_and_named(convert):
    def edit(number, values):
        values["steps/action"][3, 2] = 1.4 if number == 2 else 1

    stage = convert(edit)
    with pytest.raises(SchemaError) as caught:
        run(stage, RunOptions())
    assert "1 of 24 steps; first: arm/1.0.0/train/00001-of-00002/00000, step 3" in str(caught.value)
    assert 'add "clip 0 1"' in caught.value.remedy
    assert EpisodeStore(stage.out).stored_statistics().action.max[2] == pytest.approx(1.4)


def test_a_width_where_minus_one_is_open_is_refused(convert):
    stage = convert(gripper(0, 0.03, 0.08), '"open1_closed0"', '"open-1_closed1"')
    with pytest.raises(SchemaError, match=r"the gripper is 0 or 0\.03 or 0\.08") as caught:
        run(stage, RunOptions())
    assert '"unit_interval 0 0.08"' in caught.value.remedy


def test_a_width_taken_for_a_share_is_warned_of(convert, capsys):
    assert run(convert(gripper(0, 0.08)), RunOptions()).exit_code == 0
    assert '"unit_interval 0 0.08"' in capsys.readouterr().err


def test_a_store_of_the_former_version_is_gone_on_with_and_warned_about(convert, capsys):
    stage = convert(gripper(0, 100))
    (former,) = replace(stage, out=stage.out.with_name("elsewhere"))._before_meaning
    assert former.stage_version == 1
    filling.create(stage.out, former)
    assert run(stage, RunOptions()).exit_code == 0
    assert "the gripper is 0 or 100" in capsys.readouterr().err
    assert EpisodeStore(stage.out).spec.stage_version == 1


def test_a_store_that_kept_other_first_steps_is_stale_and_says_why(convert):
    stage = convert(old="[[camera]]", new='[keep]\ndrop_first_if_zero = "steps/action"\n[[camera]]')
    assert stage.schema.to_json_before_meaning() is None
    filling.create(stage.out, replace(stage.current, stage_version=1))
    with pytest.raises(StaleStore, match="kept first steps that are nearly zero") as caught:
        run(stage, RunOptions())
    assert "another --out" in caught.value.remedy


def test_all_texts_are_kept_to_draw_from(convert):
    first, all_texts = (
        convert(),
        convert(
            old='instruction = "steps/texts"',
            new='instruction = { from = "steps/texts", pick = "draw" }',
            out="drawn",
        ),
    )
    run(all_texts, RunOptions())
    drawn = EpisodeStore(all_texts.out)
    assert drawn.episode(3).instruction(2) == "do 3"
    assert drawn.episode(3).instructions(2) == ["do 3", "please do 3"]
    third = np.arange(len(drawn)) == 3
    assert {*instructions.read(drawn, third).texts} == {"do 3", "please do 3"}
    part = drawn.part(drawn.part_names[1])
    plain = json.loads((part.path / "instructions.json").read_text())
    assert plain == ["do 2", "do 3"], "as former versions read it"
    counted = instructions.read(drawn).texts
    assert counted == {f"{say} {n}": STEPS for n in range(4) for say in ("do", "please do")}
    assert len(instructions.read(drawn, drawn=False).texts) == 4
    run(convert(), RunOptions())
    assert EpisodeStore(first.out).episode(3).instructions(2) == ["do 3"]
    assert not list(first.out.rglob("alternatives.json"))


def test_what_the_schema_does_not_say_is_said(convert, capsys):
    warn_of_unknown(convert().schema)
    assert capsys.readouterr().err == ""
    stage = convert(old='"identity"', new='"unknown"', out="other")
    warn_of_unknown(stage.schema)
    assert capsys.readouterr().err == (
        "warning: the schema arm does not say: orientation of image\n"
    )


def test_annotate_converts_by_an_own_schema(convert, tmp_path):
    stage = convert()
    options = RunOptions()
    schema = stage.config.schema
    episodes = open_episodes(stage.rlds.path, tmp_path / "depth", options, schema)
    assert len(episodes) == 4
    assert episodes.path == tmp_path / "depth.episodes"
    with pytest.raises(ConfigError, match="--schema is for data sets"):
        open_episodes(episodes.path, tmp_path / "depth", options, schema)


def test_plans_and_jobs_of_several_convert_nothing(convert, tmp_path):
    stage = convert()
    source, schema, out = stage.rlds.path, stage.config.schema, tmp_path / "depth"
    plan, job = RunOptions(plan=True, retry_failed=True), RunOptions(shard="1/2")
    assert open_episodes(source, out, plan, schema).parts > 0
    with pytest.raises(ConfigError, match="would convert all of") as caught:
        open_episodes(source, out, job, schema)
    command = f"`depthtok convert {source} --out {tmp_path / 'depth.episodes'} --schema {schema}`"
    assert caught.value.remedy.endswith(command)
    assert not (tmp_path / "depth.episodes").exists()
    episodes = open_episodes(source, out, RunOptions(), schema)
    for options in (plan, job):
        assert open_episodes(source, out, options, schema).path == episodes.path
    made = tree_digest(episodes.path)
    first, last = sorted(source.glob("*tfrecord*"))
    shutil.copyfile(last, first)
    assert open_episodes(source, out, plan, schema).parts > 0
    with pytest.raises(ConfigError, match="would convert all of"):
        open_episodes(source, out, job, schema)
    assert tree_digest(episodes.path) == made
