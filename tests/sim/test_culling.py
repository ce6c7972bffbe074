"""What a camera cannot see is not drawn: the pixels are those of drawing everything."""

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("mujoco")
import mujoco

from pipelines.sim.culling import HIDDEN, Culling, _pyramid, _within
from pipelines.sim.perturb import Ranges
from pipelines.sim.suites import task
from pipelines.sim.variation import Variation

SCENE = """
<mujoco>
  <asset><material name="mirror" reflectance="0.5"/></asset>
  <worldbody>
    <light castshadow="{shadow}" pos="0 0 3"/>
    <camera name="eye" pos="0 -2 1" xyaxes="1 0 0 0 0.4 1" fovy="40"/>
    <geom name="floor" type="plane" size="5 5 .1"/>
    <geom name="table" type="box" size=".2 .2 .02" {mirror}/>
    <geom name="ahead" type="sphere" size=".1" pos="0 1 .3"/>
    <geom name="behind" type="sphere" size=".1" pos="0 -4 .3"/>
    <geom name="aside" type="sphere" size=".1" pos="3 0 .3"/>
    <geom name="over" type="sphere" size=".1" pos="0 2.41 1.2"/>
  </worldbody>
</mujoco>"""


def drawn(mirror="", shadow="false"):
    """Names of what is drawn."""
    model = mujoco.MjModel.from_xml_string(SCENE.format(mirror=mirror, shadow=shadow))
    data, options = mujoco.MjData(model), mujoco.MjvOption()
    options.geomgroup[HIDDEN] = 0
    mujoco.mj_forward(model, data)
    culling = Culling(model, data, options)
    before = model.geom_group.copy()
    with culling.of(model.camera("eye").id, 64):
        names = {model.geom(i).name for i in range(model.ngeom) if model.geom_group[i] != HIDDEN}
    assert np.array_equal(model.geom_group, before)
    return names


def test_what_lies_beside_and_behind_is_left_out():
    assert drawn() == {"floor", "table", "ahead"}


def test_what_a_mirror_shows_is_drawn():
    assert drawn(mirror='material="mirror"') == {"floor", "table", "ahead", "over"}


def test_where_light_casts_shadows_everything_is_drawn():
    assert drawn(shadow="true") == {"floor", "table", "ahead", "behind", "aside", "over"}


def test_a_box_across_a_plane_is_within():
    corners = np.array([[[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-3, -2)]], float)
    outwards = np.array([[1.0, 0, 0.25]])
    assert _within(corners, outwards).tolist() == [True]
    assert _within(corners + np.array([3, 0, 0]), outwards).tolist() == [False]


def test_a_pyramid_holds_what_is_seen_through_its_base():
    edge = np.array([[1, 1, -2], [1, -1, -2], [-1, -1, -2], [-1, 1, -2]], float)
    box = np.array([[[x, y, z] for x in (-0.1, 0.1) for y in (-0.1, 0.1) for z in (-4.1, -4)]])
    assert _within(box, _pyramid(edge)).tolist() == [True]
    assert _within(box + np.array([2.5, 0, 0]), _pyramid(edge)).tolist() == [False]
    assert _pyramid(edge * [1, 1, 0]).shape == (0, 3)


@pytest.mark.parametrize(("suite", "number"), [("libero_goal", 8)])
def test_pixels_are_the_same(suite, number):
    from pipelines.sim.libero import LiberoSimulator

    plain = task(suite, number)
    simulator = LiberoSimulator(plain, 64)
    culling, everything = simulator._culling, SimpleNamespace(of=lambda *_: nullcontext())
    ranges, rng = Ranges("orbit -60:60, distance 100:130"), np.random.default_rng(0)
    for seed in range(3):
        view = ranges.draw_view(seed) if seed else None
        simulator.vary(replace(plain, variation=Variation(view)))
        simulator.reset(seed)
        for _ in range(6):
            simulator.step(rng.uniform(-1, 1, 7).astype(np.float32))
        for camera in simulator.cameras:
            simulator._culling = culling
            fewer = simulator.render(camera, segmentation=True)
            simulator._culling = everything
            all_of_it = simulator.render(camera, segmentation=True)
            assert np.array_equal(fewer.rgb, all_of_it.rgb)
            assert np.array_equal(fewer.depth_m, all_of_it.depth_m)
            assert np.array_equal(fewer.segmentation, all_of_it.segmentation)
    simulator.close()
