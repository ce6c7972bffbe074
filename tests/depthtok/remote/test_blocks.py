"""Blocks of objects in the cache."""

from concurrent.futures import Future

import pytest

from depthtok.remote.blocks import BlockCache, BlockedFile
from depthtok.remote.limits import Limits
from depthtok.remote.location import located


def test_a_block_that_comes_at_once_is_read(tmp_path, monkeypatch):
    pytest.importorskip("obstore")
    (tmp_path / "object").write_bytes(bytes(range(10)))
    cache = BlockCache(tmp_path / "cache", Limits(block_mib=4 / 2**20))
    shard = BlockedFile(located(f"file://{tmp_path / 'object'}"), cache)

    def submit(_, shard, number):  # as fast as a pool can be
        future = Future()
        future.set_result(bytes(range(4 * number, min(4 * number + 4, 10))))
        return future

    monkeypatch.setattr(cache._pool, "submit", submit)
    assert shard.read(1, 8) == bytes(range(1, 9))
    shard.expect([(0, 10)])
