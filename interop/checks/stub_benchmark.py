"""A benchmark for vla-eval without a simulator: it shows recorded observations, and keeps the
actions that it gets."""

import json
import os
from pathlib import Path

import numpy as np
from vla_eval.benchmarks.base import StepBenchmark, StepResult
from vla_eval.specs import GRIPPER_CLOSE_POS, IMAGE_RGB, LANGUAGE, POSITION_DELTA, RAW

PICTURES = {"image": "agentview", "wrist": "wrist"}


class RecordedBenchmark(StepBenchmark):
    """One task of `folder`, which has `expected.npz` and `expected.json`. The others are what the
    model server asks for."""

    def __init__(
        self, folder: str, send_wrist_image: bool, send_state: bool, quat_no_antipodal: bool
    ) -> None:
        super().__init__()
        assert send_state
        assert quat_no_antipodal
        self.folder = Path(folder)
        self.expected = np.load(self.folder / "expected.npz")
        self.facts = json.loads((self.folder / "expected.json").read_text())
        assert send_wrist_image == (len(self.facts["cameras"]) > 1)
        self.actions: list[np.ndarray] = []
        self.episodes = 0

    def get_tasks(self):
        return [{"name": self.facts["instructions"][0], "suite": "recorded"}]

    def reset(self, task):
        self.actions = []
        return 0

    def step(self, action):
        self.actions.append(np.asarray(action["actions"]))
        done = len(self.actions) == len(self.expected["played"])
        if done:
            np.save(self.folder / f"got-{os.getpid()}-{self.episodes}.npy", self.actions)
            self.episodes += 1
        return StepResult(obs=len(self.actions), reward=0.0, done=done, info={})

    def make_obs(self, raw_obs, task):
        step = min(raw_obs, len(self.expected["played"]) - 1)
        pictures = {
            PICTURES.get(name, name): self.expected[f"seen/{name}"][step]
            for name in self.facts["cameras"]
        }
        state = self.expected["proprio/0"][step]
        return {"images": pictures, "states": state, "task_description": task["name"]}

    def check_done(self, step_result):
        return step_result.done

    def get_step_result(self, step_result):
        return {"success": step_result.done}

    def get_action_spec(self):
        return {"position": POSITION_DELTA, "rotation": RAW, "gripper": GRIPPER_CLOSE_POS}

    def get_observation_spec(self):
        pictures = {PICTURES.get(name, name): IMAGE_RGB for name in self.facts["cameras"]}
        return {**pictures, "state": RAW, "language": LANGUAGE}

    def get_metadata(self):
        return {"max_steps": len(self.expected["played"]), "max_episodes_per_task": 2}
