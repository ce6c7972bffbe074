"""How well an estimator's consistency with itself foretells its error against true depth.

    python benchmarks/consistency_rank.py EPISODES TRUE_DEPTH --clips 12 --frames 4

Estimators of graded quality are made of one network: its weights with more and more noise (a share
of each tensor's standard deviation), its input smaller and smaller, and one that answers "further
down is nearer", whatever the image. Each is held against itself (no truth), and its
depth of the same frames against the truth. Printed are both figures of each, and Spearman's rank
correlation between them, over the estimators and over pairs within each kind of spoiling.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from depthtok.data import DepthBlock, DepthClip, DepthEstimator, DepthKind, EstimatorSpec, FrameClip
from depthtok.stores.depth import DepthStore, StoredDepth
from depthtok.stores.episodes import EpisodeStore
from pipelines.audit.altered import AS_IS, AlteredClip
from pipelines.audit.audit import Pair, audit
from pipelines.audit.consistency import AGREEMENTS, chosen_clips, self_consistency
from pipelines.depth.registry import find
from pipelines.depth.vida.config import RunConfig
from pipelines.depth.vida.published import SHIPPED

NOISE = (0.15, 0.3, 0.45, 0.6, 0.8)
SIDES = (112, 84, 70, 56)


@dataclass(frozen=True)
class Slope:
    """Answers one disparity per row, whatever the image: nearer further down."""

    spec = EstimatorSpec("rows", DepthKind.DISPARITY, "none")
    device, degraded = "cpu", False

    def estimate(self, clips: Iterable[FrameClip]) -> Iterator[DepthBlock]:
        for number, clip in enumerate(clips):
            height, width = clip.read(0, 1).shape[1:3]
            rows = np.linspace(1, 2, height, dtype=np.float32)[None, :, None]
            values = np.broadcast_to(rows, (len(clip), height, width))
            yield DepthBlock(number, DepthClip.of(values, DepthKind.DISPARITY))


def estimators(network: str, folder: Path) -> Iterator[tuple[str, str, DepthEstimator]]:
    """Kind of spoiling, name, and the estimator."""
    entry, device = find(network), torch.device("cpu")
    good = entry.build(None, RunConfig(), device)
    yield "as it is", network, good
    tensors = load_file(SHIPPED / f"{network}.safetensors")
    for share in NOISE:
        generator = torch.Generator().manual_seed(0)
        spoiled = {
            name: tensor
            + share
            * tensor.float().std(correction=0)
            * torch.randn(tensor.shape, generator=generator)
            for name, tensor in tensors.items()
        }
        path = folder / f"noise-{share}.safetensors"
        save_file({n: t.to(tensors[n].dtype).contiguous() for n, t in spoiled.items()}, path)
        yield (
            "noise",
            f"{network}, weights with {share:.0%} noise",
            entry.build(path, RunConfig(), device),
        )
    for side in SIDES:
        yield (
            "input",
            f"{network}, input of {side} px",
            entry.build(None, RunConfig(input_size=side), device),
        )
    yield "no image", "a slope of rows", Slope()


def error(estimator: DepthEstimator, clip: FrameClip, true: StoredDepth, frames: int) -> float:
    """AbsRel of the frames that consistency is measured on."""
    length = min(frames, len(clip))
    start = (len(clip) - length) // 2
    blocks = [b.depth for b in estimator.estimate([AlteredClip(clip, AS_IS, start, length)])]
    depth = [block for block in blocks if block is not None]
    values = np.concatenate([block.values for block in depth])

    def estimated(first: int, last: int) -> DepthClip:
        return DepthClip.of(values[first:last], depth[0].kind)

    def truth(first: int, last: int) -> DepthClip:
        return true.read(start + first, start + last)

    return audit(Pair(clip.key, clip.camera.name, length, estimated, truth)).abs_rel


def spearman(x: list[float], y: list[float]) -> float:
    """Rank correlation; equal values share the mean of their ranks."""
    columns = (np.array(values)[:, None] for values in (x, y))
    ranks = [(c > c.T).sum(axis=1) + (c >= c.T).sum(axis=1) for c in columns]
    return float(np.corrcoef(*ranks)[0, 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("episodes", type=Path)
    parser.add_argument("truth", type=Path)
    parser.add_argument("--network", default="tiny")
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--frames", type=int, default=4)
    args = parser.parse_args()
    torch.set_num_threads(1)
    episodes, store = EpisodeStore(args.episodes), DepthStore(args.truth)
    clips = chosen_clips(episodes, store.cameras, args.clips)
    true = {(clip.key, clip.camera): clip for clip in store.clips()}
    rows: list[tuple[str, str, dict[str, float]]] = []
    with tempfile.TemporaryDirectory() as folder:
        for kind, name, estimator in estimators(args.network, Path(folder)):
            consistencies = self_consistency(estimator, clips, args.frames).clips
            figures = {
                f: float(np.mean([getattr(c, f) for c in consistencies]))
                for f in (*AGREEMENTS, "plane")
            }
            figures["neighbours"] = float(np.mean([c.neighbours or 0 for c in consistencies]))
            errors = [error(estimator, c, true[c.key, c.camera.name], args.frames) for c in clips]
            figures["abs_rel"] = float(np.mean(errors))
            rows.append((kind, name, figures))
            print(f"{name:32}", *(f"{n} {v:.3f}" for n, v in figures.items()), flush=True)
    seeing = [row for row in rows if row[0] != "no image"]
    for figure in (*AGREEMENTS, "neighbours"):
        for words, chosen in (("all", rows), ("without the rows", seeing)):
            x, y = ([f[n] for *_, f in chosen] for n in (figure, "abs_rel"))
            print(f"{figure}: rank correlation with AbsRel, {words}: {spearman(x, y):.2f}")
    for kind in ("noise", "input"):
        graded = [f for k, _, f in rows if k in (kind, "as it is")]
        pairs = list(combinations(graded, 2))
        right = sum((a["mirror"] < b["mirror"]) == (a["abs_rel"] < b["abs_rel"]) for a, b in pairs)
        print(f"{kind}: {right} of {len(pairs)} pairs in the right order by mirror")


if __name__ == "__main__":
    main()
