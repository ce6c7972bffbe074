"""Scores of a depth expert, over just the samples that were asked for."""

import numpy as np
import torch

from depthtok.errors import SourceError
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
