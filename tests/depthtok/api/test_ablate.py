"""Studies: arms over seeds, played by a stand-in, resumed without weights, planned, concluded."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import depthtok
from depthtok.api import ablate as api
from depthtok.api.ablate import Study
from depthtok.errors import ConfigError, DepthtokError, MissingPackage, StaleStore
from depthtok.log import hearing
from depthtok.signals import Stopped
from depthtok.stores.store import Store
from pipelines.ablate.seed_result import SeedResult
from pipelines.evaluate.protocol import Protocol
from pipelines.evaluate.trials import Evaluation, TrialOutcome
from vla.training import checkpoint

BEFORE = Path(__file__).parents[2] / "data" / "before"
TRIALS = 6
TRAINING = {
    "episodes": [str(BEFORE / "episodes")],
    "codes": [str(BEFORE / "codes")],
    "codebook": str(BEFORE / "codebook"),
    "source-root": str(BEFORE / "rlds" / "1.0.0"),
    "steps": 1,
    "batch": 4,
    "force": True,
    "device": "cpu",
    "threads": 1,
    "log-every": 1,
    "held-out": 0.0,
}
ARMS = ("true", "wrong")


def write(tmp_path, seeds=(3, 4), evaluation=True, more="", arms=ARMS, **training):
    """A study of true and wrong codes."""
    lines = [
        f'out = "{tmp_path}/out"',
        f"seeds = {list(seeds)}",
        more,
        "[variants]",
        *[f'true = "{BEFORE}/micro.toml"'] * ("true" in arms),
        f'wrong = {{preset = "{BEFORE}/micro.toml", "data.depth_codes" = "random"}}',
        "[train-vla]",
        *(f"{name} = {json.dumps(value)}" for name, value in {**TRAINING, **training}.items()),
        *(["[eval]", 'suite = "libero_goal"', 'tasks = "8"', f"trials = {TRIALS}"] * evaluation),
    ]
    path = tmp_path / "study.toml"
    path.write_text("\n".join(lines))
    return path


def stand_in(runs):
    """Plays a run without a simulator, and notes it; arm `true` wins more."""

    def evaluate(policy, out, settings, **others):
        runs.append("/".join(Path(policy).parts[-2:]))
        rng = np.random.default_rng(int(policy[-1]))
        card = {
            "policy": "stand-in",
            "suite": settings.suite,
            "seed": settings.seed,
            "trials": settings.trials,
            "max_steps": 9,
            "replan_steps": 3,
            "size": 8,
            "versions": {"fake": "1"},
            "tasks": {"8": "go"},
        }
        evaluation = Evaluation(out, card)
        evaluation.begin()
        for number in range(settings.trials):
            wins = bool(rng.random() < (0.9 if "true" in policy else 0.2))
            evaluation.save(TrialOutcome(8, number, 7, wins, 5, 2))
        return SimpleNamespace(words="played")

    return evaluate


@pytest.fixture
def played(monkeypatch):
    """Which runs were played, by a stand-in."""
    runs = []
    monkeypatch.setattr(api, "evaluate", stand_in(runs))
    return runs


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished study, what it returned, and what it announced."""
    folder, runs, heard = tmp_path_factory.mktemp("whole"), [], []
    with pytest.MonkeyPatch.context() as patch, hearing(heard.append):
        patch.setattr(api, "evaluate", stand_in(runs))
        ablation = depthtok.ablate(write(folder))
    return SimpleNamespace(place=folder, ablation=ablation, heard=heard, played=runs)


@pytest.fixture
def copy(whole, tmp_path):
    """The same study in a place of its own."""
    shutil.copytree(whole.place / "out", tmp_path / "out")
    return tmp_path


def test_a_study_is_trained_played_and_concluded(whole):
    ablation, heard, tmp_path = whole.ablation, whole.heard, whole.place
    assert whole.played == ["true/seed-3", "wrong/seed-3", "true/seed-4", "wrong/seed-4"]
    assert [h for h in heard if str(h).startswith("[")][-1] == "[4/4] wrong, seed 4"
    closed = ablation.closed_loop.to_json()
    rates = {
        arm: [
            np.mean(
                [
                    json.loads(path.read_text())["success"]
                    for path in (tmp_path / "out" / arm / f"seed-{seed}" / "eval/trials").iterdir()
                ]
            )
            for seed in (3, 4)
        ]
        for arm in ("true", "wrong")
    }
    assert closed["arms"]["true"] == {"3": rates["true"][0], "4": rates["true"][1]}
    (difference,) = closed["differences"]
    assert (difference["a"], difference["b"], difference["seeds"]) == ("true", "wrong", 2)
    expected = np.mean(rates["true"]) - np.mean(rates["wrong"])
    assert difference["difference"] == pytest.approx(expected)
    assert "were not testable with 2 seeds and 6 trials" in " ".join(closed["told"])
    page = ablation.page.read_text()
    assert "Differences of success rates" in page
    assert "true - wrong, seed by seed" in page
    assert not ablation.failures
    assert not any("do not agree" in line for line in closed["told"])


