"""Commands called from Python, on small stores: what they return, and that they print nothing."""

import json
import shutil
import threading
import tomllib
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import pytest

import depthtok
from depthtok.api.ablate import Study
from depthtok.errors import ConfigError
from depthtok.log import hearing
from depthtok.stores.codebook import Codebook
from pipelines.train_vla.memory import MemoryPlan

BEFORE = Path(__file__).parents[2] / "data" / "before"
ROOT = BEFORE / "rlds" / "1.0.0"
MOVED = {"source_root": ROOT, "device": "cpu"}


@pytest.fixture(autouse=True)
def silent(capfd):
    """Nothing is printed on stdout."""
    yield
    assert capfd.readouterr().out == ""


def test_inspect_returns_a_summary_a_path():
    inspection = depthtok.inspect([BEFORE / "codes", str(BEFORE / "depth")])
    facts = [summary.facts for summary in inspection.summaries]
    assert [fact["made by"] for fact in facts] == ["depthtok tokenize", "depthtok annotate"]
    assert inspection.drafts == ()


@pytest.mark.parametrize(
    ("command", "name", "value"),
    [("eval_vqvae", "clips", -1), ("train_vla", "ranks", -1), ("evaluate", "batch", 0)],
)
def test_counts_below_their_least_are_refused_before_anything_is_opened(command, name, value):
    arguments = {
        "eval_vqvae": {"codebook": "none", "depth": ["none"], "clips": value},
        "train_vla": {"episodes": ["none"], "ranks": value},
        "evaluate": {"policy": "none", "set": {"batch": value}},
    }
    with pytest.raises(ConfigError, match=rf"`{name}` cannot be {value}"):
        getattr(depthtok, command)(**arguments[command], out="none")


def test_inspect_returns_drafts_of_schemas():
    inspection = depthtok.inspect(ROOT, draft=True)
    assert inspection.summaries == ()
    assert tomllib.loads(inspection.drafts[0])["datasets"] == ["before_set"]


def test_verify_drops_a_part_whose_manifest_is_damaged(tmp_path):
    for name in ("codes", "depth", "codebook", "episodes"):
        shutil.copytree(BEFORE / name, tmp_path / name)
    codes = tmp_path / "codes"
    before = depthtok.verify(codes).findings
    manifest = next((codes / "parts").rglob("manifest.json"))
    manifest.write_bytes(manifest.read_bytes()[1:])
    mended = depthtok.verify(codes, repair=True)
    assert mended.sound, mended.findings
    assert mended.dropped == [manifest.parent.name]
    assert [finding for finding in mended.findings if finding.note] == list(before)


def test_verify_names_damage_and_drops_it(tmp_path):
    codes = Path(shutil.copytree(BEFORE / "codes", tmp_path / "codes"))
    assert depthtok.verify(codes).sound
    victim = max(
        (codes / "parts").rglob("*"), key=lambda path: path.is_file() * path.stat().st_size
    )
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    verification = depthtok.verify(codes)
    assert not verification.sound
    assert len(verification.damages) == len(verification.mendable) == 1
    mended = depthtok.verify(codes, repair=True)
    assert mended.sound
    assert mended.stage == "tokenize"
    assert mended.dropped == [verification.damages[0].part]
    assert len(depthtok.open_store(codes).missing()) == 1


def test_doctor_says_whether_all_is_there():
    examination = depthtok.doctor()
    assert examination.good
    names = {row.name: row for row in examination.rows if row.group == "Estimators"}
    assert {"dataset", "vits", "tiny"} <= set(names)


def test_report_returns_its_files(tmp_path):
    report = depthtok.report(BEFORE / "codes", out=tmp_path)
    assert report.page == tmp_path / "report.html"
    assert "before_set" in json.loads(report.data.read_text())["title"] + report.page.read_text()


def test_compare_returns_figures_and_words(tmp_path):
    comparison = depthtok.compare(BEFORE / "codes", BEFORE / "codes", out=tmp_path)
    assert comparison.kind == "a store of codes"
    assert comparison.figures["cameras"]["image"]["same"]["mean"] == 1
    assert comparison.words
    assert comparison.page == tmp_path / "compare.html"
    assert depthtok.compare(BEFORE / "codes", BEFORE / "codes").page is None


