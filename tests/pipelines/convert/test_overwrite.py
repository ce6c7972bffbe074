"""Another schema for a store that is there: shown, and made anew without losing what is there."""

import re
import shlex
import shutil
from importlib.resources import files

import pytest

from depthtok.cli.main import main
from depthtok.config import RunOptions
from depthtok.errors import StaleStore, StoreError
from depthtok.sources.rlds import RldsDirectory
from depthtok.stores.episodes import STATISTICS, EpisodeStore
from depthtok.stores.part_writer import PartWriter
from depthtok.testing import make_rlds, tree_digest
from pipelines.config import ConvertConfig
from pipelines.convert import overwrite
from pipelines.convert.overwrite import beside, planned_over, run_over, settle
from pipelines.convert.stage import ConvertStage
from pipelines.plan import plan
from pipelines.run import run

SCHEMA = (files("depthtok.sources.schemas") / "libero_depth.toml").read_text()


@pytest.fixture
def source(tmp_path):
    return make_rlds(tmp_path / "rlds")


@pytest.fixture
def depthtok_says(capsys, monkeypatch):
    """Runs a command as it is typed; its exit code, and what it said."""

    def run_command(*words):
        monkeypatch.setattr("sys.argv", ["depthtok", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0, "".join(capsys.readouterr())

    return run_command


def edited(tmp_path, *pairs):
    """A file with the shipped schema, edited."""
    text = SCHEMA
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / f"schema-{len(list(tmp_path.glob('schema*')))}.toml"
    path.write_text(text)
    return str(path)


def stage(source, out, **settings):
    return ConvertStage(RldsDirectory.open(source), out, ConvertConfig(**settings))


FASTER = ("fps = 20", "fps = 10")


def test_what_differs_is_shown_by_name(source, tmp_path):
    run(stage(source, tmp_path / "out"), RunOptions())
    schema = edited(tmp_path, FASTER, ('depth_unit = "mm"', 'depth_unit = "m"'))
    with pytest.raises(StaleStore) as caught:
        run(stage(source, tmp_path / "out", schema=schema), RunOptions())
    lines = [line.strip() for line in caught.value.problem.splitlines()[1:]]
    assert "fps: 20.0 -> 10.0" in lines
    assert 'camera: image: depth_unit: "mm" -> "m"' in lines
    assert 'camera: wrist_image: depth_unit: "mm" -> "m"' in lines
    assert "--overwrite" in caught.value.remedy


def test_other_splits_shards_and_features_are_shown_too(source, tmp_path):
    run(stage(source, tmp_path / "out"), RunOptions())
    with pytest.raises(StaleStore, match=r"split: \[\] -> \[\"train\"\]"):
        run(stage(source, tmp_path / "out", split=("train",)), RunOptions())
    other = make_rlds(tmp_path / "other", shards=2)
    with pytest.raises(StaleStore, match="shards of split train: 3 -> 2"):
        run(stage(other, tmp_path / "out"), RunOptions())
    larger = make_rlds(tmp_path / "larger", size=48)
    with pytest.raises(StaleStore, match="the data set's features are other ones"):
        run(stage(larger, tmp_path / "out"), RunOptions())


def test_overwriting_gives_what_a_new_store_would_be(source, tmp_path):
    run(stage(source, tmp_path / "out"), RunOptions())
    schema = edited(tmp_path, FASTER)
    outcome = run_over(stage(source, tmp_path / "out", schema=schema), RunOptions())
    assert (outcome.out, outcome.made) == (tmp_path / "out", 3)
    assert "is replaced" in outcome.notes[-1]
    run(stage(source, tmp_path / "fresh", schema=schema), RunOptions())
    assert tree_digest(tmp_path / "out") == tree_digest(tmp_path / "fresh")
    assert EpisodeStore(tmp_path / "out").fps == 10
    assert (tmp_path / "out" / STATISTICS).is_file()
    assert not beside(tmp_path / "out").exists()
    assert run_over(stage(source, tmp_path / "out", schema=schema), RunOptions()).kept == 3


def test_overwriting_without_a_schema_keeps_that_of_the_store(tmp_path, monkeypatch):
    unknown, out = make_rlds(tmp_path / "rlds", name="of_mine"), tmp_path / "out"
    run(stage(unknown, out, schema=edited(tmp_path, FASTER)), RunOptions())
    packing = stage(unknown, out, copy_images=True)
    overwrite_after(monkeypatch, 4)
    with pytest.raises(Killed):
        run_over(packing, RunOptions())
    monkeypatch.undo()
    outcome = run_over(stage(unknown, out, copy_images=True), RunOptions())
    assert (outcome.made, outcome.kept) == (1, 2)  # what was killed goes on
    store = EpisodeStore(out)
    assert (store.fps, store.gripper_convention) == (10, "open-1_closed1")
    assert store.spec.what["schema"] == packing.schema.to_json()
    assert store.spec.what["copy_images"] is True


class Killed(BaseException):
    """As if by SIGKILL: nothing is caught."""


def test_a_killed_overwriting_leaves_the_old_store_whole_and_is_resumed(
    source, tmp_path, monkeypatch
):
    old = tree_digest(run(stage(source, tmp_path / "out"), RunOptions()).out)
    schema, episode = edited(tmp_path, FASTER), overwrite_after(monkeypatch, 4)
    with pytest.raises(Killed):
        run_over(stage(source, tmp_path / "out", schema=schema), RunOptions())
    assert tree_digest(tmp_path / "out") == old
    assert len(EpisodeStore(beside(tmp_path / "out")).part_names) == 2
    monkeypatch.undo()
    with pytest.raises(StaleStore, match="converted differently"):
        run(stage(source, tmp_path / "out", schema=schema), RunOptions())
    outcome = run_over(stage(source, tmp_path / "out", schema=schema), RunOptions())
    assert (outcome.made, outcome.kept) == (1, 2)
    assert EpisodeStore(tmp_path / "out").fps == 10
    assert episode == [4]


def overwrite_after(monkeypatch, episodes):
    """Kills the conversion when so many episodes are written."""
    calls, real = [0], PartWriter.end

    def counting(self, *args, **rows):
        if calls[0] == episodes:
            raise Killed
        calls[0] += 1
        real(self, *args, **rows)

    monkeypatch.setattr(PartWriter, "end", counting)
    return calls


@pytest.mark.parametrize("step", ["before", "between", "after"])
def test_a_kill_as_the_stores_change_places_loses_nothing(source, tmp_path, monkeypatch, step):
    out = tmp_path / "out"
    run(stage(source, out), RunOptions())
    schema, real = edited(tmp_path, FASTER), overwrite.exchange

    def killed(new, final):
        if step == "between":
            final.rename(tmp_path / ".tmp-old")
        if step == "after":
            real(new, final)
        raise Killed

    monkeypatch.setattr(overwrite, "exchange", killed)
    with pytest.raises(Killed):
        run_over(stage(source, out, schema=schema), RunOptions())
    monkeypatch.undo()
    settle(out)
    assert EpisodeStore(out).fps == (20 if step == "before" else 10)
    assert EpisodeStore(out).missing() == []
    outcome = run_over(stage(source, out, schema=schema), RunOptions())
    assert outcome.made == 0
    assert EpisodeStore(out).fps == 10
    assert not beside(out).exists()


def test_array_jobs_share_an_overwriting(source, tmp_path):
    run(stage(source, tmp_path / "out"), RunOptions())
    schema = edited(tmp_path, FASTER)
    for job in (1, 2, 3):
        assert EpisodeStore(tmp_path / "out").fps == 20
        jobs = RunOptions(shard=f"{job}/3")
        outcome = run_over(stage(source, tmp_path / "out", schema=schema), jobs)
        assert outcome.made == 1
    assert EpisodeStore(tmp_path / "out").fps == 10
    late = run_over(stage(source, tmp_path / "out", schema=schema), RunOptions(shard="1/3"))
    assert (late.made, late.kept) == (0, 1)


def test_jobs_that_are_done_at_the_same_moment_replace_the_store_once(
    source, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    run(stage(source, out), RunOptions())

    def and_another_job(new_stage, options):
        outcome = run(new_stage, options)
        overwrite.exchange(beside(out), out)  # the other one's; it has yet to remove the old store
        return outcome

    monkeypatch.setattr("pipelines.convert.overwrite.run", and_another_job)
    run_over(stage(source, out, schema=edited(tmp_path, FASTER)), RunOptions())
    assert EpisodeStore(out).fps == 10
    assert not beside(out).exists()


def test_a_store_without_any_episode_replaces_none(source, tmp_path):
    out = tmp_path / "out"
    old = tree_digest(run(stage(source, out), RunOptions()).out)
    schema = tmp_path / "strict.toml"
    schema.write_text(SCHEMA + "[keep.episodes]\nmin_steps = 100\n")
    outcome = run_over(stage(source, out, schema=str(schema)), RunOptions())
    assert "has no episode" in outcome.notes[-1]
    assert tree_digest(out) == old


def test_overwriting_is_planned_as_it_is_run(source, tmp_path):
    out = tmp_path / "out"
    run(stage(source, out), RunOptions())
    faster = stage(source, out, schema=edited(tmp_path, FASTER))
    assert plan(planned_over(faster), RunOptions()).parts == 3
    run_over(faster, RunOptions(limit=2))
    assert plan(planned_over(faster), RunOptions()).parts == 2
    assert planned_over(stage(source, out)) == stage(source, out)


def test_the_remedy_is_the_command_that_works(source, tmp_path, depthtok_says):
    schema = edited(tmp_path, FASTER)
    annotate = ("annotate", source, "--estimator", "dataset", "--out", tmp_path / "depth")
    depthtok_says(*annotate, "--size", 16)
    code, said = depthtok_says(*annotate, "--size", 16, "--schema", schema)
    assert (code, "fps: 20.0 -> 10.0" in said) == (2, True)
    command = shlex.split(re.search("`depthtok (.*?)`", said)[1])
    code, said = depthtok_says(*command)
    assert (code, "is replaced" in said) == (0, True)
    assert EpisodeStore(tmp_path / "depth.episodes").fps == 10


@pytest.mark.parametrize("moment", ["before its part", "after its part"])
def test_of_two_jobs_that_end_together_one_puts_the_store_in_place(
    source, tmp_path, monkeypatch, moment
):
    """The other, on another host say, neither puts the old one back nor fails."""
    out, schema, real = tmp_path / "out", edited(tmp_path, FASTER), overwrite.run
    run(stage(source, out), RunOptions())
    fresh = run(stage(source, tmp_path / "fresh", schema=schema), RunOptions())

    def other():
        monkeypatch.setattr(overwrite, "run", real)
        assert run_over(stage(source, out, schema=schema), RunOptions()).made > 0

    def together(work, options):
        if moment == "before its part":
            other()
        outcome = real(work, options)
        if moment == "after its part":
            other()
        return outcome

    monkeypatch.setattr(overwrite, "run", together)
    outcome = run_over(stage(source, out, schema=schema), RunOptions(shard="3/3"))
    assert (outcome.out, outcome.exit_code) == (out, 0)
    assert tree_digest(out) == tree_digest(fresh.out)
    assert not beside(out).exists()


def test_what_a_job_of_another_host_writes_stays(source, tmp_path):
    """Whether it lives cannot be known here."""
    out = tmp_path / "out"
    run(stage(source, out), RunOptions())
    slower = edited(tmp_path, ("fps = 20", "fps = 5"))
    run(stage(source, beside(out), schema=slower), RunOptions(shard="1/3"))
    (beside(out) / "parts" / ".tmp-a~other.4026531836~7~123~ab").mkdir()
    with pytest.raises(StoreError, match="other settings is writing") as caught:
        run_over(stage(source, out, schema=edited(tmp_path, FASTER)), RunOptions())
    assert "delete" in caught.value.remedy


def test_a_second_edit_starts_anew(source, tmp_path):
    run(stage(source, tmp_path / "out"), RunOptions())
    first, second = edited(tmp_path, FASTER), edited(tmp_path, ("fps = 20", "fps = 5"))
    run_over(stage(source, tmp_path / "out", schema=first), RunOptions(limit=2))
    assert beside(tmp_path / "out").is_dir()
    run_over(stage(source, tmp_path / "out", schema=second), RunOptions())
    assert EpisodeStore(tmp_path / "out").fps == 5


def test_only_what_convert_made_is_replaced(source, tmp_path, whole):
    shutil.copytree(whole.root / "annotate", tmp_path / "out")
    with pytest.raises(StoreError, match="holds depth made by `depthtok annotate`"):
        run_over(stage(source, tmp_path / "out"), RunOptions())


def test_a_reader_is_told_that_its_store_was_replaced(source, tmp_path):
    run(stage(source, tmp_path / "out"), RunOptions())
    reader = EpisodeStore(tmp_path / "out")
    action = reader.episode(0).action
    names = reader.part_names
    run_over(stage(source, tmp_path / "out", schema=edited(tmp_path, FASTER)), RunOptions())
    assert action.shape == (5, 7)  # what is mapped stays readable
    reader._parts.clear()
    with pytest.raises(StaleStore, match="was replaced by one made with other settings"):
        reader.part(names[1])
