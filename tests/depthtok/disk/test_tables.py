"""Tables that stay mapped: their number, whose they are, and stores of many parts under the usual
limit of open files."""

import gc
import resource
import subprocess
import sys
import weakref
from threading import Thread

import numpy as np
import pytest

from depthtok.disk import tables
from depthtok.disk.tables import Tables, open_files


class Source:
    """Counts what is mapped."""

    def __init__(self):
        self.mapped = []

    def map(self, name):
        self.mapped.append(name)
        return np.zeros(1)


def test_the_least_recently_used_give_way():
    held, one, two = Tables(2), Source(), Source()
    first = held.get(one, "a")
    held.get(two, "a")
    assert held.get(one, "a") is first
    held.get(one, "b")  # that of `two` gives way
    assert held.get(one, "a") is first
    held.get(two, "a")
    assert (one.mapped, two.mapped) == (["a", "b"], ["a", "a"])


def test_sources_that_are_gone_hold_nothing():
    held, sources = Tables(9), [Source(), Source()]
    gone, present = weakref.ref(held.get(sources[0], "a")), held.get(sources[1], "a")
    gc.collect()
    assert gone() is not None
    held.drop(sources[:1])
    gc.collect()
    assert gone() is None
    assert held.get(sources[1], "a") is present


def test_a_store_may_be_collected_while_another_table_is_kept():
    """Its tables are dropped by the thread that holds the lock: it must not wait for itself."""
    held, source = Tables(1), Source()
    weakref.finalize(held.get(source, "a"), held.drop, [source])
    thread = Thread(target=held.get, args=(Source(), "b"), daemon=True)  # "a" gives way
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    held.get(source, "a")
    assert source.mapped == ["a", "a"]


@pytest.mark.parametrize(
    ("soft", "hard", "most"), [(1024, 4096, 3584), (1024, 1024, 512), (64, 64, 32)]
)
def test_the_soft_limit_is_raised_and_some_files_are_left_to_others(soft, hard, most):
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < hard:
        pytest.skip(f"fewer than {hard} files may be open here")
    code = f"""
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
from depthtok.disk.tables import open_files, tables
assert resource.getrlimit(resource.RLIMIT_NOFILE) == ({soft}, {hard})
print(open_files(), tables(16_384)._most, *resource.getrlimit(resource.RLIMIT_NOFILE))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(hard), str(most), str(hard), str(hard)]


def test_there_are_always_some(monkeypatch):
    monkeypatch.setattr(tables, "open_files", lambda: 10**6)
    tables.tables.cache_clear()
    assert tables.tables(3)._most == 3
    tables.tables.cache_clear()
    assert open_files() > 0


MANY = """
import os, resource, sys
from pathlib import Path
import numpy as np
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
from depthtok.disk import files
from depthtok.stores import filling, store
from depthtok.stores.spec import StoreSpec
from depthtok.stores.arrays import ArraySpec
from depthtok.stores.parts import PartName, ShardKey, shard_name
files.sync_tree = lambda path: None
path, count = Path(sys.argv[1]), 150
spec = StoreSpec("toy", "toy", 1, {}, {}, "0", {"train": count})
filling.create(path, spec)
for shard in range(count):
    def fill(writer):
        for name in "ab":
            writer.append(name, np.full((2, 3), shard, np.int32))
        writer.end(0, 2)
    filling.write_part(path, spec, PartName(shard_name("train", shard, count)),
                     ShardKey("d", "1", "train", shard, count),
                     {"a": ArraySpec("int32", (3,)), "b": ArraySpec("int32", (3,))}, fill,
                     upstream="")
stores = [store.Store(path) for _ in range(3)]
for each in stores * 2:
    for shard, part in enumerate(each.parts()):
        for name in "ab":
            assert (each.table(part, name) == shard).all()
    assert len(os.listdir("/proc/self/fd")) < 200
del stores, each
import gc
gc.collect()
print(len(os.listdir("/proc/self/fd")))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts open files in /proc")
def test_more_tables_than_files_may_be_open(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", MANY, str(tmp_path / "s")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 40
