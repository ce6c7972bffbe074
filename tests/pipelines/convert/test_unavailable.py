"""A source that cannot be read for a while ends the run; the next one completes the same store."""

import errno
import os
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from depthtok.config import RunOptions
from depthtok.errors import SourceUnavailable
from depthtok.sources.rlds import RldsDirectory
from depthtok.stores.depth import DepthStore
from depthtok.stores.episodes import EpisodeStore
from depthtok.stores.verify import verify_rlds
from depthtok.testing import make_rlds, temporaries, tree_digest
from pipelines.annotate.fused import FusedStage
from pipelines.annotate.stage import AnnotateStage
from pipelines.config import AnnotateConfig, ConvertConfig
from pipelines.convert.stage import ConvertStage
from pipelines.run import run

PASSING = [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOENT, errno.EACCES, errno.ENOTCONN]


def trouble(monkeypatch, call, number, when):
    """`os.open` or `os.pread` of the source fails, at its `when`-th call."""
    calls, real = count(1), getattr(os, call)

    def failing(*args, **kwargs):
        source = "tfrecord" in str(args[0]) if call == "open" else args[0] in _shards()
        if source and next(calls) == when:
            raise OSError(number, os.strerror(number), "the source")
        return real(*args, **kwargs)

    monkeypatch.setattr(os, call, failing)


def _shards():
    """The descriptors of this process that are files of the source."""
    shards = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            if "tfrecord" in entry.readlink().name:
                shards.add(int(entry.name))
        except OSError:
            continue
    return shards


def convert(rlds, out, **settings):
    return ConvertStage(RldsDirectory.open(rlds), out, ConvertConfig(**settings))


@pytest.fixture(scope="module")
def expected(rlds, tmp_path_factory):
    """What an undisturbed conversion makes, indexed and packed."""
    root = tmp_path_factory.mktemp("expected")
    for packed in (False, True):
        run(convert(rlds, root / str(packed), copy_images=packed), RunOptions())
    return {packed: tree_digest(root / str(packed)) for packed in (False, True)}


@pytest.mark.parametrize("number", PASSING)
@pytest.mark.parametrize(("call", "when"), [("open", 1), ("open", 3), ("pread", 1), ("pread", 14)])
def test_a_conversion_ends_and_is_resumed(
    rlds, expected, tmp_path, monkeypatch, number, call, when
):
    trouble(monkeypatch, call, number, when)
    with pytest.raises(SourceUnavailable, match=os.strerror(number)) as caught:
        run(convert(rlds, tmp_path / "out"), RunOptions())
    assert "run the same command again" in caught.value.remedy
    assert temporaries(tmp_path) == []
    monkeypatch.undo()
    outcome = run(convert(rlds, tmp_path / "out"), RunOptions())
    assert (outcome.exit_code, outcome.failures) == (0, [])
    assert tree_digest(tmp_path / "out") == expected[False]


@pytest.mark.parametrize("when", [2, 7, 14])
def test_a_conversion_that_copies_images_too(rlds, expected, tmp_path, monkeypatch, when):
    trouble(monkeypatch, "pread", errno.EIO, when)
    with pytest.raises(SourceUnavailable, match="Input/output error"):
        run(convert(rlds, tmp_path / "out", copy_images=True), RunOptions())
    monkeypatch.undo()
    run(convert(rlds, tmp_path / "out", copy_images=True), RunOptions())
    assert tree_digest(tmp_path / "out") == expected[True]


def test_a_shard_that_is_cut_while_it_is_read_has_not_failed(rlds, tmp_path, monkeypatch):
    real, calls = os.pread, count(1)

    def short(file, size, offset):
        data = real(file, size, offset)
        return data[:-1] if file in _shards() and next(calls) == 2 else data

    monkeypatch.setattr(os, "pread", short)
    with pytest.raises(SourceUnavailable, match="became shorter while it was read"):
        run(convert(rlds, tmp_path / "out"), RunOptions())