def test_inspect_mask_proves_the_table():
    inspection = depthtok.inspect_mask("tiny")
    assert inspection.violations == []
    assert (
        inspection.proof.gradient["image"]["action"]
        == 0
        < inspection.proof.gradient["action"]["image"]
    )


def test_eval_depth_returns_its_score():
    evaluation = depthtok.eval_depth(
        BEFORE / "run",
        episodes=BEFORE / "episodes",
        codes=BEFORE / "codes",
        codebook=BEFORE / "codebook",
        samples=4,
        **MOVED,
    )
    assert (evaluation.dataset, evaluation.figures["frames"]) == ("before_set", 4)
    assert evaluation.figures["depth"] > evaluation.figures["constant_depth"] > 0
    assert evaluation.page is None


def test_audit_depth_of_the_truth_itself_is_perfect(tmp_path):
    depth = BEFORE / "depth"
    audit = depthtok.audit_depth(estimated=depth, truth=depth, out=tmp_path, source_root=ROOT)
    assert (audit.wrong, audit.weak) == (False, False)
    assert audit.cameras[0].figures["abs_rel"] == pytest.approx(0)
    assert len(audit.clips) == audit.cameras[0].clips == 6
    assert audit.page.is_file()


@pytest.mark.parametrize(
    "given",
    [
        {"estimated": BEFORE / "depth", "truth": BEFORE / "depth", "weights": "vits.pth"},
        {"episodes": BEFORE / "episodes", "estimator": "tiny", "codebook": BEFORE / "codebook"},
        {"episodes": BEFORE / "episodes", "estimator": "tiny", "camera_height": "image=1"},
        {"episodes": BEFORE / "episodes", "estimator": "tiny", "any_unit": True},
    ],
)
def test_audit_depth_refuses_what_it_would_not_use(given, tmp_path):
    with pytest.raises(ConfigError, match="go with"):
        depthtok.audit_depth(**given, out=tmp_path / "audit", source_root=ROOT)
    assert not (tmp_path / "audit").exists()


def test_eval_vqvae_measures_as_many_clips_as_asked(tmp_path):
    evaluation = depthtok.eval_vqvae(
        BEFORE / "codebook", BEFORE / "depth", out=tmp_path, clips=2, **MOVED
    )
    assert evaluation.quality["frames"] == 24
    assert evaluation.report.is_file()
    with pytest.raises(ConfigError, match="`sticky` cannot be -1"):
        depthtok.eval_vqvae(BEFORE / "codebook", BEFORE / "depth", out=tmp_path, sticky=-1)


def test_train_vqvae_takes_settings_by_flag_and_by_name(tmp_path):
    trained = depthtok.train_vqvae(
        BEFORE / "depth",
        out=tmp_path / "cb",
        preset=BEFORE / "vqvae.toml",
        steps=6,
        threads=1,
        set={"quantizer.kind": "fsq", "demo": True},
        **MOVED,
    )
    book = Codebook.load(trained.codebook)
    assert book.fingerprint == trained.fingerprint
    assert (book.meta["quantizer"]["kind"], book.meta["training"]["steps"]) == ("fsq", 6)
    assert book.demo
    assert trained.quality["codes"]["of"] == 8 * 6 * 5
    assert trained.report.is_file()


def test_settings_that_do_not_exist_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="there is no setting 'kindd'"):
        depthtok.train_vqvae(BEFORE / "depth", out=tmp_path, set={"quantizer.kindd": "fsq"})
    with pytest.raises(ConfigError, match=r"there is no setting 'run\.log_evry'"):
        depthtok.train_vla(episodes=BEFORE, out=tmp_path, set={"run.log_evry": 3})


def test_finetune_depth_returns_weights_and_their_card(tmp_path):
    heard = []
    with hearing(heard.append):
        tuned = depthtok.finetune_depth(
            BEFORE / "depth",
            out=tmp_path / "w.safetensors",
            estimator="tiny",
            steps=1,
            batch=1,
            frames=2,
            input_size=28,
            from_scratch=True,
            set={"mirror": False},
            **MOVED,
        )
    assert heard == ["5 clips train, 1 held out"]
    assert tuned.card["training"]["settings"]["mirror"] is False
    assert tuned.card == json.loads(tuned.card_path.read_text())
    assert tuned.weights.is_file()


def training(out, **more):
    return depthtok.train_vla(
        episodes=BEFORE / "episodes",
        codes=BEFORE / "codes",
        codebook=BEFORE / "codebook",
        preset=BEFORE / "micro.toml",
        batch=4,
        out=out,
        force=True,
        threads=1,
        **MOVED,
        **more,
    )


