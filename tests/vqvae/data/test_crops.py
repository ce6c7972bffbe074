"""Crops are drawn ahead, and a step gets its own, whatever was drawn before and in which order."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from depthtok.errors import SourceError
from depthtok.normalisation import Normalisation
from depthtok.stores.codebook import Codebook
from tests.vqvae.synthetic import scenes, tiny
from vqvae.config import TrainOptions
from vqvae.data import crops as crops_module
from vqvae.data.clips import ClipSource
from vqvae.data.crops import AHEAD, Crops
from vqvae.data.frames import CropBatch, DepthCache
from vqvae.training import train as training
from vqvae.training.train import TokeniserTrainer

ROOT = Path(__file__).parents[3]
WAITS = {"_local_scalar_dense", "nonzero", "bincount", "masked_select", "unique", "is_nonzero"}


def batch_of(step: int) -> CropBatch:
    return CropBatch(np.full((2, 1, 4, 4), step, np.float32), np.ones((2, 1, 4, 4), bool))


def test_a_step_gets_its_own_batch_in_whatever_order_threads_finish(monkeypatch):
    monkeypatch.setattr(crops_module, "THREADS", 3)
    drawn = []

    def draw(step):
        time.sleep(0.01 * (step % 3 == 0))
        drawn.append(step)
        return batch_of(step)

    crops = Crops(draw, 30, torch.device("cpu"))
    crops._pool._max_workers = 3  # as on a GPU
    assert [float(crops.take(step)[0][0, 0, 0, 0]) for step in range(30)] == list(range(30))
    crops.close()
    assert sorted(drawn) == list(range(30))
    assert drawn != sorted(drawn)


def test_no_more_is_drawn_than_asked_and_a_few_ahead():
    drawn = []
    crops = Crops(lambda step: drawn.append(step) or batch_of(step), 100, torch.device("cpu"))
    crops.take(20)
    crops.take(3)  # a checkpoint was loaded
    assert set(crops._coming) == set(range(4, 4 + AHEAD))
    crops.close()
    assert set(drawn) <= {*range(20, 21 + AHEAD), *range(3, 4 + AHEAD)}


def test_what_goes_wrong_in_a_thread_is_raised_at_its_step():
    def draw(step):
        if step == 2:
            raise SourceError("broken", remedy="none")
        return batch_of(step)

    crops = Crops(draw, 9, torch.device("cpu"))
    crops.take(0), crops.take(1)
    with pytest.raises(SourceError, match="broken"):
        crops.take(2)
    crops.close()


class Waits(TorchDispatchMode):
    """Operators that would wait for a GPU, if the values they need were there."""

    def __init__(self, host: list[torch.Tensor]) -> None:
        super().__init__()
        self.host, self.names = {x.data_ptr() for x in host}, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.split("::")[1]
        marks = args[1] if name in ("index", "index_put_", "index_put") else ()
        by_mask = any(mark is not None and mark.dtype == torch.bool for mark in marks)
        if by_mask or (name in WAITS and args[0].data_ptr() not in self.host):
            self.names.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", ["ema", "gradient", "fsq"])
def test_a_step_fetches_nothing_but_its_figures(tmp_path, source, monkeypatch, kind):
    cache = DepthCache.build(tmp_path, [source], Normalisation(), 64, 0)
    trainer = TokeniserTrainer(tiny(40, kind=kind, reseed=0.5), cache, "cpu")
    while trainer.step < 12:
        figures = trainer.advance()
    assert figures["codes"] > 0
    steps = [state["step"] for state in trainer.optimiser.state.values()]
    quantizer = trainer.model.quantizer
    with Waits([quantizer.initialised, quantizer.step, *steps]) as fetched:
        trainer.advance()
    assert fetched.names  # of the figures, which are on the host by then
    monkeypatch.setattr(training, "_figures", lambda *_: {})
    # torch's own looks at the values on a CPU, and does not on a GPU.
    monkeypatch.setattr(functional, "one_hot", lambda x, n: (x[:, None] == torch.arange(n)).long())
    with Waits([quantizer.initialised, quantizer.step, *steps]) as waits:
        trainer.advance()
    assert waits.names == []


def test_what_python_branches_on_stays_on_the_host():
    quantizer = training.Tokeniser(tiny(4).network, tiny(4).quantizer, 0).to("meta").quantizer
    assert quantizer.book.device.type == "meta"
    assert (bool(quantizer.initialised), int(quantizer.step)) == (False, 0)
    assert {"initialised", "step"} <= quantizer.state_dict().keys()


RUN = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
from tests.vqvae.synthetic import scenes, tiny
from vqvae.data.clips import ClipSource
from vqvae.config import TrainOptions
from vqvae.training.train import train
torch.set_num_threads(1)
source = ClipSource("synthetic", "f0", scenes(6))
train(tiny(60), [source], sys.argv[2], TrainOptions(checkpoint_every=5),
      on_step=lambda step, _: print(step, flush=True))
"""


def test_killed_at_random_it_ends_in_the_same_codebook(tmp_path):
    rng = np.random.default_rng(int(os.environ.get("DEPTHTOK_SEED", "3")))

    def go(out: Path, kill_after: int | None) -> bool:
        command = [sys.executable, "-c", RUN, str(ROOT), str(out)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
            for number, _ in enumerate(run.stdout):
                if number == kill_after:
                    time.sleep(rng.random() * 0.02)
                    run.send_signal(signal.SIGKILL)
                    break
        return run.returncode == 0

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    source = ClipSource("synthetic", "f0", scenes(6))
    training.train(tiny(60), [source], tmp_path / "whole", TrainOptions())
    torch.set_num_threads(threads)
    rounds = [go(tmp_path / "cb", int(after)) for after in rng.integers(6, 25, 2)]
    assert rounds[0] is False
    assert any(rounds) or go(tmp_path / "cb", None)
    undisturbed, again = (Codebook.load(tmp_path / name).fingerprint for name in ("whole", "cb"))
    assert undisturbed == again
