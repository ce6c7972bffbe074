"""The loader: the same samples for any threads, ranks and starts."""

import itertools

import pytest
import torch

from vla.data.loader import Loader


def batches(data, count, **options):
    with Loader(data, 6, seed=3, **options) as loader:
        return [
            {name: value.clone() for name, value in vars(batch).items()}
            for batch in itertools.islice(loader, count)
        ]


def assert_same(a, b):
    for x, y in zip(a, b, strict=True):
        assert all(torch.equal(x[name], y[name]) for name in x)


@pytest.fixture
def data(micro, toy):
    return toy(micro(data__photometric=0.3))


@pytest.mark.parametrize("workers", [1, 3])
def test_threads_change_nothing(data, workers):
    assert_same(batches(data, 9, threads=0), batches(data, 9, threads=workers, prefetch=3))


def test_resumes_at_any_step(data):
    assert_same(batches(data, 9)[5:], batches(data, 4, start=5))


def test_ranks_share_every_batch_without_overlap(data):
    full_batches = batches(data, 5)
    parts = [batches(data, 5, rank=rank, ranks=3) for rank in range(3)]
    for step, batch in enumerate(full_batches):
        rows = {n: torch.cat([part[step][n] for part in parts]) for n in batch}
        assert_same([batch], [rows])


def test_buffers_are_used_again(data):
    with Loader(data, 6, seed=0, threads=2, prefetch=2) as loader:
        places = [b.images_BIHW3.data_ptr() for b in itertools.islice(loader, 12)]
    assert len(set(places)) == 3


def test_errors_reach_the_caller(data, monkeypatch):
    def broken(*_):
        raise KeyError("a broken frame")

    monkeypatch.setattr(data, "fill", broken)
    with pytest.raises(KeyError, match="broken frame"), Loader(data, 6, seed=0) as loader:
        next(iter(loader))
