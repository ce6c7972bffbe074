"""Policies from the command line: training that resumes, masks, ablations, judging, serving."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from depthtok.api.ablate import Study
from depthtok.cli.main import app
from depthtok.errors import ConfigError, CorruptPart, StaleStore, WeightsError
from depthtok.stores.codebook import Codebook
from depthtok.stores.episodes import EpisodeStore
from tests.commands.trainings import DEMO, call, lines, training
from vla.serving.policy import Policy
from vqvae.codec import Codec


@pytest.fixture(scope="module")
def run(stores):
    """A finished training of 25 updates."""
    out = stores / "run"
    call(*training(stores, out, "--steps", 25))
    return out


def test_a_stopped_run_goes_on_with_the_same_losses(stores, run, tmp_path):
    """SIGTERM in the middle; the next 20 losses and all else are equal to the bit."""
    command = [str(a) for a in training(stores, tmp_path / "b", "--steps", 25)]
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPING, *command],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    _, words = process.communicate(timeout=120)
    assert process.returncode == 143, words
    done = len(lines(tmp_path / "b"))
    assert 0 < done <= 5
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0
    assert f"train-vla: {done}/25" not in result.stderr  # the bar does not begin anew
    assert "25/25 steps (100%)" in result.stderr
    assert lines(tmp_path / "b") == lines(run)
    assert len(lines(run)) - done >= 20


def test_other_settings_are_refused_before_any_progress(stores, run, monkeypatch):
    """A finished run, given more steps: nothing is begun, no line says how far it is."""
    from pipelines.train_vla.job import PolicyTraining

    monkeypatch.setattr(PolicyTraining, "opened", lambda *_, **__: pytest.fail("opened the data"))
    before = (run / "metrics.jsonl").read_bytes()
    result = CliRunner().invoke(app, [str(a) for a in training(stores, run, "--steps", 26)])
    assert isinstance(result.exception, StaleStore)
    assert "other settings: train.steps" in result.exception.problem
    assert "train.steps = 25" in result.exception.remedy
    assert "train-vla:" not in result.output
    assert (run / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize("threads", [-1, 4097, 100_000])
def test_data_loading_threads_are_bounded(stores, tmp_path, threads):
    words = training(stores, tmp_path / "run", "--steps", 1, "--loader-threads", threads)
    with pytest.raises(ConfigError, match=f"loader_threads = {threads}, but must be"):
        call(*words)
    assert not (tmp_path / "run").exists()


STOPPING = """
import os, signal, sys
from depthtok.cli import main as cli
import vla.training.runlog
write = vla.training.runlog.Log.write
def stopping(self, line):
    write(self, line)
    if line["step"] == 4:
        os.kill(os.getpid(), signal.SIGTERM)
