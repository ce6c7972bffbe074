"""Two trainings judged on the same held-out episodes, and what keeps them from being compared."""

import json
import shutil
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from depthtok.errors import ConfigError, SourceError
from tests.commands.trainings import call
from tests.vla import fakes
from vla.evaluation import compare
from vla.evaluation.ablation import RunFigures, table
from vla.evaluation.compare import Difference, TrainingComparison, ValidatedRun, sign_flip
from vla.evaluation.report import WITHIN, run_report
from vla.evaluation.words import WORDS
from vla.run_options import TrainingOptions
from vla.training.runlog import METRICS
from vla.training.soundness import read_log
from vla.training.train import train

OPTIONS = TrainingOptions(loader_threads=0, log_every=1, validate_every=2, validate_batches=3)


def trained(place, options=OPTIONS, held_out=(3, 4, 5), data=None, **over):
    """Four updates on three episodes of six, judged by others."""
    config = fakes.micro(**{"train__steps": 4, **over})
    episodes = data or fakes.FakeEpisodes(count=6)
    learn = fakes.toy(config, episodes, only=[0, 1, 2])
    judge = fakes.toy(config, episodes, only=list(held_out))
    book = fakes.FakeCodebook(codes=16, dim=12)
    train(config, learn, place, options, codebook=book, validation=judge)
    return place


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A plain training, and one that learns nothing but is else the same."""
    folder = tmp_path_factory.mktemp("runs")
    trained(folder / "a")
    trained(folder / "b", train__lr=0.0, train__scale_lr=0.0)
    return folder


def judged(run):
    return [json.loads(line) for line in (run / "validation.jsonl").read_text().splitlines()]


def test_figures_of_episodes_have_the_mean_of_the_log(runs):
    log = [json.loads(line) for line in (runs / "a/metrics.jsonl").read_text().splitlines()]
    means = {line["step"]: line for line in log if "val_depth" in line}
    for line in judged(runs / "a"):
        figures = line["episodes"].values()
        assert sorted(line["episodes"]) == [
            f"toy/1.0.0/train/00000-of-00001/0000{n}" for n in (3, 4, 5)
        ]
        assert sum(row["samples"] for row in figures) == 3 * 4
        for name in ("action_mse", "depth", "depth_top1", "action_within_0.3"):
            mean = sum(row["samples"] * row[name] for row in figures) / 12
            assert mean == pytest.approx(means[line["step"]][f"val_{name}"], rel=1e-6)


def test_a_resumed_run_judges_every_step_once(runs, tmp_path):
    steps = []
    config = fakes.micro(train__steps=4)
    data = fakes.toy(config, fakes.FakeEpisodes(count=6), only=[0, 1, 2])
    held_out = fakes.toy(config, fakes.FakeEpisodes(count=6), only=[3, 4, 5])
    for stop in (3, 99):  # after the first judgement, then to the end
        train(
            config,
            data,
            tmp_path,
            OPTIONS,
            validation=held_out,
            on_step=steps.append,
            codebook=fakes.FakeCodebook(codes=16, dim=12),
            should_stop=lambda: len(steps) >= stop,  # noqa: B023
        )
    assert judged(tmp_path) == judged(runs / "a")


def test_side_by_side_at_equal_steps(runs):
    comparison = TrainingComparison.of(ValidatedRun.open(runs / "a"), ValidatedRun.open(runs / "b"))
    assert comparison.steps == [2, 4]
    assert comparison.settings() == [("train.lr", 0.001, 0.0), ("train.scale_lr", 0.1, 0.0)]
    (error,) = [
        difference for difference in comparison.differences() if difference.figure == "action_mse"
    ]
    rows = [judged(runs / name)[-1]["episodes"] for name in "ab"]
    changes = [rows[1][key]["action_mse"] - rows[0][key]["action_mse"] for key in rows[0]]
    assert error.change.mean == pytest.approx(np.mean(changes))
    assert error.change.half == pytest.approx(4.303 * np.std(changes, ddof=1) / 3**0.5)
    assert error.p_value in (0.25, 0.5, 0.75, 1.0)
    assert error.verdict == "no difference shown"  # three episodes cannot


def test_a_run_against_itself_shows_nothing(runs):
    comparison = TrainingComparison.of(ValidatedRun.open(runs / "a"), ValidatedRun.open(runs / "a"))
    assert {
        (difference.change.mean, difference.p_value) for difference in comparison.differences()
    } == {(0.0, 1.0)}
    assert comparison.settings() == []


def test_a_page_of_a_run_shows_words_alone(runs, tmp_path):
    text = run_report(runs / "a").write(tmp_path).read_text()
    assert "held-out actions within 0.05 of the truth" in text
    assert "val_" not in text
    assert set(read_log(runs / "a", METRICS)[-1]) <= {*WORDS, *WITHIN}


def test_from_the_command_line(runs, tmp_path):
    words = call("compare", runs / "a", runs / "b", "--out", tmp_path)
    assert "settings that differ: train.lr 0.001 and 0.0" in words
    assert "After 4 updates, on 3 held-out episodes (12 samples)" in words
    assert "p is at least 0.25" in words
    page = json.loads((tmp_path / "compare.json").read_text())
    curves = [section for section in page["sections"] if section["kind"] == "curves"]
    assert curves[0]["series"]["A"]["x"] == [2, 4]
    printed = json.loads(call("compare", runs / "a", runs / "b", "--json"))
    assert printed["step"] == 4
    assert printed["figures"]["action_mse"]["episodes"] == 3
    assert len(printed["episodes"]) == 3


def test_what_cannot_be_compared(runs, tmp_path):
    a = ValidatedRun.open(runs / "a")
    other = trained(tmp_path / "other", held_out=(2, 3, 4))
    with pytest.raises(ConfigError, match=r"different held-out episodes.*00002 is in only one"):
        TrainingComparison.of(a, ValidatedRun.open(other))
    fewer = trained(tmp_path / "fewer", replace(OPTIONS, validate_batches=2))
    with pytest.raises(ConfigError, match="different samples"):
        TrainingComparison.of(a, ValidatedRun.open(fewer))
    moved = trained(tmp_path / "moved", data__action_norm="q99")
    with pytest.raises(ConfigError, match="different units") as raised:
        TrainingComparison.of(a, ValidatedRun.open(moved))
    assert "data.action_norm" in raised.value.remedy
    longer = trained(tmp_path / "longer", model__chunk=5)
    with pytest.raises(ConfigError, match="different horizons"):
        TrainingComparison.of(a, ValidatedRun.open(longer))
    never = trained(tmp_path / "never", replace(OPTIONS, validate_every=0))
    with pytest.raises(SourceError, match="has no figures"):
        ValidatedRun.open(never)
    early = replace(a, steps={1: a.steps[2]})
    with pytest.raises(ConfigError, match="never validated at the same step"):
        TrainingComparison.of(a, early)


def test_codes_of_other_codebooks_are_not_compared(runs):
    a = ValidatedRun.open(runs / "a")
    b = replace(a, state=replace(a.state, codebook="other"))
    assert "depth" in TrainingComparison.of(a, a).figures()
    comparison = TrainingComparison.of(a, b)
    assert comparison.figures() == ["action_mse", "action_within_0.1", "action_mse_shuffled"]
    assert "codes of different codebooks" in comparison.told()[-1]


def tabulate(runs):
    """The table of trained runs, by variant."""
    return table({name: [RunFigures.of(run) for run in paths] for name, paths in runs.items()})


def test_depth_losses_of_other_targets_are_not_tabulated(runs, tmp_path):
    latents = trained(tmp_path / "latents", model__depth__target="latents")
    alike = tabulate({"a": [runs / "a"], "b": [runs / "b"]})
    assert "val_depth" in alike.figures()
    mixed = tabulate({"a": [runs / "a"], "latents": [latents]})
    assert not [name for name in mixed.figures() if name.startswith("val_depth")]
    assert "val_depth" not in mixed.to_json()["latents"]
    assert "of codes, latents are each against another truth: left out." in mixed.words()[-1]


def test_depth_figures_of_other_codebooks_are_not_tabulated():
    """Decoded error, too: a codebook that decodes to one image has none."""
    values = {"val_action_mse": 1.0, "val_depth": 2.0, "val_depth_top1": 0.5, "val_depth_error": 0}
    one = RunFigures(values, "codes", "u", "h", "one")
    none = replace(one, target="", codebook="other")  # predicts nothing
    assert "val_depth_error" in table({"a": [one], "b": [one], "none": [none]}).figures()
    mixed = table({"a": [one], "b": [replace(one, codebook="other")]})
    assert mixed.figures() == ["val_action_mse"]
    assert "different codebooks" in mixed.told()[-1]


def test_of_an_older_runs_figures_the_codebook_is_not_known():
    recorded = RunFigures({"val_depth": 2.0}, "codes", "u", "h", "one")
    old = {name: value for name, value in vars(recorded).items() if name != "codebook"}
    tabulated = table({"a": [recorded], "b": [RunFigures.from_json(old)]})
    assert tabulated.figures() == ["val_depth"]
    assert "not recorded for all runs" in tabulated.told()[-1]
    assert RunFigures.from_json(vars(recorded)) == recorded


def test_a_decoded_error_of_another_target_wins_nothing(runs):
    """Both have one; a's is of decoded codes, b's of latents."""
    a = ValidatedRun.open(runs / "a")
    episodes = {key: {**of, "depth_error": 0.1} for key, of in a.steps[4].items()}
    a = replace(a, steps={4: episodes})
    b = replace(a, settings={**a.settings, "model.depth.target": "latents"})
    assert "depth_error" in TrainingComparison.of(a, a).figures()
    assert "depth_error" not in TrainingComparison.of(a, b).figures()


@pytest.mark.parametrize("over", [{"data__action_norm": "q99"}, {"model__chunk": 5}])
def test_action_errors_of_other_units_are_not_tabulated(runs, tmp_path, over):
    other = trained(tmp_path / "other", **over)
    assert "val_action_mse" in tabulate({"a": [runs / "a"], "b": [runs / "b"]}).figures()
    mixed = tabulate({"a": [runs / "a"], "other": [other]})
    assert mixed.figures() == ["val_depth", "val_depth_top1", "samples_per_s"]
    assert mixed.words()[-1].startswith("Action errors differ in unit")


def test_variants_that_other_episodes_judged_are_said_to_be(runs, tmp_path):
    other = trained(tmp_path / "other", held_out=(2, 3, 4))
    said = "judged by different held-out episodes"
    assert said in " ".join(tabulate({"a": [runs / "a"], "other": [other]}).words())
    assert said not in " ".join(tabulate({"a": [runs / "a"], "b": [runs / "b"]}).words())


def test_a_training_and_an_evaluation(runs, tmp_path):
    (tmp_path / "eval.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"a is a training, .* is an evaluation"):
        call("compare", runs / "a", tmp_path)
    shutil.rmtree(tmp_path)
    with pytest.raises(SourceError, match="not an evaluation, a training run or a CodeStore"):
        call("compare", runs / "a", tmp_path)


def test_sign_flips():
    assert sign_flip(np.array([1.0, 2, 3, 4, 5, 6])) == 2 / 2**6
    assert sign_flip(np.array([-1.0, 1])) == 1
    assert sign_flip(np.array([3.0, 1, -1])) == 6 / 8  # |sum| of 3 or more: +-5, +-3 twice each
    rng = np.random.default_rng(0)
    assert sign_flip(rng.normal(size=40)) > 0.05
    assert sign_flip(rng.normal(loc=2, size=40)) == pytest.approx(1 / 100_001)


def test_the_signs_of_thousands_of_episodes_take_no_gigabytes(monkeypatch):
    """A held-out side of a large data set: all draws at once would be 16 MB here, and 4 GB for
    5,000 episodes."""
    monkeypatch.setattr(compare, "DRAWS", 10_000)
    tracemalloc.start()
    p_value = sign_flip(np.random.default_rng(1).normal(size=200))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0.01 < p_value < 1
    assert peak < 4e6


def test_verdicts():
    low, high = np.arange(6.0), np.arange(6.0) + np.linspace(1, 2, 6)
    assert Difference.of("action_mse", low, high).verdict == "A is better"
    assert Difference.of("depth_top1", low, high).verdict == "B is better"
    some = Difference.of("depth", np.append(low, np.nan), np.append(high, 9))
    assert some.change.count == 6