def test_results_are_enough_when_weights_are_gone(whole, copy, played):
    first, tmp_path = whole.ablation, copy
    result = SeedResult.read(SeedResult.path(tmp_path / "out" / "results", "wrong", 4))
    assert result.codes["before_set"]["kind"] == "random"
    assert (result.protocol["suite"], len(result.trials)) == ("libero_goal", TRIALS)
    assert result.cpu_s["training"] > 0
    path = SeedResult.path(tmp_path / "out" / "results", "wrong", 4)
    assert path.stat().st_size < 20_000
    for arm in ("true", "wrong"):
        shutil.rmtree(tmp_path / "out" / arm)
    again = depthtok.ablate(write(tmp_path))
    assert played == []
    assert not (tmp_path / "out" / "true").exists()
    assert again.closed_loop.to_json() == first.closed_loop.to_json()
    assert again.table.to_json() == first.table.to_json()
    longer = depthtok.ablate(write(tmp_path, seeds=(3, 4, 5)))  # and the study goes on
    assert played == ["true/seed-5", "wrong/seed-5"]
    assert longer.closed_loop.to_json()["differences"][0]["seeds"] == 3


def test_an_interrupted_study_goes_on_to_the_same_result(whole, copy, played, monkeypatch):
    for gone in ("true/seed-4", "wrong/seed-4", "wrong/seed-3/eval/trials"):
        shutil.rmtree(copy / "out" / gone)
    for gone in ("true/seed-4", "wrong/seed-4", "wrong/seed-3"):
        (copy / "out" / "results" / f"{gone}.json").unlink()
    commit = SeedResult.write

    def stopped(self, out):
        if self.arm == "wrong" and self.seed == 3:
            raise KeyboardInterrupt
        commit(self, out)

    monkeypatch.setattr(SeedResult, "write", stopped)
    with pytest.raises(KeyboardInterrupt):
        depthtok.ablate(write(copy))
    monkeypatch.setattr(SeedResult, "write", commit)
    played.clear()
    again = depthtok.ablate(write(copy)).closed_loop
    assert again.to_json() == whole.ablation.closed_loop.to_json()
    assert played == ["wrong/seed-3", "true/seed-4", "wrong/seed-4"]
    again = SeedResult.read(SeedResult.path(copy / "out" / "results", "wrong", 3))
    assert again.cpu_s == {"training": None, "evaluation": None}  # a part would mislead


def test_a_run_that_fails_stops_no_other(copy, monkeypatch):
    """As with --jobs; a signal does."""
    for name in ("true/seed-3", "wrong/seed-4"):
        (copy / "out" / "results" / f"{name}.json").unlink()
    heard, runs = [], []
    play = stand_in(runs)

    def evaluate(policy, **others):
        if "true" in policy:
            raise ConfigError("it does not play", remedy="mend it")
        return play(policy, **others)

    monkeypatch.setattr(api, "evaluate", evaluate)
    with hearing(heard.append):
        ablation = depthtok.ablate(write(copy))
    assert ablation.failures == {"true, seed 3": "it does not play (to mend it: mend it)"}
    assert runs == ["wrong/seed-4"]
    assert "failed: it does not play (to mend it: mend it)" in heard
    assert list(ablation.closed_loop.to_json()["arms"]["true"]) == ["4"]
    (copy / "out" / "results" / "true" / "seed-4.json").unlink()
    with pytest.raises(DepthtokError, match=r"no seed is finished.*true, seed 4: it does not play"):
        depthtok.ablate(write(copy))

    def stopped(**arguments):
        raise Stopped(15)

    monkeypatch.setattr(api, "evaluate", stopped)
    with pytest.raises(Stopped):
        depthtok.ablate(write(copy))