@pytest.mark.parametrize("lost", [[0], [1, 2]])
def test_shards_that_are_not_there_make_no_part(tmp_path, expected, lost):
    rlds = make_rlds(tmp_path / "rlds")
    shards = [sorted(rlds.glob("*.tfrecord*"))[index] for index in lost]
    for shard in shards:
        shard.rename(tmp_path / shard.name)
    outcome = run(convert(rlds, tmp_path / "out"), RunOptions())
    assert (outcome.exit_code, outcome.failures) == (1, [])
    assert (outcome.made, outcome.kept) == (3 - len(lost), 0)
    assert [reason.split("/")[-1] for reason in outcome.given_up.values()] == [
        f"{shard.name} is not there" for shard in shards
    ]
    assert len(EpisodeStore(tmp_path / "out").missing()) == len(lost)
    assert {f.problem.split()[0].split("/")[-1] for f in verify_rlds(rlds)} == {
        shard.name for shard in shards
    }
    for shard in shards:
        (tmp_path / shard.name).rename(shard)
    outcome = run(convert(rlds, tmp_path / "out"), RunOptions())
    assert (outcome.exit_code, outcome.made) == (0, len(lost))
    digests = tree_digest(tmp_path / "out")
    assert all(digests[name] == expected[False][name] for name in digests if name != "zarr.json")


def annotate(path, out, estimator):
    config = AnnotateConfig(estimator=estimator, size=32)
    return AnnotateStage(EpisodeStore(path.root / "convert"), out, config, "cpu")


@pytest.mark.parametrize(("estimator", "when"), [("dataset", 3), ("dataset", 33), ("tiny", 12)])
def test_an_annotation_ends_and_is_resumed(whole, tmp_path, monkeypatch, estimator, when):
    run(annotate(whole, tmp_path / "expected", estimator), RunOptions())
    trouble(monkeypatch, "pread", errno.EIO, when)
    with pytest.raises(SourceUnavailable, match="Input/output error"):
        run(annotate(whole, tmp_path / "out", estimator), RunOptions())
    monkeypatch.undo()
    outcome = run(annotate(whole, tmp_path / "out", estimator), RunOptions())
    assert (outcome.exit_code, outcome.failures) == (0, [])
    assert tree_digest(tmp_path / "out") == tree_digest(tmp_path / "expected")


def fused(whole, book, out):
    from depthtok.stores.codebook import Codebook
    from pipelines.config import TokenizeConfig

    stage = annotate(whole, out, "dataset")
    return FusedStage(stage, Codebook.load(book), out, TokenizeConfig(), {"failures": []})


def test_codes_without_depth_end_and_are_resumed(whole, book, tmp_path, monkeypatch):
    run(fused(whole, book, tmp_path / "expected"), RunOptions())
    trouble(monkeypatch, "pread", errno.ESTALE, 25)
    with pytest.raises(SourceUnavailable, match="Stale file handle"):
        run(fused(whole, book, tmp_path / "out"), RunOptions())
    monkeypatch.undo()
    run(fused(whole, book, tmp_path / "out"), RunOptions())
    assert tree_digest(tmp_path / "out") == tree_digest(tmp_path / "expected")


def test_an_annotation_leaves_out_shards_that_are_not_there(tmp_path, over):
    path = over(make_rlds(tmp_path / "rlds"))
    path.run("convert")
    shard = sorted(path.rlds.glob("*.tfrecord*"))[1]
    shard.rename(tmp_path / "away")
    outcome = path.run("annotate")
    assert (outcome.exit_code, outcome.made, outcome.failures) == (1, 2, [])
    assert list(outcome.given_up.values()) == [f"{shard} is not there"]
    (tmp_path / "away").rename(shard)
    assert path.run("annotate").made == 1
    assert DepthStore(path.root / "annotate").missing() == []


def test_an_annotation_does_not_read_a_shard_that_was_rebuilt(tmp_path, over):
    """The index is of another file: its episodes have not failed."""
    path = over(make_rlds(tmp_path / "rlds"))
    path.run("convert")
    for shard in path.rlds.glob("*"):
        shard.unlink()
    make_rlds(path.rlds, steps=[5, 5, 6, 5, 5, 5])
    outcome = path.run("annotate")
    assert (outcome.made, outcome.failures, outcome.exit_code) == (2, [], 1)
    assert "changed since it was converted" in next(iter(outcome.given_up.values()))
    assert path.run("convert").remade == 1
    assert path.run("annotate").exit_code == 0
    assert np.concatenate([p.frames for p in DepthStore(path.root / "annotate").parts()])[2] == 6
