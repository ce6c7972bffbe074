"""Every file of a run is verified: damages of all kinds, and what older versions left unchecked."""

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from depthtok.errors import CorruptPart, DepthtokError, WeightsError
from depthtok.testing import damages, tree_digest
from tests.vla import fakes
from vla.evaluation.compare import ValidatedRun
from vla.evaluation.depth_view import DepthView
from vla.evaluation.report import run_report
from vla.run_options import TrainingOptions
from vla.training import checkpoint
from vla.training.runlog import METRICS, VALIDATIONS
from vla.training.soundness import findings, read_log
from vla.training.train import train

OPTIONS = TrainingOptions(
    loader_threads=0, log_every=1, validate_every=2, validate_batches=1, checkpoint_every=2
)
COUNT = 200 * int(os.environ.get("DEPTHTOK_DAMAGES", "1"))  # e.g. 10: ten times as many
BEFORE = Path(__file__).parents[2] / "data" / "before" / "run"


def decode(codes):
    return np.repeat(np.repeat(codes, 4, axis=1), 4, axis=2) / np.float32(16)


def trained(place, stop_at=99, **over):
    """Four updates, with a validation every second one and pictures of depth."""
    config, reports = fakes.micro(**{"train__steps": 4, **over}), []
    episodes = fakes.FakeEpisodes(count=4)
    learn, judge = (fakes.toy(config, episodes, only=only) for only in ([0, 1], [2, 3]))
    train(
        config,
        learn,
        place,
        OPTIONS,
        codebook=fakes.FakeCodebook(codes=16, dim=12),
        validation=judge,
        decode=decode,
        on_step=reports.append,
        should_stop=lambda: len(reports) >= stop_at,
    )
    return place


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("soundness") / "run")


@pytest.fixture
def run(made, tmp_path):
    return shutil.copytree(made, tmp_path / "run")


def problems(path):
    return [finding.problem for finding in findings(path) if not finding.note]


def content(run):
    """All that readers take from a run. Raises `DepthtokError` for what they refuse."""
    said = [read_log(run, name) for name in (METRICS, VALIDATIONS)]
    for path in [*checkpoint.steps(run), run / "best"]:
        said += [checkpoint.read_state(path).to_json(), checkpoint.read_config(path).to_json()]
        for name in ("model", "optimizer"):
            with suppress(WeightsError):  # the best weights have no optimiser
                tensors = checkpoint.read_tensors(path, name)
                said.append({key: value.numpy().tobytes() for key, value in tensors.items()})
    view = DepthView.find(run)
    page = run_report(run).to_json()
    ValidatedRun.open(run)
    drawn = () if view is None else (view.image, view.truth, view.predicted)
    return [*said, *(values.tobytes() for values in drawn), page]


def test_a_run_that_was_left_alone_is_sound(made):
    assert list(findings(made)) == []
    assert list(findings(checkpoint.find(made))) == []
    for name in ("metrics.sums", "validation.sums", "depth.npz", "best"):
        assert (made / name).exists()


def test_no_damage_of_any_file_goes_unseen(made, tmp_path):
    """Flips, cuts, additions, deletions and swaps: verify names them, or they change nothing."""
    run = shutil.copytree(made, tmp_path / "run")
    want, before, files, noticed = content(run), tree_digest(run), set(), 0
    for damage in damages(run, seed=14, count=COUNT):
        if damage.file == ".lock" or damage.other == ".lock":
            continue
        damage.apply(run)
        files.add(damage.file)
        problems_of_run = list(findings(run))
        try:
            now = content(run)
        except DepthtokError:
            now = None
        assert problems_of_run or now == want, damage
        assert damage.kind in ("delete", "swap") or now in (None, want), damage
        noticed += bool(problems_of_run)
        for file in {damage.file, damage.other} - {""}:
            shutil.copyfile(made / file, run / file)
    assert tree_digest(run) == before
    assert noticed > 0.95 * COUNT * 0.9
    assert len(files) == len(before) - 1