def test_a_plan_of_a_training_is_memory_in_bytes(tmp_path):
    plan = training(tmp_path / "run", plan=True, set={"run.micro_batch": 2})
    assert isinstance(plan, MemoryPlan)
    assert (plan.samples, plan.passes) == (2, 2)
    assert not (tmp_path / "run").exists()


def test_ablate_tabulates_and_tells_what_it_does(tmp_path):
    flags = {
        "episodes": [BEFORE / "episodes"],
        "codes": [BEFORE / "codes"],
        "steps": 1,
        "batch": 4,
        "codebook": BEFORE / "codebook",
        "source-root": ROOT,
        "force": True,
        "device": "cpu",
        "threads": 1,
        "log-every": 1,
    }
    study = [
        f'out = "{tmp_path}/out"',
        "seeds = [3]",
        "[variants]",
        f'small = "{BEFORE}/micro.toml"',
        "[train-vla]",
        *(f"{name} = {json.dumps(value, default=str)}" for name, value in flags.items()),
    ]
    (tmp_path / "study.toml").write_text("\n".join(study))
    heard = []
    with hearing(heard.append):
        ablation = depthtok.ablate(tmp_path / "study.toml")
    assert heard[0] == "[1/1] small, seed 3"
    assert (heard[1].step, heard[1].last["step"]) == (1, 1)
    assert list(ablation.table.values) == ["small"]
    assert ablation.page.is_file()


@pytest.mark.parametrize("last", ["plan = true", "resume = false"])
def test_a_study_decides_that_it_trains_and_resumes(tmp_path, last):
    lines = [f'out = "{tmp_path}/out"', 'variants = ["tiny"]', "[train-vla]", 'episodes = ["e"]']
    (tmp_path / "study.toml").write_text("\n".join([*lines, last]))
    with pytest.raises(ConfigError, match=rf"\[train-vla\]: there is no '{last.split()[0]}'"):
        depthtok.ablate(tmp_path / "study.toml")


def test_all_variants_are_checked_before_the_first_is_trained(tmp_path):
    lines = [
        f'out = "{tmp_path}/out"',
        "[variants]",
        'a = "tiny"',
        "b = {data = {corp = 1.0}}",
        "[train-vla]",
        'episodes = ["e"]',
    ]
    (tmp_path / "study.toml").write_text("\n".join(lines))
    with pytest.raises(ConfigError, match="there is no setting 'corp'"):
        depthtok.ablate(tmp_path / "study.toml")
    assert not (tmp_path / "out").exists()


def test_settings_of_variants_are_values_and_tables():
    content = {
        "out": "o",
        "variants": {"a": {"data": {"crop": 0.5}, "data.tokenizer": 'a "b" \\c'}},
        "train-vla": {"episodes": ["e"], "set": ["data.crop=0.9", "train.lr=2"]},
    }
    ((title, arguments), *others) = Study.read(content, "f").trainings()
    assert (title, len(others)) == ("a, seed 0", 2)
    settings = arguments["settings"]
    assert (settings.data.crop, settings.data.tokenizer) == (0.5, 'a "b" \\c')
    assert settings.train.lr == 2


def test_a_run_trains_and_plans_nothing(tmp_path):
    lines = [
        f'out = "{tmp_path}/run"',
        "[data]",
        f'sample = "{ROOT}"',
        "[train-vla]",
        "plan = true",
    ]
    (tmp_path / "run.toml").write_text("\n".join(lines))
    with pytest.raises(ConfigError, match=r"\[train-vla\] `plan` is of single commands"):
        depthtok.run(tmp_path / "run.toml")


@pytest.mark.skipif(not find_spec("websockets"), reason="the extra `serve` is not installed")
def test_a_server_answers_until_it_is_closed():
    with depthtok.serve(BEFORE / "run", port=0, device="cpu", policy_gripper="open1_closed0") as s:
        thread = threading.Thread(target=s.forever)
        thread.start()
        assert s.about["gripper"] == "open1_closed0"
        assert s.address == f"127.0.0.1:{s.port}"
        with urllib.request.urlopen(f"http://{s.address}/healthz") as answer:
            assert answer.status == 200
    thread.join(20)
    assert not thread.is_alive()
