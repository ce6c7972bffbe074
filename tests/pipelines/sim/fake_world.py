"""A simulator of a few lines: what the protocol asks for, and no MuJoCo."""

from __future__ import annotations

import numpy as np

from depthtok.meaning import Column, Meaning
from pipelines.sim.simulator import CameraView, Lens, Task

MEANING = Meaning(
    (Column("x", "delta", "1"), Column("gripper", "absolute", "1")),
    (Column("x", "absolute", "m"),),
    "open-1_closed1",
    20.0,
)
TASK = Task("libero_fake", 2, "go_right", "go right", max_steps=9, init_states=50)


class FakeWorld:
    """A point on a line that has to reach 1; an action moves it. Official starts lie lower."""

    size, clip_planes = 8, (0.01, 50.0)
    cameras = ("image", "wrist_image")
    idle = np.zeros(2, np.float32)
    meaning = MEANING

    def __init__(self, task: Task = TASK) -> None:
        self.task = task
        self.place, self.resets, self.closed = 0.0, [], False

    def vary(self, task):
        self.task = task

    def reset(self, seed, init_state=None):
        self.resets.append((seed, init_state))
        self.place = -(init_state or 0) / 10

    def step(self, action):
        self.place += float(action[0])
        return self.place >= 1

    def proprio(self):
        return np.array([self.place], np.float32)

    def joints(self):
        return np.zeros(1, np.float32)

    def render(self, camera, *, segmentation=False):
        rgb = np.full((8, 8, 3), int(100 + 10 * self.place) % 256, np.uint8)
        depth = np.linspace(1, 2, 64, dtype=np.float32).reshape(8, 8)
        return CameraView(rgb, depth, np.zeros((8, 8), np.uint8) if segmentation else None)

    def lens(self, camera):
        return Lens(np.eye(3), np.eye(4))

    def save(self):
        return np.array([self.place])

    def restore(self, state):
        self.place = float(state[0])

    def close(self):
        self.closed = True


class Walker:
    """A policy that walks right by `pace`, three steps at a time."""

    def __init__(self, pace: float = 0.2) -> None:
        self.pace, self.seeds, self.seen = pace, [], []

    def reset(self, seed):
        self.seeds.append(seed)

    def act(self, observation):
        self.seen.append(observation)
        return np.tile(np.array([[self.pace, 0]], np.float32), (3, 1))