vla.training.runlog.Log.write = stopping
sys.argv = ["depthtok", *sys.argv[1:]]
cli.main()
"""


def test_the_best_weights_are_kept(run):
    best = json.loads((run / "best" / "state.json").read_text())["step"]
    errors = {line["step"]: line["val_action_mse"] for line in lines(run) if "val_depth" in line}
    assert sorted(errors) == [10, 20, 25]
    assert errors[best] == min(errors.values())
    assert not (run / "best" / "optimizer.safetensors").exists()


def test_the_report_shows_depth(run, tmp_path):
    call("report", run, "--out", tmp_path)
    report = json.loads((tmp_path / "report.json").read_text())
    titles = [section["title"] for section in report["sections"]]
    assert {"Losses", "Decoded depth on held-out episodes", "Frames"} <= set(titles)
    starting_point = next(s for s in report["sections"] if s["title"] == "Starting point")
    key = Codebook.load(DEMO).fingerprint[:12]
    assert starting_point["paragraphs"] == [
        f"From fresh weights; depth codes of the codebook {key}."
    ]
    assert len(next(s for s in report["sections"] if s["title"] == "Data")["rows"]) == 1
    frames = next(s for s in report["sections"] if s["title"] == "Frames")["rows"]
    assert frames[0]["heading"] == "Frame 1"
    for row in frames:
        camera, truth, predicted = row["pictures"]
        assert (camera, truth) == ("camera image", "ground-truth depth")
        assert predicted.startswith("predicted depth, error 0.")


@pytest.mark.parametrize("target", ["latents", "none", "pixels", "future"])
def test_other_targets(stores, tmp_path, target):
    flags = ["--set", "model.depth.future=2"]
    if target != "future":
        flags = ["--set", f"model.depth.target={target}"]
    if target == "pixels":
        flags += ["--depth", stores / "depth", "--codebook", DEMO]
    call(*training(stores, tmp_path / "p", "--steps", 1, "--frame-cache", tmp_path / "c", *flags))
    (line,) = lines(tmp_path / "p")
    assert ("val_depth_error" in line) == (target != "none")
    assert (tmp_path / "c" / "libero_sim_depth" / "frames.bin").is_file()


def test_pixels_need_depth(stores, tmp_path):
    with pytest.raises(ConfigError, match="regress pixels"):
        call(*training(stores, tmp_path / "p", "--set", "model.depth.target=pixels"))


def test_a_start_from_other_weights(stores, run, tmp_path):
    call(*training(stores, tmp_path / "p", "--steps", 1, "--weights", run))
    assert lines(tmp_path / "p")[0]["flow"] != lines(run)[0]["flow"]
    with pytest.raises(WeightsError, match="no weights at"):
        call(*training(stores, tmp_path / "q", "--weights", tmp_path / "nowhere"))


def test_two_processes_train_as_one(stores, tmp_path):
    flags = ["--steps", 2, "--held-out", 0]
    call(*training(stores, tmp_path / "one", *flags))
    command = [str(a) for a in training(stores, tmp_path / "two", *flags)]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    subprocess.run(
        [
            *launcher,
            "--rdzv-backend",
            "c10d",
            "--rdzv-endpoint",
            "localhost:0",
            "-m",
            "depthtok.cli",
            *command,
        ],
        check=True,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    for a, b in zip(lines(tmp_path / "one"), lines(tmp_path / "two"), strict=True):
        assert a == pytest.approx(b, rel=1e-4)


class FakeWriter:
    """Stands for the two optional packages."""

    def __init__(self, *_: object, **given: object) -> None:
        self.given, self.seen = given, []
        WRITERS.append(self)

    def add_scalar(self, name, value, step):
        self.seen.append((name, step))

    def log(self, values, step):
        self.seen += [(name, step) for name in values]

    def flush(self):
        pass

    def close(self):
        self.closed = True

    finish = close


WRITERS: list[FakeWriter] = []


def test_other_logs(stores, tmp_path, monkeypatch):
    import types

    WRITERS.clear()
    board = types.SimpleNamespace(SummaryWriter=FakeWriter)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", board)
    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=FakeWriter))
    logs = ["--log", "tensorboard", "--log", "wandb"]
    call(*training(stores, tmp_path / "p", "--steps", 2, *logs))
    for writer in WRITERS:
        assert ("loss", 1) in writer.seen
        assert ("loss", 2) in writer.seen
        assert writer.closed
    assert len(WRITERS) == 2
    with pytest.raises(ConfigError, match="log = 'paper'"):
        call(*training(stores, tmp_path / "q", "--log", "paper"))


def test_the_mask_is_drawn_and_proved(tmp_path):
    words = call("inspect-mask", "qdepth+causal", "--out", tmp_path)
    assert "proved" in words
    assert (tmp_path / "mask.html").is_file()
    assert (tmp_path / "mask.png").read_bytes().startswith(b"\x89PNG")
    printed = json.loads(call("inspect-mask", "tiny", "--json"))
    assert printed["gradient"]["image"]["action"] == 0
    assert printed["violations"] == []


def test_a_mask_that_leaks_is_caught(monkeypatch):
    """The attention is given another table than the one that is drawn."""
    from vla.model import proof
    from vla.model.masks import SeesTable

    streams = proof._streams

    def leaking(model, seen):
        model.table = SeesTable.named("prefix")
        return streams(model, seen)

    def prove(config, seed=0):
        honest = old(config, seed)
        return proof.replace(honest, table=SeesTable.named("qdepth"))

    old = proof.prove
    monkeypatch.setattr(proof, "_streams", leaking)
    monkeypatch.setattr(proof, "prove", prove)
    assert "text reaches image" in call("inspect-mask", "tiny", code=1)


def test_an_ablation(stores, tmp_path):
    study = tmp_path / "study.toml"
    study.write_text(f"""
        out = "{tmp_path / "out"}"
        seeds = [0, 1]
        [variants]
        paper = "{stores / "micro.toml"}"
        causal = {{preset = "{stores / "micro.toml"}", "model.mask" = "causal"}}
        [train-vla]
        episodes = ["{stores / "episodes"}"]
        codes = ["{stores / "codes"}"]
        steps = 2
        batch = 4
        held_out = 0.4
        validate_every = 2
        threads = 1
        device = "cpu"
    """)
    for _ in range(2):  # the second time all runs are there
        printed = json.loads(call("ablate", study, "--json"))
        assert set(printed) == {"paper", "causal"}
        mean, half = printed["causal"]["val_action_mse"]["mean"]
        values = [run["val_action_mse"] for run in printed["causal"]["runs"]]
        assert mean == pytest.approx(np.mean(values))
        assert half == pytest.approx(12.706 * np.std(values, ddof=1) / 2**0.5)
    assert (tmp_path / "out" / "ablation.html").is_file()
    study.write_text(study.read_text().replace("steps = 2", "stepz = 2"))
    with pytest.raises(ConfigError, match="no 'stepz'"):
        call("ablate", study)


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"seeds": 0}, "`seeds` cannot be 0"),
        ({"seeds": []}, "`seeds` is not given"),
        ({"variants": 5}, "`variants` cannot be 5"),
        ({"variants": {"a": 5}}, "`variants.a` cannot be 5"),
        ({"train-vla": {"episodes": ["e"], "codes": 5}}, "`codes` cannot be 5"),
        ({"train-vla": {"steps": 5}}, "names no `episodes`"),
    ],
)
def test_a_study_of_other_types_is_refused(over, message):
    content = {"out": "out", "variants": ["tiny"], "train-vla": {"episodes": ["e"]}}
    Study.read(content, "study.toml")
    with pytest.raises(ConfigError, match=f"study.toml: .*{message}"):
        Study.read(content | over, "study.toml")


def test_depth_is_judged_whatever_the_grippers_are(stores, tmp_path, monkeypatch):
    """A run that converted its grippers, on data whose gripper's convention is not known."""
    call(*training(stores, tmp_path / "run", "--steps", 1, "--set", "data.gripper=open1_closed0"))
    meaning = EpisodeStore(stores / "episodes").meaning
    unknown = property(lambda store: replace(meaning, gripper="unknown"))
    monkeypatch.setattr(EpisodeStore, "meaning", unknown)
    printed = call(
        "eval-depth",
        tmp_path / "run",
        "--episodes",
        stores / "episodes",
        "--codes",
        stores / "codes",
        "--samples",
        4,
    )
    assert "4 frames" in printed


