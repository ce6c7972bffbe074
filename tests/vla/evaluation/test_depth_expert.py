"""Scores of a depth expert, over just the samples that were asked for."""

import numpy as np
import pytest
import torch

from depthtok.errors import SourceError
from tests.vla import fakes
from vla.data.dataset import Dataset, SampleOrder
from vla.evaluation.depth_expert import BATCH, evaluate_depth
from vla.model.model import build
from vla.training.validation import SEED


def test_a_damaged_frame_that_nobody_asked_for_does_no_harm(micro, toy, codebook, monkeypatch):
    config = micro()
    data, fill = toy(config), Dataset.fill
    asked = {number for _, number in SampleOrder(len(data), SEED).draw(0, BATCH)}

    def read(self, row, number, epoch, seed):
        if number not in asked or epoch:
            raise SourceError("damaged")
        fill(self, row, number, epoch, seed)

    monkeypatch.setattr(Dataset, "fill", read)
    model = build(config.model, 0, torch.from_numpy(codebook.vectors))

    def decode(codes):
        return np.repeat(np.repeat(codes / np.float32(16), 2, axis=1), 2, axis=2)

    assert len(data) > BATCH
    score = evaluate_depth(model, data, BATCH, decode, "cpu")
    assert score.figures["frames"] == BATCH


def test_the_best_constant_is_judged_by_the_same_frames(micro, toy, codebook):
    """All of them, however many: it was by every second of these."""
    config, episodes = micro(), fakes.FakeEpisodes(count=20)
    data = toy(config, episodes)
    assert len(data) == 157
    grids = [data.members[0].codes.grid_of(episode.key, "main").codes for episode in episodes._made]
    codes = np.concatenate([grid.reshape(-1, 16) for grid in grids])
    likeliest = np.array([np.bincount(column, minlength=16).argmax() for column in codes.T])
    model = build(config.model, 0, torch.from_numpy(codebook.vectors))
    decoded = []

    def decode(codes):
        decoded.append(len(codes))
        return codes / np.float32(16)

    figures = evaluate_depth(model, data, 157, decode, "cpu").figures
    expected = np.abs(codes - likeliest.astype(float)).mean() / 16
    assert figures["constant_error"] == pytest.approx(expected, rel=1e-5)
    assert max(decoded) == BATCH
