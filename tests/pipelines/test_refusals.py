"""What the system or the user gets wrong: one error with its remedy, exit code 2, and no half."""

import errno
import json
import os
import resource
import sys
from pathlib import Path

import numpy as np
import pytest

from depthtok.cli import main as cli
from depthtok.errors import ConfigError, OutputError
from depthtok.stores.verify import verify_store
from depthtok.testing import interrupt, make_rlds, temporaries, tree_digest
from pipelines.config import AnnotateConfig, ConvertConfig, TokenizeConfig

PRELOAD = [
    "zarr",
    "depthtok.cli.main",
    "pipelines.convert.stage",
    "pipelines.annotate.stage",
    "vqvae.codec",
]


def main(arguments: list[str], limit: int, log: str) -> None:
    """The command line in a process whose files may have `limit` bytes; its words go to `log`."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    sys.argv = ["depthtok", *arguments]
    with Path(log).open("w") as file:
        sys.stdout = sys.stderr = file
        cli.main()


def command(tmp_path, *arguments, limit=resource.RLIM_INFINITY):
    """Exit code of a command, and what it says."""
    log = tmp_path / "stderr"
    log.write_bytes(b"")
    args = ([str(argument) for argument in arguments], limit, str(log))
    return interrupt(main, args, signum=None, delay=300, preload=PRELOAD).exit_code, log.read_text()


@pytest.mark.parametrize("name", ["convert", "annotate"])
def test_a_full_disk_is_told_and_the_run_goes_on_later(whole, tmp_path, name):
    """A file that cannot grow stands for the disk: the limit falls at random bytes."""
    source = whole.rlds if name == "convert" else whole.root / "convert"
    settings = [] if name == "convert" else ["--estimator", "dataset", "--size", "32"]
    arguments = [name, source, "--out", tmp_path / "out", *settings]
    rng, stopped = np.random.default_rng(0), 0
    for _ in range(5):
        code, said = command(tmp_path, *arguments, limit=int(rng.integers(50, 3500)))
        if code:
            stopped += 1
            assert code == 2, said
            assert "error: cannot write" in said
            assert "fix: " in said
            assert "Traceback" not in said
        assert temporaries(tmp_path / "out") == []
        if (tmp_path / "out" / "zarr.json").exists():
            for finding in verify_store(tmp_path / "out"):
                assert "lacks part" in finding.problem or "parts/zarr.json" in finding.problem
    assert stopped
    assert command(tmp_path, *arguments)[0] == 0
    assert tree_digest(tmp_path / "out") == tree_digest(whole.root / name)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_an_output_that_cannot_be_written(whole, tmp_path, monkeypatch, number):
    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(OutputError, match="cannot write") as caught:
        run_convert(whole, tmp_path / "out")
    monkeypatch.undo()
    assert caught.value.remedy
    assert list(tmp_path.iterdir()) == []


def run_convert(whole, out):
    from depthtok.config import RunOptions
    from pipelines.run import run

    return run(whole.stage("convert", out), RunOptions())


def test_what_the_command_line_refuses(whole, tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").write_text("mine")
    (tmp_path / "nothing").mkdir()
    empty = make_rlds(tmp_path / "empty", steps=[], shards=1)
    store, depth = whole.root / "convert", ["--estimator", "dataset"]
    out = tmp_path / "out"
    for arguments, words in [
        (["convert", whole.rlds, "--out", tmp_path / "file"], "cannot write"),
        (["convert", whole.rlds, "--out", tmp_path / "file" / "x"], "cannot write"),
        (["convert", whole.rlds, "--out", tmp_path / "folder"], "not empty"),
        (["convert", tmp_path / "gone", "--out", out], "is not a readable directory"),
        (["convert", tmp_path / "nothing", "--out", out], "not an RLDS data set"),
        (["convert", empty, "--out", out], "no episodes"),
        (["annotate", store, "--out", out, *depth, "--camera", "imag"], "no camera 'imag'"),
        (["annotate", store, "--out", out, *depth, "--source-root", tmp_path], "not in"),
        (["annotate", whole.root / "annotate", "--out", out, *depth], "store of depth, not"),
        (["annotate", store, "--out", whole.root / "annotate", *depth], "size: 32 there, 256 now"),
        (["tokenize", store, "--codebook", whole.book, "--out", out], "brings no codes"),
        (
            ["tokenize", whole.root / "annotate", "--codebook", store, "--out", out],
            "not a codebook",
        ),
        (["verify", tmp_path / "nothing"], "is not a store, codebook, training run"),
    ]:
        before = tree_digest(tmp_path)
        code, said = command(tmp_path, *arguments)
        assert code == 2, (arguments, said)
        assert words in said
        assert "fix: " in said
        assert "Traceback" not in said
        (tmp_path / "stderr").write_bytes(b"")
        before["stderr"] = tree_digest(tmp_path)["stderr"]
        assert tree_digest(tmp_path) == before
        assert not out.exists()


@pytest.mark.parametrize(
    ("config", "field"),
    [(ConvertConfig, "split"), (AnnotateConfig, "camera"), (TokenizeConfig, "camera")],
)
def test_what_is_named_twice_is_refused(config, field):
    with pytest.raises(ConfigError, match=f"`{field}` cannot be 'a, b, a'") as caught:
        config(**{field: ("a", "b", "a")})
    assert caught.value.remedy == "give 'a' once"


@pytest.mark.parametrize(
    "setting",
    [{"precision": "float32"}, {"input_size": 28}, {"compile": True}, {"graphs": True}],
    ids=str,
)
def test_settings_of_a_network_are_refused_where_none_runs(setting):
    """They would be hashed, and stores that are equal would refuse each other."""
    (name,) = setting
    with pytest.raises(ConfigError, match=f"`{name}` cannot be") as caught:
        AnnotateConfig(estimator="dataset", **setting)
    assert "no network" in caught.value.remedy
    AnnotateConfig(estimator="dataset")
    AnnotateConfig(estimator="tiny", **setting)


def test_failures_are_told_and_the_exit_code_is_one(tmp_path):
    rlds = make_rlds(tmp_path / "rlds")
    next(rlds.glob("*.tfrecord-00001*")).write_bytes(b"")
    code, said = command(tmp_path, "convert", rlds, "--out", tmp_path / "out")
    assert code == 1
    assert said.count("failed: libero_sim_depth/1.0.0/train/00001") == 2
    assert "--retry-failed" in said


def test_a_store_without_its_root_is_known_and_made_whole(whole, tmp_path):
    arguments = ["convert", whole.rlds, "--out", tmp_path / "out"]
    command(tmp_path, *arguments)
    (tmp_path / "out" / "zarr.json").unlink()
    for name in ("verify", "inspect"):
        code, said = command(tmp_path, name, tmp_path / "out")
        assert code == 2
        assert "zarr.json is missing" in said
        assert "its parts are kept" in said
    assert command(tmp_path, *arguments)[0] == 0
    (tmp_path / "out" / "statistics.json").write_text("{}")
    (tmp_path / "out" / "parts" / ".tmp-left").mkdir()
    code, said = command(tmp_path, "verify", tmp_path / "out")
    assert code == 1
    assert "next: the same command with --repair" in said
    code, said = command(tmp_path, "verify", tmp_path / "out", "--repair")
    assert code == 0
    assert "dropped: parts/.tmp-left, statistics.json" in said
    assert command(tmp_path, *arguments)[0] == 0
    assert tree_digest(tmp_path / "out") == tree_digest(whole.root / "convert")


def test_verify_and_repair_from_the_command_line(whole, tmp_path):
    arguments = ["convert", whole.rlds, "--out", tmp_path / "out"]
    assert command(tmp_path, *arguments)[0] == 0
    next((tmp_path / "out").rglob("manifest.json")).write_text(json.dumps({}))
    code, said = command(tmp_path, "verify", tmp_path / "out")
    assert code == 1
    assert "manifest.json is damaged" in said
    assert "--repair" in said
    code, said = command(tmp_path, *arguments)
    assert code == 2
    assert "manifest.json is damaged" in said
    assert "--repair" in said
    assert command(tmp_path, "verify", tmp_path / "out", "--repair")[0] == 0
    assert command(tmp_path, *arguments)[0] == 0
    assert tree_digest(tmp_path / "out") == tree_digest(whole.root / "convert")