def test_depth_on_another_data_set(stores, run, tmp_path):
    paths = ["--episodes", stores / "episodes", "--codes", stores / "codes"]
    printed = json.loads(
        call("eval-depth", run, *paths, "--samples", 8, "--json", "--out", tmp_path)
    )
    assert printed["frames"] == 8
    assert printed["constant_depth"] < printed["depth"]
    assert 0 <= printed["top1"] <= printed["constant_top1"] <= 1
    assert (tmp_path / "eval-depth.html").is_file()
    other = json.loads((run / "checkpoints" / "step-000025" / "state.json").read_text())
    assert other["codebook"] == Codebook.load(DEMO).fingerprint
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    for file in (run / "best").iterdir():
        (foreign / file.name).write_bytes(file.read_bytes())
    for key in ("digest", "files", "format", "beside"):  # as they were written once
        del other[key]
    (foreign / "state.json").write_text(json.dumps({**other, "codebook": "f" * 64}))
    with pytest.raises(CorruptPart, match=r"state\.json was changed"):  # with today's weights
        call("eval-depth", foreign, *paths)
    save_file(load_file(foreign / "model.safetensors"), foreign / "model.safetensors")
    with pytest.raises(StaleStore, match="was trained on ffffffffffff"):
        call("eval-depth", foreign, *paths)
    settings = json.loads((foreign / "config.json").read_text())
    settings["model"]["depth"]["target"] = "pixels"
    (foreign / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match="not trained to predict codes"):
        call("eval-depth", foreign, *paths)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "state.json"])
def test_a_bit_that_flipped_in_a_checkpoint_is_found(run, tmp_path, name):
    assert "is sound" in call("verify", run)
    broken = shutil.copytree(run, tmp_path / "run")
    file = broken / "checkpoints" / "step-000025" / name
    content = bytearray(file.read_bytes())
    content[len(content) * 3 // 4] ^= 1
    file.write_bytes(content)
    result = CliRunner().invoke(app, ["verify", str(broken)])
    assert result.exit_code == 1
    assert str(file) in result.stdout.replace("\n", "")
    with pytest.raises((CorruptPart, WeightsError), match=name):
        Policy.load(broken)


def test_serving(run):
    websockets = pytest.importorskip("websockets.sync.client")
    pytest.importorskip("msgpack")
    from vla.serving.wire import pack, unpack

    process = subprocess.Popen(
        [sys.executable, "-m", "depthtok.cli", "serve", run, "--port", "0", "--device", "cpu"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "DEPTHTOK_API_KEY": "k"},
    )
    guard = threading.Timer(60, process.kill)
    guard.start()
    process.stdout.readline()
    address = process.stdout.readline().split()[2]
    headers = {"Authorization": "Api-Key k"}
    with websockets.connect(address, compression=None, additional_headers=headers) as client:
        assert unpack(client.recv())["action_horizon"] == 2
        image = np.zeros((32, 32, 3), np.uint8)
        client.send(
            pack({"observation/image": image, "observation/state": np.zeros(8), "prompt": "move"})
        )
        assert unpack(client.recv())["actions"].shape == (2, 7)
    process.terminate()
    printed, _ = process.communicate()
    assert (printed, process.returncode) == ("stopped\n", 0)
    guard.cancel()


def test_a_taken_port_is_named(run):
    pytest.importorskip("websockets.sync.server")
    pytest.importorskip("msgpack")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot serve on 127.0.0.1, port {port}"):
            call("serve", run, "--port", port, "--device", "cpu")
    with pytest.raises(ConfigError, match="`port` cannot be 99999"):
        call("serve", run, "--port", 99_999, "--device", "cpu")


def test_codes_decode_to_what_is_judged(run):
    """The pictures of a run are what the codebook makes of codes."""
    from vla.evaluation.depth_view import DepthView

    view = DepthView.find(run)
    codec = Codec.load(DEMO)
    assert view.truth.shape[1:] == codec.codebook.size
    assert view.errors().shape == (len(view.image),)
