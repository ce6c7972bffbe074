"""The protocol of a trial, on a simulator that needs nothing installed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from depthtok.errors import ConfigError
from depthtok.meaning import Column
from pipelines.sim.rollout import Trial, play
from pipelines.sim.simulator import Simulator
from tests.pipelines.sim.fake_world import MEANING, FakeWorld, Walker


def test_a_success_stops_at_once():
    world, walker = FakeWorld(), Walker(0.3)
    rollout = play(world, walker, Trial(0, seed=5, max_steps=9, replan_steps=2))
    assert rollout.success
    assert (rollout.steps, rollout.plans) == (4, 2)
    assert (world.resets, walker.seeds) == ([(5, 0)], [5])
    assert len(rollout.frames) == len(rollout.depth_m) == 3


def test_time_runs_out():
    rollout = play(FakeWorld(), Walker(0.01), Trial(3, 0, max_steps=7, replan_steps=3))
    assert not rollout.success
    assert (rollout.steps, rollout.plans) == (7, 3)


def test_what_the_policy_sees():
    walker = Walker(1.0)
    play(FakeWorld(), walker, Trial(0, 0, 9, 1))
    (observation,) = walker.seen
    assert set(observation["images"]) == {"image", "wrist_image"}
    assert observation["images"]["image"].dtype == np.uint8
    assert observation["proprio"].tolist() == [0.0]
    assert observation["instruction"] == "go right"


def test_actions_are_limited_to_what_the_robot_takes():
    rollout = play(FakeWorld(), Walker(50.0), Trial(5, 0, 9, 1))
    assert rollout.steps == 2  # from -0.5 to 1 in steps of at most 1


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (np.zeros((3, 7)), r"shape \(3, 7\)"),
        (np.zeros((0, 2)), "shape"),
        (np.full((1, 2), np.nan), "finite"),
    ],
)
def test_actions_that_are_none(actions, message):
    walker = Walker()
    walker.act = lambda observation: actions
    with pytest.raises(ConfigError, match=message):
        play(FakeWorld(), walker, Trial(0, 0, 9, 1))


class Gripping(FakeWorld):
    """Notes what its gripper is told."""

    def step(self, action):
        self.told = [*getattr(self, "told", []), float(action[1])]
        return super().step(action)


def test_another_gripper_convention_is_converted():
    world, walker = Gripping(), Walker(0.3)
    walker.meaning = replace(MEANING, gripper="open1_closed0")  # 0, which it always says, closes
    play(world, walker, Trial(0, 0, 9, 3))
    assert set(world.told) == {1.0}
    plain = Gripping()
    play(plain, Walker(0.3), Trial(0, 0, 9, 3))
    assert set(plain.told) == {0.0}


def test_a_policy_of_another_robot_is_refused():
    walker = Walker(0.3)
    walker.meaning = replace(MEANING, action=(Column("j1"), Column("gripper")), fps=10.0)
    with pytest.raises(ConfigError, match=r"fps: 10 Hz, 20 Hz; action\.names: j1, gripper; x"):
        play(FakeWorld(), walker, Trial(0, 0, 9, 3))
    assert play(FakeWorld(), walker, Trial(0, 0, 9, 3), ("fps", "action.names")).success
    walker.meaning = None
    with pytest.raises(ConfigError, match="does not say what its gripper"):
        play(FakeWorld(), walker, Trial(0, 0, 9, 3))


@pytest.mark.parametrize("wants_depth", [True, False])
def test_a_camera_that_the_simulator_lacks_is_named(wants_depth):
    world, walker = FakeWorld(), Walker()
    walker.cameras, walker.wants_depth = ("main", "wrist_image"), wants_depth
    with pytest.raises(ConfigError, match=r"looks at main; .* are image, wrist_image"):
        play(world, walker, Trial(0, 0, 9, 3))
    assert world.resets == walker.seeds == []


def asked() -> set[str]:
    """The names that the protocol of a simulator has."""
    return {*Simulator.__annotations__, *(n for n in vars(Simulator) if not n.startswith("_"))}


def test_the_fake_world_is_all_that_a_simulator_has_to_be():
    assert {name for name in asked() if not hasattr(FakeWorld(), name)} == set()


def test_libero_is_a_simulator(simulator):
    assert {name for name in asked() if not hasattr(simulator, name)} == set()


def test_the_page_names_all_that_is_asked_of_a_simulator():
    page = (Path(__file__).parents[3] / "docs/simulator.md").read_text()
    section = page.partition("## Another simulator")[2]
    assert {name for name in asked() if f"`{name}`" not in section} == set()