def test_other_settings_are_refused_and_a_damaged_result_is_named(copy, played):
    tmp_path = copy
    with pytest.raises(StaleStore, match=r"seed-3.json is of other settings"):
        depthtok.ablate(write(tmp_path, seeds=[3], steps=2))
    path = SeedResult.path(tmp_path / "out" / "results", "true", 3)
    path.write_text(path.read_text()[:50])
    with pytest.raises(DepthtokError, match=r"seed-3.json"):
        depthtok.ablate(write(tmp_path, seeds=[3]))


def test_a_seed_counts_only_for_what_it_learnt_from(copy, played, capsys):
    """Other data than a file's are refused; the same elsewhere are not, nor what is not there."""
    moved, other = copy / "moved", copy / "other"
    for path in (moved, other):
        shutil.copytree(BEFORE / "codes", path)
    shutil.rmtree(sorted((other / "parts").glob("*-of-*"))[0])
    for change, name in (
        ({"codes": [str(other)], "partial": True}, "codes"),
        ({"held-out": 0.2}, "held_out"),
        ({"weights": str(BEFORE / "run")}, "weights"),
        ({"mixture": "magic-soup-plus"}, "mixture"),
    ):
        with pytest.raises(StaleStore, match=rf"seed-3.json did not learn from .* now: {name}\n"):
            depthtok.ablate(write(copy, **change), report=True)
    depthtok.ablate(write(copy, codes=[str(moved)]))
    depthtok.ablate(write(copy, codes=["nowhere"], episodes=["nowhere"]), report=True)
    assert "do not say what they learnt from" not in capsys.readouterr().err
    for path in (copy / "out" / "results").glob("*/seed-*.json"):  # as an earlier version wrote it
        content = json.loads(path.read_text())
        assert content.pop("learnt")["codes"] == [{"content": Store(BEFORE / "codes").content}]
        path.write_text(json.dumps(content))
    depthtok.ablate(write(copy, codes=[str(other)], partial=True))
    assert capsys.readouterr().err.count("4 files of seeds do not say what they learnt from") == 1
    assert played == []


def test_a_difference_to_plan_for_does_not_train(tmp_path):
    with pytest.raises(ConfigError, match="--difference is for a plan"):
        depthtok.ablate(write(tmp_path), difference=5)
    assert not (tmp_path / "out").exists()


def test_a_plan_knows_what_was_seen(whole, tmp_path):
    plan = depthtok.ablate(write(tmp_path), plan=True, difference=5)
    assert (plan.spread, plan.cost, plan.trials) == (None, None, TRIALS)
    assert not (tmp_path / "out").exists()
    plan = depthtok.ablate(write(whole.place), plan=True, difference=5)
    assert plan.spread.freedom == 2
    assert plan.differences == (0.05,)
    assert all(row[4] > 0 for row in plan.rows() if row[3] is not None)


def test_a_plan_counts_the_trials_of_all_tasks(tmp_path, monkeypatch):
    """As many as an evaluation has; of one task where its simulator is not there to say it."""
    path = write(tmp_path)
    path.write_text(path.read_text().replace('tasks = "8"', ""))
    monkeypatch.setattr(Protocol, "of", lambda settings: SimpleNamespace(jobs=range(60)))
    plan = depthtok.ablate(path, plan=True)
    assert plan.trials == 60
    assert "of one task" not in " ".join(plan.words())

    def missing(settings):
        raise MissingPackage("there is no simulator", remedy="install it")

    monkeypatch.setattr(Protocol, "of", missing)
    plan = depthtok.ablate(path, plan=True)
    assert plan.trials == TRIALS
    assert f"{TRIALS} are the trials of one task; the suite has more" in plan.words()[-1]
    plan = depthtok.ablate(write(tmp_path), plan=True)
    assert plan.trials == TRIALS
    assert "of one task" not in " ".join(plan.words())


def test_processes_of_their_own_make_the_same_policies(whole, tmp_path):
    """`--jobs`: the weights of this process, with one thread."""
    heard = []
    study = write(tmp_path, seeds=[3], evaluation=False, arms=["wrong"])
    with hearing(heard.append):
        ablation = depthtok.ablate(study, jobs=2, nice=1)
    assert not ablation.failures
    assert heard == ["[1/1] wrong, seed 3: trained"]
    digests = [
        checkpoint.weights_sha256(checkpoint.find(folder / "out" / "wrong" / "seed-3"))
        for folder in (whole.place, tmp_path)
    ]
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ('compare = [["true", "worng"]]', "'worng', which is no variant"),
        ('compare = [["true"]]', r"`compare` has \['true'\]"),
        ("comparing = 1", "there is no 'comparing'"),
    ],
)
def test_what_a_study_cannot_be(tmp_path, more, problem):
    with pytest.raises(ConfigError, match=problem):
        depthtok.ablate(write(tmp_path, more=more))


