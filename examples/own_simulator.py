"""A simulator of one's own, and a policy played in it: a gripper above a table, seen from the top.

    python examples/own_simulator.py                 a policy of three lines, 10 trials
    python examples/own_simulator.py runs/policy     one that `depthtok train-vla` trained

A class with these methods is all that `pipelines.sim.rollout.play` needs: it asks for pictures only
when the policy plans, checks that policy and world mean the same by their numbers, and gives the
pictures and true depth of the trial. The command `depthtok eval` knows LIBERO and Meta-World.
"""

import sys

import numpy as np

import depthtok
from depthtok.errors import ConfigError
from depthtok.meaning import Column, Meaning
from pipelines.sim.rollout import Rollout, Trial, play
from pipelines.sim.simulator import CameraView, Lens, Task
from pipelines.sim.variation import PLAIN

TABLE_M, SIDE_M, REACH_M = 0.8, 0.4, 0.03  # camera to table, side of the table, near enough


class TableWorld:
    """Move the gripper, (x, y) in metres, over the block. Equal seeds give equal worlds."""

    cameras = ("image",)
    size = 64
    clip_planes = (0.01, 2.0)
    idle = np.zeros(2, np.float32)
    meaning = Meaning(
        action=(Column("x", "delta", "m"), Column("y", "delta", "m")),
        proprio=(Column("x", "absolute", "m"), Column("y", "absolute", "m")),
        gripper="none",
        fps=10.0,
    )
    task = Task("table", 0, "reach", "move over the block", max_steps=40, init_states=10)

    def reset(self, seed: int, init_state: int | None = None) -> None:
        """The gripper in the middle, the block somewhere."""
        rng = np.random.default_rng([seed, init_state or 0])
        self.gripper = np.zeros(2)
        self.block = rng.uniform(-0.15, 0.15, 2)

    def step(self, action: np.ndarray) -> bool:
        """At most 2 cm a step."""
        self.gripper += np.clip(action, -0.02, 0.02)
        return bool(np.linalg.norm(self.gripper - self.block) < REACH_M)

    def proprio(self) -> np.ndarray:
        return self.gripper.astype(np.float32)

    def render(self, camera: str, *, segmentation: bool = False) -> CameraView:
        """A red block of 5 cm and a grey gripper 20 cm above the table, in colour and metres."""
        axis = (np.arange(self.size) + 0.5) / self.size * SIDE_M - SIDE_M / 2
        x, y = np.meshgrid(axis, axis)
        rgb = np.full((self.size, self.size, 3), (200, 180, 140), np.uint8)
        depth = np.full((self.size, self.size), TABLE_M, np.float32)
        classes = np.full((self.size, self.size), 0, np.uint8)
        for number, centre, half, height, colour in (
            (3, self.block, 0.025, 0.05, (200, 40, 40)),
            (2, self.gripper, 0.015, 0.2, (90, 90, 90)),
        ):
            inside = (abs(x - centre[0]) < half) & (abs(y - centre[1]) < half)
            rgb[inside], depth[inside], classes[inside] = colour, TABLE_M - height, number
        return CameraView(rgb, depth, classes if segmentation else None)

    # What a recording or a variation of the task would ask for besides:

    def vary(self, task: Task) -> None:
        if task.variation != PLAIN:
            raise ConfigError("this world has no variations", remedy="leave views and starts out")

    def joints(self) -> np.ndarray:
        return self.gripper.astype(np.float32)

    def lens(self, camera: str) -> Lens:
        focal = self.size * TABLE_M / SIDE_M
        centre = self.size / 2
        return Lens(np.array([[focal, 0, centre], [0, focal, centre], [0, 0, 1]]), np.eye(4))

    def save(self) -> np.ndarray:
        return np.concatenate([self.gripper, self.block])

    def restore(self, state: np.ndarray) -> None:
        self.gripper, self.block = state[:2].copy(), state[2:].copy()

    def close(self) -> None:
        """Nothing to free."""


class TowardsRed:
    """A policy that sees: towards the middle of what is red, four steps at a time."""

    def reset(self, seed: int) -> None:
        """It draws nothing."""

    def act(self, observation: dict) -> np.ndarray:
        image, hand = observation["images"]["image"].astype(int), observation["proprio"]
        rows, columns = np.nonzero(image[..., 0] - image[..., 1] > 100)
        if not len(rows):  # the gripper hides it
            return np.zeros((1, 2), np.float32)
        middle = np.array([columns.mean(), rows.mean()]) + 0.5
        target = middle / len(image) * SIDE_M - SIDE_M / 2
        return np.tile((target - hand) / 4, (4, 1)).astype(np.float32)


def evaluate(policy: object, trials: int = 10) -> list[Rollout]:
    """The trials of a policy; each is the same whatever ran before."""
    world = TableWorld()
    return [
        play(world, policy, Trial(number, seed=number, max_steps=40, replan_steps=4))
        for number in range(trials)
    ]


if __name__ == "__main__":
    policy = depthtok.load_policy(sys.argv[1]) if len(sys.argv) > 1 else TowardsRed()
    rollouts = evaluate(policy)
    steps = [rollout.steps for rollout in rollouts if rollout.success]
    print(f"{len(steps)} of {len(rollouts)} reached the block, in {np.mean(steps):.1f} steps")
