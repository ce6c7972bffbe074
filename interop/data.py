"""What other tools are to read, and what they must find there.

Everything is made by the command line, as people make it: stores, a training of two steps, a file
for rerun. What must be found is read with depthtok's own readers and kept as plain numpy files.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from depthtok.stores.codes import CodeStore
from depthtok.stores.depth import DepthStore
from depthtok.stores.episodes import EpisodeStore
from vla.serving.policy import Policy

ROOT = Path(__file__).parents[1]
BEFORE = ROOT / "tests" / "data" / "before"
GRIPPER = "open-1_closed1"
PLAYED = 10  # observations that the policy is asked about


def depthtok(*words: object) -> None:
    """Runs a command, and shows what it says only where it fails."""
    command = [sys.executable, "-m", "depthtok", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


def make(folder: Path) -> None:
    """Stores, a policy and a file for rerun in `folder`, and `expected.npz` and `.json`."""
    episodes, depth, codes, run = (folder / n for n in ("episodes", "depth", "codes", "run"))
    book, cpu = BEFORE / "codebook", ("--device", "cpu")
    schema = folder / "schema.toml"
    schema.write_text((BEFORE / "schema.toml").read_text())
    depthtok("convert", BEFORE / "rlds" / "1.0.0", "--schema", schema, "--out", episodes)
    depthtok("annotate", episodes, "--out", depth, "--estimator", "dataset", "--size", 64, *cpu)
    depthtok("tokenize", depth, "--codebook", book, "--out", codes, *cpu)
    training = ("--preset", BEFORE / "micro.toml", "--batch", 4, "--held-out", 0.4, "--threads", 1)
    stores = ("--episodes", episodes, "--codes", codes, "--steps", 2, "--force", "--out", run)
    depthtok("train-vla", *stores, *training, *cpu)
    depthtok("view", codes, "--out", folder / "shown.rrd", *cpu)
    made_of = ("--codes", codes, "--depth", depth, "--set", "crf=10")
    depthtok("export", episodes, *made_of, "--out", folder / "lerobot")
    expect(folder)


def expect(folder: Path) -> None:
    """Writes what is to be found in each store, and what the policy answers."""
    episodes, depth = EpisodeStore(folder / "episodes"), DepthStore(folder / "depth")
    codes = CodeStore(folder / "codes")
    arrays = {"quantiles": np.concatenate([part.map("quantiles") for part in depth.parts()])}
    arrays["range"] = np.concatenate([part.map("range") for part in codes.parts()])
    keys = [str(episode.key) for episode in episodes]
    for number, (episode, clip) in enumerate(zip(episodes, depth.clips("image"), strict=True)):
        assert clip.key == episode.key
        read = clip.read()
        arrays |= {
            f"rgb/{number}": episode.frames("image").read(0, len(episode)),
            f"depth/{number}": np.where(read.valid, read.values, np.nan),
            f"codes/{number}": codes.grid_of(episode.key, "image").codes,
            f"action/{number}": episode.action,
            f"proprio/{number}": episode.proprio,
        }
    np.savez(folder / "expected.npz", **arrays, **answers(folder, episodes))
    facts = {
        "keys": keys,
        "parts": episodes.part_names,
        "frames": [len(episode) for episode in episodes],
        "instructions": [episode.instruction() for episode in episodes],
        "action_names": episodes.action_names,
        "fps": episodes.fps,
        "cameras": list(Policy.load(folder / "run").config.data.cameras),
    }
    (folder / "expected.json").write_text(json.dumps(facts, indent=2))


def answers(folder: Path, episodes: EpisodeStore) -> dict[str, np.ndarray]:
    """Observations of the first episode; the policy's chunk for each of them, one after the other
    (`chunks`); and the actions of an episode that plays every chunk to its end (`played`)."""
    policy = Policy.load(folder / "run")
    policy.speak(GRIPPER)
    episode = episodes.episode(0)
    cameras = policy.config.data.cameras
    pictures = {name: episode.frames(name).read(0, PLAYED) for name in cameras}

    def chunks(steps: range) -> np.ndarray:
        policy.reset()
        seen = [
            {
                "images": {name: frames[step] for name, frames in pictures.items()},
                "proprio": episode.proprio[step],
                "instruction": episode.instruction(step),
            }
            for step in steps
        ]
        return np.stack([policy.act(observation) for observation in seen])

    every, horizon = chunks(range(PLAYED)), policy.config.model.chunk
    played = np.concatenate(chunks(range(0, PLAYED, horizon)))
    seen = {f"seen/{name}": frames for name, frames in pictures.items()}
    return {"chunks": every, "played": played, **seen}
