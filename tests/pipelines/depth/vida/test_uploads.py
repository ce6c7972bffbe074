"""What a GPU would wait for: uploads are few, none of them inside a group, none of them waited for.

The device without memory stands for a GPU.
"""

from itertools import chain

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pipelines.depth.vida.config import CONFIGS, RunConfig
from pipelines.depth.vida.network import VideoDepth
from pipelines.depth.vida.preprocess import normalisation, preprocess
from pipelines.depth.vida.runner import Runner, WindowInput
from pipelines.depth.vida.uploads import Uploads
from pipelines.depth.windows.align import fit
from pipelines.depth.windows.plan import plan
from tests.pipelines.depth.vida import recipe
from tests.pipelines.depth.vida.made import tiny_network

META = torch.device("meta")


class Copies(TorchDispatchMode):
    """Notes every copy from the host to the device, and every tensor made of Python numbers."""

    def __init__(self):
        super().__init__()
        self.waiting, self.free = [], []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        out = operator(*args, **(kwargs or {}))
        names = [argument.name for argument in operator._schema.arguments]
        arguments = dict(zip(names, args, strict=False)) | (kwargs or {})
        source = arguments.get("self")
        if isinstance(source, torch.Tensor) and source.device.type == "cpu" and out.device == META:
            kind = self.free if arguments.get("non_blocking") else self.waiting
            kind.append(tuple(out.shape))
        return out


def jobs_of(count, clip=0):
    windows = list(plan(count, align=True))
    frames = torch.from_numpy(recipe.clip(count, 16, 20, seed=1))
    return [WindowInput(clip, it, frames[slice(*it.fresh)], (28, 42), (16, 20)) for it in windows]


@pytest.fixture
def waited(monkeypatch):
    """Numbers of Python made into tensors of the device: each is waited for."""
    numbers, tensor = [], torch.tensor

    def noting(values, **kwargs):
        if kwargs.get("device") == META:
            numbers.append(values)
        return tensor(values, **kwargs)

    monkeypatch.setattr(torch, "tensor", noting)
    return numbers


def test_a_window_uploads_its_frames_and_three_tables_and_waits_for_none(waited):
    with torch.device("meta"):
        network = VideoDepth(CONFIGS["tiny"])
    runner = Runner(network, RunConfig(precision="float16", input_size=28), META)
    normalisation.cache_clear()
    preprocess(torch.zeros(1, 16, 20, 3, dtype=torch.uint8, device=META), (28, 42))  # makes tables
    assert len(waited) == 2  # mean and deviation, once
    with Copies() as copies:
        depth = runner.depth(jobs_of(60))
    assert sum(len(clip) for clip in depth) >= 60
    assert copies.waiting == []
    assert len(waited) == 2
    carried = [(10,), (10,), (0,)]  # frames that the next window contains again
    uploads = ([(33, 16, 20, 3), (1, 32), (32, 2), some] for some in carried)
    assert copies.free == list(chain.from_iterable(uploads))  # so small images are one group


def test_products_are_exact_on_a_gpu_whatever_the_process_has_chosen():
    runner, chosen = Runner(tiny_network(), RunConfig(), torch.device("cpu")), []
    runner.device = torch.device("cuda")

    def fails(*_):
        cudnn = torch.backends.cudnn
        chosen.append((torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.deterministic))
        raise ValueError("mine")

    runner._run = fails
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with pytest.raises(ValueError, match="mine"):
            runner.depth(jobs_of(3))
        assert chosen == [("highest", False, True)]
        assert torch.get_float32_matmul_precision() == "high"
        assert not torch.backends.cudnn.deterministic
    finally:
        torch.set_float32_matmul_precision(before)


def test_fitting_windows_waits_for_nothing():
    with Copies() as copies:
        fit(torch.zeros(2, 4, 4, device=META), torch.zeros(2, 4, 4, device=META))
    assert copies.waiting == copies.free == []


def test_uploads_on_a_cpu_are_what_they_were():
    parts = [torch.arange(6).view(3, 2), torch.arange(2).view(1, 2)]
    assert torch.equal(Uploads(torch.device("cpu")).rows(parts), torch.cat(parts))
    assert Uploads(torch.device("cpu")).numbers([[1, 2]]).tolist() == [[1, 2]]
