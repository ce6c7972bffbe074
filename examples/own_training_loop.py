"""Depth codes in one's own training loop: a small network reads a frame and predicts its codes.

    python examples/own_training_loop.py runs/episodes runs/codes --steps 200

Only the two classes at the top are depthtok's business; the rest is plain PyTorch. The loss is
chance, log 256 = 5.55, at the start, and falls quickly: codes say where things are.
"""

import argparse
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from depthtok.stores.codes import CodeStore
from depthtok.stores.episodes import EpisodeStore


class FramesWithCodes(Dataset):
    """Every frame of one camera with its codes, by number. Nothing is held in memory but offsets;
    `num_workers` of a DataLoader is fine."""

    def __init__(self, episodes: str | Path, codes: str | Path, camera: str | None) -> None:
        self.episodes, self.codes = EpisodeStore(episodes), CodeStore(codes)
        self.camera = camera or self.codes.cameras[0]
        self.codes.require_complete()  # else an episode without codes may be one that is to come
        self.steps = [
            (number, step)
            for number, episode in enumerate(self.episodes)
            # Its annotation failed, or it was recorded without this camera: both are known.
            if episode.key in self.codes and not self.codes.absent(episode.key, self.camera)
            for step in range(len(episode))
        ]

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """A frame, uint8 [3, H, W], and its codes, int64 [16, 16]."""
        number, step = self.steps[index]
        episode = self.episodes.episode(number)
        frame = episode.frames(self.camera).read(step, step + 1)[0]
        codes = self.codes.grid_of(episode.key, self.camera).codes[step]
        return torch.from_numpy(frame).permute(2, 0, 1), torch.from_numpy(codes.astype("int64"))


class CodePredictor(nn.Module):
    """A picture to logits over 256 codes in each of 16x16 cells."""

    def __init__(self, grid: tuple[int, int], codes: int = 256, width: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, width, 4, stride=4),
            nn.GELU(),
            nn.Conv2d(width, width, 4, stride=4),
            nn.GELU(),
            nn.AdaptiveAvgPool2d(grid),
            nn.Conv2d(width, codes, 1),
        )
        self.cell_bias = nn.Parameter(torch.zeros(codes, *grid))

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """uint8 [B, 3, H, W] to float32 [B, 256, 16, 16]."""
        return self.layers(frames.float() / 127.5 - 1) + self.cell_bias


def train(
    episodes: str | Path, codes: str | Path, camera: str | None = None, steps: int = 200
) -> list[float]:
    """Trains for so many batches of at most 16 on a CPU; returns the loss of each."""
    torch.manual_seed(0)
    data = FramesWithCodes(episodes, codes, camera)
    network = CodePredictor(data.codes.grid)
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    losses: list[float] = []
    while len(losses) < steps:
        for frames, targets in DataLoader(data, batch_size=16, shuffle=True):
            loss = nn.functional.cross_entropy(network(frames), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if len(losses) == steps:
                break
    return losses


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("episodes", help="an EpisodeStore")
    parser.add_argument("codes", help="a CodeStore of it")
    parser.add_argument("--camera", help="the store's first by default")
    parser.add_argument("--steps", type=int, default=200)
    arguments = parser.parse_args()
    losses = train(arguments.episodes, arguments.codes, arguments.camera, arguments.steps)
    print(f"loss {losses[0]:.2f} at first, {losses[-1]:.2f} after {len(losses)} steps")
