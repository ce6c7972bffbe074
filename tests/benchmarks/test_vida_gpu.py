"""The benchmark of Video-Depth-Anything on a GPU runs without one, at a small size."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_it_gives_every_way_its_speed_floor_and_bytes():
    command = [
        sys.executable,
        ROOT / "benchmarks" / "vida_gpu.py",
        "--plain",
        "--json",
        "--clips",
        "2",
        "--frames",
        "3",
        "--side",
        "32",
    ]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    eager, plain = json.loads(printed)
    assert (eager["way"], plain["way"]) == ("eager", "plain")
    assert eager["same_alone"] is True
    assert eager["floor"] == plain["floor"] > eager["frames_per_second"] > 0
    assert plain["frames_per_second"] > 0
