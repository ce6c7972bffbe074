"""A scripted expert for pick-and-place tasks. It reads the simulator's state and outputs robot
actions: `OSC_POSE` deltas, 1 is 5 cm (0.5 rad), gripper -1 open and 1 closed.

    for action in ScriptedExpert(scene, style, rank=0).actions():
        done = simulator.step(action)

It makes one attempt with one grasp; the caller may try the next grasp from the same start.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float, Float32, Float64

from depthtok.sources.rotations import convert
from pipelines.sim import grasp as grasps
from pipelines.sim.goals import Goal
from pipelines.sim.scene import Point, Scene

STEP_M, STEP_RAD = 0.05, 0.5  # motion for an action of 1
GAIN = 2.0  # the controller covers about half of the commanded motion per step
OPEN, CLOSED = -1.0, 1.0
UP = np.array([0.0, 0.0, 1.0])
CLEAR_M = 0.05  # clearance above obstacles
LIFTED_M = 0.02  # an object that rises less is not held
NEAR_M = 0.10  # an obstacle is at most this far to either side of the path
GRASPS = 8  # tried from one start
Action = Float32[np.ndarray, " 7"]
Rotation = Float64[np.ndarray, "3 3"]


@dataclass(frozen=True)
class Style:
    """The motion style of an episode, for variety. The defaults are the plain motion."""

    noise: float = 0.0  # standard deviation of noise on the xyz action
    speed: float = 1.0  # largest xyz action
    approach_m: float = 0.10  # height above the grasp at which the descent starts
    detour_m: tuple[float, float, float] = (0.0, 0.0, 0.0)  # offset added to the path to the object
    pause: int = 0  # extra steps with closed fingers before lifting
    shuffle: float = 0.0  # randomness of the grasps' costs
    seed: int = 0

    @classmethod
    def draw(cls, seed: int, noise: float, variety: float) -> Style:
        """A random style for a seed: `noise` is the maximum, `variety` scales everything else."""
        rng = np.random.default_rng([seed, 1])
        x, y, z = (variety * rng.uniform([-0.06, -0.06, 0], [0.06, 0.06, 0.08])).tolist()
        return cls(
            noise=float(noise * rng.random()),
            speed=float(1 - 0.45 * variety * rng.random()),
            approach_m=float(0.10 + 0.03 * variety * rng.uniform(-1, 1)),
            detour_m=(x, y, z),
            pause=round(4 * variety * rng.random()),
            shuffle=0.15 * variety,
            seed=seed,
        )

    def to_json(self) -> dict[str, object]:
        """A plain dictionary."""
        return {**asdict(self), "detour_m": list(self.detour_m)}


class ScriptedExpert:
    """One attempt at all goals of a task, with grasp number `rank` for the first object."""

    def __init__(self, scene: Scene, style: Style, rank: int = 0) -> None:
        self.scene, self.style, self.rank = scene, style, rank
        self._rng = np.random.default_rng([style.seed, 2, rank])
        # With noise a tight tolerance would only be met by luck, and the hand would hover.
        self._tolerance = 0.008 + 0.03 * style.noise

    def actions(self) -> Iterator[Action]:
        """Actions until the task should be done, or the attempt has failed."""
        for number, goal in enumerate(self.scene.goals()):
            rank = self.rank if number == 0 else self.rank % 2
            if not (yield from self._transfer(goal, rank)):
                return
        yield from self._hold(*self.scene.hand(), OPEN, 20)

    def _transfer(self, goal: Goal, rank: int) -> Generator[Action, None, bool]:
        """Puts one object in its place; returns whether it was held."""
        choice = self._choose(goal, rank)
        if choice is None:
            return False
        turn = self._pointing_down(choice.direction)
        start_height = self.scene.position(goal.object)[2]
        above = choice.position + self.style.approach_m * UP
        yield from self._travel(above, turn, OPEN, goal.object)
        yield from self._move(
            choice.position, turn, OPEN, steps=50, slow=True, tolerance=self._tolerance / 2
        )
        yield from self._hold(choice.position, turn, CLOSED, 12 + self.style.pause)
        yield from self._move(above, turn, CLOSED, steps=30)
        if self.scene.position(goal.object)[2] < start_height + LIFTED_M:
            return False
        yield from self._carry(goal, turn)
        hand, _ = self.scene.hand()
        yield from self._hold(hand, turn, OPEN, 8)
        yield from self._move(hand + 0.12 * UP, turn, OPEN, steps=20)
        return True

    def _choose(self, goal: Goal, rank: int) -> grasps.Grasp | None:
        _, rotation = self.scene.hand()
        straight = float(np.arctan2(rotation[1, 0], rotation[0, 0]))
        surface, obstacles = self.scene.surface(goal.object), self.scene.others(goal.object)
        candidates = grasps.candidates(surface, obstacles, straight)
        rng = np.random.default_rng(self.style.seed)
        jitter = self.style.shuffle * rng.random(len(candidates))
        order = np.argsort([grasp.cost for grasp in candidates] + jitter, kind="stable")
        chosen = grasps.diverse([candidates[index] for index in order], GRASPS)
        return chosen[rank % len(chosen)] if chosen else None

    def _pointing_down(self, direction: float) -> Rotation:
        """The orientation that closes along `direction`, by the shorter rotation."""
        _, rotation = self.scene.hand()
        current = float(np.arctan2(rotation[1, 0], rotation[0, 0]))
        angle = current + grasps.turned(direction, current)
        closing, down = np.array([np.cos(angle), np.sin(angle), 0]), np.array([0.0, 0, -1])
        return np.stack([closing, np.cross(down, closing), down], axis=1)

    def _travel(self, to: Point, turn: Rotation, gripper: float, *ignored: str) -> Iterator[Action]:
        """Moves above all obstacles to a point, via the style's detour."""
        start, _ = self.scene.hand()
        height = max(self._highest(start, to, *ignored) + CLEAR_M + grasps.TIP_M, to[2])
        middle = (start + to) / 2 + self.style.detour_m
        for stop in (np.append(middle[:2], max(middle[2], height)), np.append(to[:2], height)):
            yield from self._move(stop, turn, gripper, steps=60, tolerance=0.03)
        yield from self._move(to, turn, gripper, steps=60)

    def _carry(self, goal: Goal, turn: Rotation) -> Iterator[Action]:
        """Moves the held object over its target and lowers it."""
        owner = self.scene.owner(goal.target)
        target = self.scene.position(goal.target)
        hand, _ = self.scene.hand()
        lowest = hand[2] - self.scene.surface(goal.object)[:, 2].min()
        top = self._highest(hand, target, goal.object)
        up = max(top + CLEAR_M + lowest, hand[2])
        yield from self._move(np.append(hand[:2], up), turn, CLOSED, steps=40, tolerance=0.03)
        for height, tolerance, steps in ((up, 0.015, 100), (None, self._tolerance, 80)):
            for _ in range(steps):
                hand, _ = self.scene.hand()
                offset = hand - self.scene.position(goal.object)
                lowest = hand[2] - self.scene.surface(goal.object)[:, 2].min()
                floor = self._floor(owner, target) + lowest + 0.01
                goal_m = np.append((target + offset)[:2], floor if height is None else height)
                if np.linalg.norm(goal_m - hand) < tolerance:
                    break
                yield self._action(goal_m, turn, CLOSED, slow=height is None)

    def _floor(self, owner: str, target: Point) -> float:
        """Height of the surface that the object is to rest on."""
        if not owner:
            return float(target[2])
        points = self.scene.surface(owner)
        under = points[np.linalg.norm(points[:, :2] - target[:2], axis=1) < 0.03, 2]
        return float(np.median(under)) if len(under) else float(target[2])

    def _highest(self, start: Point, stop: Point, *ignored: str) -> float:
        """The highest point along the straight path between two places."""
        points = self.scene.others(*ignored)
        way = (stop - start)[:2]
        along = np.clip((points[:, :2] - start[:2]) @ way / max(way @ way, 1e-9), 0, 1)
        off = points[:, :2] - start[:2] - along[:, None] * way
        near = points[np.linalg.norm(off, axis=1) < NEAR_M, 2]
        return float(near.max()) if len(near) else -np.inf

    def _move(
        self,
        to: Point,
        turn: Rotation,
        gripper: float,
        *,
        steps: int,
        tolerance: float | None = None,
        slow: bool = False,
    ) -> Iterator[Action]:
        """Moves to a pose until it is reached, for at most `steps` actions."""
        for _ in range(steps):
            hand, rotation = self.scene.hand()
            twisted = np.linalg.norm(_twist(turn, rotation)) > 0.15
            if np.linalg.norm(to - hand) < (tolerance or self._tolerance) and not twisted:
                return
            yield self._action(to, turn, gripper, slow=slow)

    def _hold(self, to: Point, turn: Rotation, gripper: float, steps: int) -> Iterator[Action]:
        """Holds the pose while the fingers move. It keeps correcting, because actions of zeros
        would count as idle, and the hand would drift."""
        for _ in range(steps):
            yield self._action(to, turn, gripper)

    def _action(self, to: Point, turn: Rotation, gripper: float, *, slow: bool = False) -> Action:
        hand, rotation = self.scene.hand()
        speed = self.style.speed * (0.6 if slow else 1.0)
        move = np.clip(GAIN * (to - hand) / STEP_M, -speed, speed)
        move = np.clip(move + self.style.noise * self._rng.standard_normal(3), -1, 1)
        twist = np.clip(_twist(turn, rotation) / STEP_RAD, -0.5, 0.5)
        return np.concatenate([move, twist, [gripper]]).astype(np.float32)


def _twist(target: Rotation, current: Rotation) -> Float[np.ndarray, " 3"]:
    """The rotation from `current` to `target` in the world frame, as axis-angle (rad)."""
    return convert((target @ current.T).reshape(1, 9), "matrix", "axis_angle")[0]
