"""What the working tree costs against another checkout: convert, annotate, the loader, in turns.

    git worktree add /tmp/before COMMIT
    python benchmarks/against.py /tmp/before [--rounds 7] [--steps 20000]

Each round runs every measurement once in each checkout, in a process of its own, in alternating
order. CPU seconds are of the measured calls alone (imports and making the data are not counted);
ratios, this tree over the other one, are medians of the rounds' own ratios, with their range. The
data are the shipped sample's frames, repeated; depth is estimated by the tiny network.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
MEASURED = ("convert", "annotate", "loader")
BATCHES, BATCH = 60, 16


def convert(data: Path, work: Path) -> float:
    """CPU seconds to index the whole data set."""
    from depthtok.config import RunOptions
    from depthtok.sources.rlds import RldsDirectory
    from pipelines.config import ConvertConfig
    from pipelines.convert.stage import ConvertStage
    from pipelines.run import run

    stage = ConvertStage(RldsDirectory.open(data), work / "episodes", ConvertConfig())
    return _cpu(lambda: run(stage, RunOptions()))


def annotate(data: Path, work: Path) -> float:
    """CPU seconds to annotate the first episodes."""
    from depthtok.config import RunOptions
    from depthtok.stores.episodes import EpisodeStore
    from pipelines.annotate.stage import AnnotateStage
    from pipelines.config import AnnotateConfig
    from pipelines.run import run

    convert(data, work)
    config = AnnotateConfig(estimator="tiny", size=64, input_size=70)
    stage = AnnotateStage(EpisodeStore(work / "episodes"), work / "depth", config, "cpu")
    return _cpu(lambda: run(stage, RunOptions(device="cpu", limit=2)))


def loader(data: Path, work: Path) -> float:
    """CPU seconds to fill batches, decoding included."""
    import numpy as np

    from depthtok.stores.episodes import EpisodeStore
    from vla.data.dataset import Dataset
    from vla.data.member import member
    from vla.data.tokenizer import ByteTokenizer
    from vla.named_configs import load

    convert(data, work)
    store = EpisodeStore(work / "episodes")
    changes = {"data.cameras": ["image"], "model.action_dim": store.action_dim}
    config = load("tiny+no-depth-expert", {**changes, "model.proprio_dim": store.proprio_dim})
    dataset = Dataset([member("libero_sim", store, None, config)], config, ByteTokenizer())
    rows = {n: np.zeros((BATCH, *shape), t) for n, (shape, t) in dataset.fields().items()}
    order = np.random.default_rng(0).integers(0, len(dataset), (BATCHES, BATCH)).tolist()

    def fill() -> None:
        for numbers in order:
            for index, number in enumerate(numbers):
                dataset.fill({n: r[index] for n, r in rows.items()}, number, 0, 0)

    fill()  # opens files and maps tables
    return _cpu(fill)


def _cpu(call) -> float:
    started = time.process_time()
    call()
    return time.process_time() - started


def measured(checkout: Path, name: str, data: Path) -> float:
    """One measurement in a fresh process of one checkout."""
    with tempfile.TemporaryDirectory() as work:
        command = [sys.executable, __file__, "--one", name, "--data", str(data), work]
        paths = {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env={**os.environ, **paths}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name} failed in {checkout}:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("other", type=Path, help="the other checkout")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--only", choices=MEASURED, action="append")
    parser.add_argument("--one", choices=MEASURED, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(globals()[options.one](options.data, options.other)))
        return
    sys.path.insert(0, str(HERE / "benchmarks"))
    from vla_loader import generate

    with tempfile.TemporaryDirectory() as folder:
        data = generate(Path(folder) / "libero_sim" / "1.0.0", options.steps)
        for name in options.only or MEASURED:
            pairs = []
            for number in range(options.rounds):
                sides = [options.other, HERE] if number % 2 else [HERE, options.other]
                seconds = {side: measured(side, name, data) for side in sides}
                pairs.append((seconds[HERE], seconds[options.other]))
            ratios = sorted(ours / theirs for ours, theirs in pairs)
            ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
            print(
                f"{name}: {ours:.2f} against {theirs:.2f} CPU-s, ratio "
                f"{statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})"
            )


if __name__ == "__main__":
    main()