def test_a_seed_that_is_there_twice_is_refused():
    """It would be listed, and averaged, as two trainings that agree: 50 ± 0 %."""
    content = {"out": "o", "variants": ["tiny"], "train-vla": {"episodes": ["e"], "codes": ["c"]}}
    with pytest.raises(ConfigError, match=r"`seeds` cannot be \[0, 1, 0\]"):
        Study.read({**content, "seeds": [0, 1, 0]}, "f")


def test_arms_may_have_stores_of_their_own():
    content = {
        "out": "o",
        "seeds": [0],
        "variants": {"a": "tiny", "b": {"train-vla": {"codes": ["other"]}}},
        "train-vla": {"episodes": ["e"], "codes": ["c"]},
    }
    stores = [arguments["stores"].codes for _, arguments in Study.read(content, "f").trainings()]
    assert stores == [(Path("c"),), (Path("other"),)]
    content["variants"]["b"]["train-vla"] = {"seed": 3}
    with pytest.raises(ConfigError, match=r"`variants.b.train-vla`: there is no 'seed'"):
        Study.read(content, "f")


def test_depth_as_an_input_needs_a_codebook_to_play():
    content = {
        "out": "o",
        "variants": {"a": "tiny+depth-input", "b": "tiny+no-depth-expert"},
        "train-vla": {"episodes": ["e"], "codes": ["c"]},
        "eval": {"tasks": "8"},
    }
    study = Study.read(content, "f")
    with pytest.raises(ConfigError, match="names no `codebook`"):
        study.played(Path("o/a"), "input")
    content["eval"]["codebook"] = "book"
    study = Study.read(content, "f")
    assert study.played(Path("o/a"), "input")["codebook"] == Path("book")
    assert study.played(Path("o/b"), "")["codebook"] is None
    later = Study.read({**content, "variants": {"a": {"model.depth.future": 4}}}, "f")
    (run,) = api._runs(later.first(1), one_core=False)  # its predicted codes are of other frames
    assert run.playing["codebook"] is None


def test_a_report_concludes_from_files_that_lie_elsewhere(whole, tmp_path, played):
    """As from results that are committed in pieces, on a machine that has neither data nor runs."""
    shutil.copytree(whole.place / "out" / "results", tmp_path / "kept")
    (tmp_path / "kept" / "wrong" / "seed-4.json").unlink()
    study = write(tmp_path, seeds=(3, 4, 5), more=f'results = "{tmp_path}/kept"')
    ablation = depthtok.ablate(study, report=True)
    assert played == []
    (difference,) = ablation.closed_loop.to_json()["differences"]
    assert difference["seeds"] == 1
    assert list(ablation.closed_loop.to_json()["arms"]["true"]) == ["3", "4"]
    first = depthtok.ablate(study, first=2)
    assert played == ["wrong/seed-4"]
    assert (tmp_path / "kept" / "wrong" / "seed-4.json").is_file()
    assert first.closed_loop.to_json() == whole.ablation.closed_loop.to_json()
    with pytest.raises(ConfigError, match="there are 3 seeds, not 4"):
        depthtok.ablate(study, first=4)


def test_what_a_report_leaves_out_and_what_does_not_agree_is_said(copy, played, capsys):
    """Files of several machines: one played fewer trials, one with other packages."""
    results = copy / "out" / "results"
    for name, change in (
        ("true/seed-3", {"protocol": {"versions": {"fake": "2"}}}),
        ("wrong/seed-4", {"playing": {"trials": TRIALS - 1}}),
    ):
        path = results / f"{name}.json"
        content = json.loads(path.read_text())
        content |= {key: {**content[key], **value} for key, value in change.items()}
        path.write_text(json.dumps(content))
    ablation = depthtok.ablate(write(copy), report=True)
    assert ablation.closed_loop.to_json()["differences"][0]["seeds"] == 1
    told = capsys.readouterr().err
    assert f"other settings than [eval] has now: {results}/wrong/seed-4.json" in told
    (line,) = (line for line in ablation.closed_loop.told() if "do not agree" in line)
    assert "or by what: versions." in line


def test_a_report_of_nothing_is_refused(tmp_path):
    with pytest.raises(DepthtokError, match="no seed is finished in all arms"):
        depthtok.ablate(write(tmp_path), report=True)
