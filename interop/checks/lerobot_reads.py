"""lerobot reads an export as LeRobot v3.0: every column, depth and picture of every frame.

python lerobot_reads.py FOLDER    with FOLDER/lerobot, expected.npz and expected.json
"""

import json
import sys
from pathlib import Path

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset

FOLDER = Path(sys.argv[1])
LOSSY = 8.0  # of 255: how far a picture may be from the true one, on average

arrays = np.load(FOLDER / "expected.npz")
facts = json.loads((FOLDER / "expected.json").read_text())
record = json.loads((FOLDER / "lerobot/meta/depthtok.json").read_text())
data = LeRobotDataset("a/b", root=FOLDER / "lerobot", depth_output_unit="m", video_backend="pyav")

assert data.num_episodes == len(facts["frames"]), data.num_episodes
assert len(data) == sum(facts["frames"])
assert data.meta.fps == facts["fps"]
assert data.meta.features["action"]["names"] == list(facts["action_names"])
keys = record["features"]["image"]
depth = data.meta.features.get(keys["depth"], {}).get("info", {})
low, high = (np.log(depth.get(f"video.depth_{n}", 1) + 3.5) for n in ("min", "max"))

number, worst, errors = 0, 0.0, []
for episode, frames in enumerate(facts["frames"]):
    start = data.meta.episodes[episode]["dataset_from_index"]
    assert start == number
    for step in range(frames):
        item = data[number]
        assert item["episode_index"].item() == episode
        assert item["frame_index"].item() == step
        assert item["task"] == facts["instructions"][episode]
        for key, name in (("action", "action"), ("observation.state", "proprio")):
            expected = arrays[f"{name}/{episode}"][step]
            assert np.array_equal(item[key].numpy(), expected), (key, episode, step)
        if keys["codes"] in item:
            codes = arrays[f"codes/{episode}"][step].reshape(-1)
            assert np.array_equal(item[keys["codes"]].numpy(), codes), (episode, step)
        seen = item[keys["rgb"]].numpy().transpose(1, 2, 0) * 255
        errors.append(np.abs(seen - arrays[f"rgb/{episode}"][step]).mean())
        if depth:
            true = arrays[f"depth/{episode}"][step]
            step_m = (true + 3.5) * (high - low) / 4095  # between two codes, at this depth
            off = np.abs(item[keys["depth"]].numpy()[0] - true)
            inside = np.isfinite(true) & (true > depth["video.depth_min"])
            inside &= true < depth["video.depth_max"]
            assert (off[inside] <= 0.51 * step_m[inside] + 1e-6).all(), (episode, step)
            worst = max(worst, float(off[inside].max(initial=0)))
        number += 1

assert max(errors) <= LOSSY, max(errors)
action = np.concatenate([arrays[f"action/{episode}"] for episode in range(data.num_episodes)])
for name, share in (("q01", 0.01), ("q50", 0.5), ("q99", 0.99)):
    exact = np.quantile(action, share, axis=0)
    assert np.allclose(data.meta.stats["action"][name], exact, atol=1e-6), name
print(
    f"lerobot: {number} frames; actions, states, codes equal; depth within {1000 * worst:.2f} mm, "
    f"pictures {np.mean(errors):.2f} of 255 off on average"
)
