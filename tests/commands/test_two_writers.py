"""A second writer into one output is refused, with exit code 2 and the holder's name, by every
command that writes a run."""

import subprocess
import sys

import pytest

from depthtok.disk.locks import LOCK
from tests.commands.trainings import training

HOLD = """
import sys, time
from pathlib import Path
from depthtok.disk.locks import writing, writing_shard
out, how = Path(sys.argv[1]), sys.argv[2]
with writing_shard(out, how) if "/" in how else writing(out, file=how == "file"):
    print(flush=True)
    time.sleep(120)
"""


@pytest.fixture
def held():
    """Lets another process write to an output until the test ends."""
    processes = []

    def hold(out, how=""):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(out), how], stdout=subprocess.PIPE
        )
        processes.append(process)
        process.stdout.readline()
        return process

    yield hold
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def refused(*words):
    """What a command says that must be refused."""
    done = subprocess.run(
        [sys.executable, "-m", "depthtok.cli", *map(str, words)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_train_vla(stores, held, tmp_path):
    other = held(tmp_path / "run")
    words = refused(*training(stores, tmp_path / "run", "--steps", 2))
    assert f"{tmp_path / 'run'} is being written by process {other.pid} on" in words
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [LOCK]


@pytest.mark.parametrize("twin", [True, False])
def test_train_vqvae(stores, held, tmp_path, twin):
    held(tmp_path / ("book.continuous" if twin else "book"), "file")
    flags = ("--twin",) if twin else ()
    words = refused("train-vqvae", stores / "depth", "--out", tmp_path / "book", *flags)
    assert "is being written by process" in words
    assert not (tmp_path / "book").exists()


def test_finetune_vida(stores, held, tmp_path):
    held(tmp_path / "w.safetensors", "file")
    words = refused(
        "finetune-vida",
        stores / "depth",
        "--estimator",
        "tiny",
        "--from-scratch",
        "--out",
        tmp_path / "w.safetensors",
        "--steps",
        1,
    )
    assert "w.safetensors is being written by process" in words


def test_run_and_ablate(held, tmp_path):
    held(tmp_path / "out")
    config = tmp_path / "run.toml"
    config.write_text(f'out = "{tmp_path}/out"\n[data]\nx = "{tmp_path}/none"\n')
    assert "out is being written by process" in refused("run", config)
    config.write_text(
        f'out = "{tmp_path}/out"\nvariants = ["tiny"]\n'
        f'[train-vla]\nepisodes = ["{tmp_path}/none"]\n'
    )
    assert "out is being written by process" in refused("ablate", config)
    assert "out is being written by process" in refused("demo", "--out", tmp_path / "out")


@pytest.mark.parametrize("shard", [None, "2/3"])
def test_eval(held, tmp_path, shard):
    """Refused before the policy is looked for: all trials beside anybody, a shard beside all."""
    held(tmp_path / "eval")
    flags = ("--shard", shard) if shard else ()
    words = refused("eval", tmp_path / "no-run", "--out", tmp_path / "eval", *flags)
    assert "eval is being written by process" in words
    assert sorted(path.name for path in (tmp_path / "eval").iterdir()) == [LOCK]


def test_eval_of_everything_beside_a_shard(held, tmp_path):
    (tmp_path / "eval").mkdir()
    held(tmp_path / "eval", "2/3")
    words = refused("eval", tmp_path / "no-run", "--out", tmp_path / "eval")
    assert "eval is being written by process" in words
    words = refused("eval", tmp_path / "no-run", "--out", tmp_path / "eval", "--shard", "2/3")
    assert "eval is being written by process" in words
    words = refused("eval", tmp_path / "no-run", "--out", tmp_path / "eval", "--shard", "1/3")
    assert "no-run" in words
    assert "written" not in words
