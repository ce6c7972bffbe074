"""Whether a policy in a lower precision is as good as in float32: in demonstrations, and in trials.

    python benchmarks/policy_precision.py RUN --episodes STORE [--stride 5]
    python benchmarks/policy_precision.py RUN --out DIR --suite libero_goal --tasks 8 --trials 50

Open loop (`--episodes`): both act from the demonstrations' own observations, with the same noise.
Told are their distance, and by how much the second is further from the demonstrated actions, by
episode, in normalised units, with a 95 % interval; for scale, the distance between two seeds of the
noise in float32. Closed loop (`--out`): `depthtok eval` twice on the same trials, with the same
seeds, and `depthtok compare`, which pairs them (needs the extra `sim`).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from depthtok.intervals import Estimate
from depthtok.stores.episodes import EpisodeStore
from depthtok.stores.stored_episode import StoredEpisode
from vla.serving.policy import Policy

OTHER_NOISE = 10_000


def open_loop(run: str, options: argparse.Namespace) -> None:
    """Prints how far the actions are from each other, and from the demonstrated ones."""
    fine, coarse = (
        Policy.load(run, precision=precision, device=options.device)
        for precision in ("float32", options.precision)
    )
    store = EpisodeStore(options.episodes)
    episodes = [store.episode(n) for n in range(len(store))][: options.limit]
    comparisons = [compared(fine, coarse, episode, options.stride) for episode in episodes]
    distances = np.concatenate([values for values, _, _ in comparisons])
    seeds = np.concatenate([values for _, values, _ in comparisons])
    print(
        f"{len(distances)} observations of {len(episodes)} episodes: {options.precision} and "
        f"float32 differ by {rms(distances):.2g} (RMS; largest {distances.max():.2g}), "
        f"two seeds of float32 by {rms(seeds):.2g} ({seeds.max():.2g})"
    )
    errors = np.stack([values for _, _, values in comparisons])
    print(
        f"mean squared error to the demonstrated actions: float32 {errors[:, 0].mean():.4g}, "
        f"{options.precision} {errors[:, 1].mean():.4g}; difference by episode "
        f"{Estimate.of((errors[:, 1] - errors[:, 0]).tolist())}"
    )


def compared(
    fine: Policy, coarse: Policy, episode: StoredEpisode, stride: int
) -> tuple[Float[np.ndarray, "T C A"], Float[np.ndarray, "T C A"], Float[np.ndarray, " 2"]]:
    """The distance of both, that of two seeds, and the squared errors of both, of an episode."""
    chunk, scale = fine.config.model.chunk, fine.norms.action
    frames = {name: episode.frames(name) for name in fine.config.data.cameras}
    distances, seeds, errors = [], [], []
    for step in range(0, len(episode) - chunk + 1, stride):
        observation = {
            "images": {
                name: frames_read.read(step, step + 1)[0] for name, frames_read in frames.items()
            },
            "proprio": episode.proprio[step],
            "instruction": episode.instruction(step),
        }
        a, b, again = (
            scale.apply(policy.act(observation, torch.Generator().manual_seed(step + noise_shift)))
            for policy, noise_shift in ((fine, 0), (coarse, 0), (fine, OTHER_NOISE))
        )
        true = scale.apply(episode.action[step : step + chunk])
        distances.append(np.abs(a - b))
        seeds.append(np.abs(a - again))
        errors.append([np.square(actions - true).mean() for actions in (a, b)])
    return np.stack(distances), np.stack(seeds), np.mean(errors, axis=0)


def rms(values: Float[np.ndarray, ...]) -> float:
    return float(np.sqrt(np.square(values).mean()))


def closed_loop(run: str, options: argparse.Namespace) -> None:
    """Both precisions on the same trials, and their comparison."""
    depthtok = [sys.executable, "-m", "depthtok"]
    for precision in ("float32", options.precision):
        out = options.out / precision
        words = ["eval", run, "--out", out, "--precision", precision, "--device", options.device]
        words += ["--suite", options.suite, "--tasks", options.tasks, "--trials", options.trials]
        words += ["--size", options.size, "--simulators", options.simulators, "--videos", 0]
        subprocess.run([*depthtok, *map(str, words)], check=True)
    places = [str(options.out / precision) for precision in ("float32", options.precision)]
    subprocess.run([*depthtok, "compare", *places], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--episodes", type=Path)
    parser.add_argument("--stride", type=int, default=5)
    parser.add_argument("--limit", type=int, help="only so many episodes")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--suite", default="libero_goal")
    parser.add_argument("--tasks", default="8")
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--simulators", type=int, default=0)
    options = parser.parse_args()
    if options.episodes:
        open_loop(options.run, options)
    if options.out:
        closed_loop(options.run, options)


if __name__ == "__main__":
    main()
