"""Large frames go through the network one by one: the same bytes, in less memory."""

from dataclasses import replace

import numpy as np
import pytest

from depthtok.errors import SourceError
from pipelines.depth.vida import runner
from pipelines.depth.vida.config import RunConfig
from pipelines.depth.vida.infer import estimate
from pipelines.depth.vida.runner import Runner
from pipelines.depth.windows import reading
from tests.pipelines.depth.vida import recipe
from tests.pipelines.depth.vida.made import MemoryClip, tiny_network
from tests.pipelines.depth.vida.test_infer import CPU, depth_of


class OpenClip(MemoryClip):
    """A clip whose data set does not state a size."""

    def __init__(self, frames, **more):
        super().__init__(frames, **more)
        self.camera = replace(self.camera, height=None, width=None)


def clips(kind=MemoryClip):
    """Of one window, of two, of three; of a last window without a new frame; of odd sizes."""
    sizes = [(1, 40, 52), (26, 33, 47), (54, 30, 90), (55, 64, 48), (70, 41, 29)]
    return [kind(recipe.clip(n, h, w, seed=n)) for n, h, w in sizes]


@pytest.mark.parametrize("metric", [False, True])
@pytest.mark.parametrize("kind", [MemoryClip, OpenClip])
def test_frame_by_frame_changes_no_byte(monkeypatch, metric, kind):
    network = tiny_network(metric=metric)
    at_once = depth_of(network, clips())
    monkeypatch.setattr(runner, "LARGEST_WHOLE", {"cpu": 0})
    for settings in ({}, {"windows": 3}, {"readers": 2, "windows": 2}):
        for one, other in zip(at_once, depth_of(network, clips(kind), **settings), strict=True):
            assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("readers", [0, 2])
def test_sizes_that_are_not_stated_change_no_byte(readers):
    network = tiny_network()
    for one, other in zip(
        depth_of(network, clips()), depth_of(network, clips(OpenClip), readers=readers), strict=True
    ):
        assert one.tobytes() == other.tobytes()


def test_depth_that_is_not_finite_is_said_of_large_frames_too(monkeypatch):
    monkeypatch.setattr(runner, "LARGEST_WHOLE", {"cpu": 0})
    network = tiny_network()
    network.head.scratch.output_conv2[2].bias.data.fill_(np.inf)
    (block,) = estimate(Runner(network, RunConfig(input_size=28), CPU), clips()[:1])
    assert block.error == "the network's depth is not finite, from frame 0 on"


@pytest.mark.parametrize("limit", [0, 1 << 20])
def test_frames_of_other_sizes_end_their_clip(monkeypatch, limit):
    class Growing(OpenClip):
        def read(self, start, stop):
            frames = super().read(start, stop)
            return frames.repeat(2, 1) if start > 0 else frames

    monkeypatch.setattr(runner, "LARGEST_WHOLE", {"cpu": limit})
    frames = recipe.clip(9, 20, 30, seed=1)
    run = Runner(tiny_network(), RunConfig(input_size=28), CPU)
    blocks = list(estimate(run, [Growing(frames), MemoryClip(frames)]))
    errors = [block.error for block in blocks if block.clip == 0]
    wanted = "frame 1 is uint8 [40, 30, 3]; expected uint8 [20, 30, 3], one size in a clip"
    assert errors == [wanted]
    assert sum(len(block.depth) for block in blocks if block.clip == 1) == 9


def test_what_is_read_ahead_is_bounded_by_bytes(monkeypatch):
    """Four threads may read 32 windows ahead, but only as many as the bytes allow."""
    clip = MemoryClip(recipe.clip(8, 14, 14, seed=1)[np.arange(400) % 8])
    monkeypatch.setattr(reading, "AHEAD_BYTES", 3 * 22 * 14 * 14 * 3)  # three windows
    tasks = reading._tasks([clip], align=True, readers=4)
    reads = []
    coming = reading._read_ahead(tasks, 4, lambda task: reads.append(task) or np.empty(0))
    next(coming)
    assert len(reads) <= 3
    assert len(list(coming)) == 18


def test_batches_are_bounded_by_bytes_of_frames():
    run = Runner(tiny_network(), RunConfig(input_size=28, windows=16), CPU)
    (job,) = reading.read_jobs(
        [MemoryClip(recipe.clip(1, 14, 14, seed=1))],
        align=True,
        input_size=28,
        readers=0,
        largest_whole=1 << 20,
    )
    assert run.batch_size(job) == 16
    assert run.batch_size(replace(job, frame_size=(1080, 1920))) == 8
    assert run.batch_size(replace(job, frame_size=(2160, 3840))) == 2
    assert run.batch_size(replace(job, frame_size=(5000, 6000))) == 1


def test_an_unreadable_first_frame_is_said_by_the_clip(monkeypatch):
    run = Runner(tiny_network(), RunConfig(input_size=28, readers=2), CPU)
    broken = OpenClip(recipe.clip(3, 20, 30, seed=1), broken=0)
    (block,) = estimate(run, [broken])
    assert block.error == "frame 0 is broken"
    with pytest.raises(SourceError):
        broken.read(0, 1)