@pytest.mark.parametrize("name", [METRICS, VALIDATIONS])
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda lines: [lines[0].replace(b"1", b"2", 1), *lines[1:]], "line 1 of"),
        (lambda lines: lines[1:], "line 1 of|lines, but"),
        (lambda lines: lines[:-1], "lines, but"),
        (lambda lines: [*lines, lines[-1], lines[-1]], "lines, but|line"),
        (lambda lines: lines[::-1], "line 1 of"),
        (lambda lines: [], "lines, but"),
    ],
)
def test_changed_lost_and_swapped_lines_of_logs_are_refused(run, name, change, told):
    file = run / name
    file.write_bytes(b"".join(change(file.read_bytes().splitlines(keepends=True))))
    with pytest.raises(CorruptPart, match=told):
        read_log(run, name)
    reader = run_report if name == METRICS else ValidatedRun.open
    with pytest.raises(CorruptPart, match=told):
        reader(run)
    assert len(problems(run)) == 1


@pytest.mark.parametrize("name", ["metrics", "validation"])
def test_a_log_and_its_sums_cut_alike_are_shorter_than_the_checkpoint_says(run, name):
    for suffix in (".jsonl", ".sums"):
        file = (run / name).with_suffix(suffix)
        file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:1]))
    assert problems(run) == [
        f"{run / name}.jsonl is not the log that the newest checkpoint was written with"
    ]
    (run / f"{name}.sums").unlink()
    assert problems(run) == [f"{run / name}.sums is missing"]


def test_a_killed_writer_leaves_no_damage(run):
    """Killed between a line and its sum, or in the middle of either."""
    with (run / METRICS).open("a") as file:
        file.write('{"step": 5}\n')
    assert list(findings(run)) == []
    assert read_log(run, METRICS)[-1] == {"step": 5}
    with (run / METRICS).open("a") as file:
        file.write('{"step"')
    (note,) = findings(run)
    assert note.note
    assert "ends in the middle of a line" in note.problem
    assert read_log(run, METRICS)[-1] == {"step": 5}
    trained(run)
    assert list(findings(run)) == []
    assert len(read_log(run, METRICS)) == 4


def test_a_stopped_and_resumed_run_is_sound_all_the_time(tmp_path, made):
    trained(tmp_path / "run", stop_at=3)
    assert list(findings(tmp_path / "run")) == []
    trained(tmp_path / "run")
    assert list(findings(tmp_path / "run")) == []
    steps = [line["step"] for line in read_log(tmp_path / "run", METRICS)]
    assert steps == [1, 2, 3, 4]


def test_equal_trainings_write_equal_states(tmp_path, made):
    trained(tmp_path / "run", stop_at=3)
    trained(tmp_path / "run")
    state = "checkpoints/step-000004/state.json"
    assert (tmp_path / "run" / state).read_bytes() == (made / state).read_bytes()


def test_a_training_does_not_go_on_with_a_changed_log(run):
    trained(run)
    file = run / METRICS
    file.write_bytes(file.read_bytes().replace(b'"loss": ', b'"loss": 1', 1))
    with pytest.raises(CorruptPart, match="line 1 of"):
        trained(run)


@pytest.mark.parametrize("name", ["state.json", "model.safetensors", "config.json"])
@pytest.mark.parametrize("place", ["checkpoints/step-000002", "checkpoints/step-000004", "best"])
def test_a_missing_file_of_a_checkpoint_is_damage(run, place, name):
    (run / place / name).unlink()
    assert any(f"{run / place / name} is missing" in problem for problem in problems(run))


@pytest.mark.parametrize("name", ["best", "depth.npz", "config.json"])
def test_missing_files_beside_the_checkpoints_are_damage(run, name):
    path = run / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert f"{path} is missing" in problems(run)


@pytest.mark.parametrize("key", ["digest", "files", "format", "beside", "step"])
@pytest.mark.parametrize("renamed", [True, False])
def test_a_key_that_is_gone_is_no_older_checkpoint(run, key, renamed):
    file = checkpoint.find(run) / "state.json"
    state = json.loads(file.read_text())
    value = state.pop(key)
    file.write_text(json.dumps({**state, **({f"{key[:-1]}X": value} if renamed else {})}))
    assert problems(run) == [f"{file} was changed after it was written"] * len(problems(run))
    assert problems(run)
    with pytest.raises(CorruptPart, match=r"state\.json was changed"):
        checkpoint.read_state(file.parent)


