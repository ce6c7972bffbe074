"""A simulator draws the same, whatever becomes of others in its process."""

import gc

import numpy as np
import pytest

from pipelines.sim import setup
from pipelines.sim.benchmark import benchmark_of


@pytest.fixture(
    params=[("libero_goal", "sim"), ("metaworld_mt50", "metaworld")], ids=["libero", "metaworld"]
)
def opened(request):
    """Opens simulators of one benchmark: by the number of the task."""
    suite, extra = request.param
    if problem := setup.missing(extra):
        pytest.skip(f"the simulator cannot run: {problem}")
    benchmark = benchmark_of(suite)
    benchmark.prepare()
    tasks = benchmark.tasks(suite)

    def opens(number):
        simulator = benchmark.open(tasks[number], 32, 0)
        simulator.reset(0)
        simulator.render(simulator.cameras[0])
        return simulator

    return opens


def assert_draws_as_before(simulator, before):
    for camera, view in before.items():
        now = simulator.render(camera, segmentation=True)
        for name in ("rgb", "depth_m", "segmentation"):
            assert np.array_equal(getattr(now, name), getattr(view, name)), (camera, name)


def test_one_that_is_closed_or_forgotten_takes_nothing_of_another(opened):
    closed, forgotten, stays = opened(0), opened(1), opened(2)
    before = {name: stays.render(name, segmentation=True) for name in stays.cameras}
    closed.close()
    assert_draws_as_before(stays, before)
    stays.render(stays.cameras[0])
    del forgotten
    gc.collect()
    assert_draws_as_before(stays, before)
    opened(1).close()  # which frees what was forgotten
    assert_draws_as_before(stays, before)
    stays.close()


def test_one_that_is_collected_while_another_draws_takes_nothing_of_it(opened):
    stays, forgotten = opened(2), opened(0)
    before = {name: stays.render(name, segmentation=True) for name in stays.cameras}
    gc.collect()
    thresholds = gc.get_threshold()
    try:
        del forgotten
        gc.set_threshold(50, 1, 1)  # it looks between the lines of the drawing
        assert_draws_as_before(stays, before)
    finally:
        gc.set_threshold(*thresholds)
    stays.close()
