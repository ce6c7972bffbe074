"""vla-eval plays two episodes of a benchmark of recorded observations against a served policy, by
way of `examples/vla_eval`: the actions that the benchmark gets are the policy's, in both."""

import logging
import sys
from importlib import metadata
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "examples" / "vla_eval")]

from depthtok_server import DepthtokServer  # noqa: E402
from vla_eval import evaluate  # noqa: E402

folder, address = Path(sys.argv[1]), sys.argv[2]
played = np.load(folder / "expected.npz")["played"]
logging.basicConfig(level=logging.WARNING)
server = DepthtokServer(f"ws://{address}", pictures="image=agentview,wrist=wrist")
results = evaluate(
    server,
    {
        "output_dir": str(folder / "vla-eval"),
        "benchmarks": [
            {
                "benchmark": "stub_benchmark:RecordedBenchmark",
                "episodes_per_task": 2,
                "max_tasks": 1,
                "max_steps": len(played),
                "params": {"folder": str(folder)},
            }
        ],
    },
    docker=False,
)
episodes = sorted(folder.glob("got-*.npy"))
assert len(episodes) == 2, (episodes, results)
for file in episodes:
    np.testing.assert_allclose(np.load(file), played, rtol=1e-5, atol=1e-6)
    file.unlink()
print(f"vla-eval {metadata.version('vla-eval')}: 2 episodes of {len(played)} actions are equal")