def test_no_set_of_missing_keys_makes_it_an_older_checkpoint(run):
    file = checkpoint.find(run) / "state.json"
    state = json.loads(file.read_text())
    ours = ("digest", "files", "format", "beside")
    file.write_text(json.dumps({k: v for k, v in state.items() if k not in ours}))
    assert f"{file} was changed after it was written" in problems(run)
    for weights in file.parent.glob("*.safetensors"):  # now it is one of before there were digests
        save_file(load_file(weights), weights)
    notes = [finding.problem for finding in findings(run) if finding.note]
    assert any("written without digests by an older depthtok" in note for note in notes)


def test_a_checkpoint_in_anothers_place_and_foreign_files(run):
    last = checkpoint.find(run)
    shutil.rmtree(last)
    shutil.copytree(run / "checkpoints/step-000002", last)
    (last / "notes.txt").touch()
    assert f"{last} holds step 2" in problems(run)
    assert f"{last / 'notes.txt'} does not belong there" in problems(run)


def test_other_settings_beside_a_checkpoint_are_damage(run):
    file = run / "config.json"
    settings = json.loads(file.read_text())
    settings["train"]["seed"] += 1
    file.write_text(json.dumps(settings, indent=1))
    assert problems(run) == [f"{file} differs from the settings of step-000004"]


def test_a_picture_with_objects_is_refused(run):
    np.savez(run / "depth.npz", image=np.array([{}]), truth=0, predicted=0, grid=1)
    with pytest.raises(CorruptPart, match=r"depth\.npz is damaged"):
        DepthView.find(run)
    np.savez(run / "depth.npz", image=np.zeros(3), truth=0, predicted=0, grid=1)
    with pytest.raises(CorruptPart, match="no frames with depth"):
        DepthView.find(run)


def test_what_an_older_version_did_not_digest_is_said(tmp_path):
    notes = list(findings(BEFORE))
    assert [finding.problem for finding in notes] == [
        f"{BEFORE / name} was written without sums by an older depthtok: not checked"
        for name in (METRICS, VALIDATIONS)
    ]
    assert all(finding.note for finding in notes)
    run = shutil.copytree(BEFORE, tmp_path / "run")
    state = checkpoint.find(run) / "state.json"
    for damaged in (state.read_text().replace('"digest"', '"dhgest"'), "[]", "[" * 99999):
        state.write_text(damaged)
        assert len(problems(run)) >= 1
        with pytest.raises(CorruptPart):
            checkpoint.read_state(state.parent)


@pytest.mark.parametrize(
    "change",
    [
        {"norms": 5},
        {"norms": {"a": []}},
        {"x": 1},
        {"step": None},
        {"data": [[1, 2, 3, 4]]},
        {"data": 5},
        {"notes": "x"},
        {"codebook": None},
    ],
)
def test_a_forged_state_is_refused(run, change):
    """With a digest that fits."""
    from depthtok.config import digest

    file = checkpoint.find(run) / "state.json"
    state = {**json.loads(file.read_text()), **change}
    del state["digest"]
    file.write_text(json.dumps({**state, "digest": digest(state)}))
    assert problems(run)
    with pytest.raises(CorruptPart, match="holds no state"):
        checkpoint.read_state(file.parent)


def test_files_have_the_mode_that_the_umask_says(tmp_path):
    before = os.umask(0o027)
    try:
        trained(tmp_path / "run", train__ema=0.9)
    finally:
        os.umask(before)
    paths = list((tmp_path / "run").rglob("*"))
    assert {oct(path.stat().st_mode & 0o777) for path in paths if path.is_file()} == {"0o640"}
    assert {oct(path.stat().st_mode & 0o777) for path in paths if path.is_dir()} == {"0o750"}
