"""A second writer into one output is refused, with exit code 2 and the holder's name, by every
command that writes a run."""

import subprocess
import sys

import pytest

from depthtok.locks import LOCK
from tests.commands.trainings import training

HOLD = """
import sys, time
from pathlib import Path
from depthtok.locks import writing
with writing(Path(sys.argv[1]), file=sys.argv[2] == "file"):
    print(flush=True)
    time.sleep(120)
"""


@pytest.fixture
def held():
    """Lets another process write to an output until the test ends."""
    begun = []

    def hold(out, how=""):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(out), how], stdout=subprocess.PIPE
        )
        begun.append(process)
        process.stdout.readline()
        return process

    yield hold
    for process in begun:
        process.kill()
        process.wait()
        process.stdout.close()


def refused(*words):
    """What a command says that must be refused."""
    done = subprocess.run(
        [sys.executable, "-m", "depthtok.cli", *map(str, words)], capture_output=True, text=True
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
    more = ("--twin",) if twin else ()
    words = refused("train-vqvae", stores / "depth", "--out", tmp_path / "book", *more)
    assert "is being written by process" in words
    assert not (tmp_path / "book").exists()


def test_finetune_vida(stores, held, tmp_path):
    held(tmp_path / "w.safetensors", "file")
    words = refused("finetune-vida", stores / "depth", "--estimator", "tiny", "--from-scratch",
                    "--out", tmp_path / "w.safetensors", "--steps", 1)  # fmt: skip
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
