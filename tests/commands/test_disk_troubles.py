"""Disks that are full, read-only or failing, under each command that trains: two lines with a
remedy, exit code 2, nothing lost; and the same command then gives the same result as ever."""

import errno
import io
import json
import os
import random
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from depthtok.cli.main import main
from depthtok.testing import temporaries
from tests.commands.trainings import CLOCK, call, training
from vla.training import checkpoint

TIMES = int(os.environ.get("DEPTHTOK_DAMAGES", "1"))  # 10: ten times as many
ROOT = Path(__file__).parents[2]
VQVAE = """
[network]
size = 64
grid = 8
dim = 16
width = 16
decoder_width = 16
encoder_blocks = 0
decoder_blocks = 1
[quantizer]
codes = 32
warmup = 1
[training]
steps = 3
batch = 4
crop = 32
lr_warmup = 1
held_out = 0.3
"""
WRITES = {
    "open to write": (io, "open"),
    "fsync": (os, "fsync"),
    "rename": (os, "rename"),
    "replace": (os, "replace"),
    "mkdir": (os, "mkdir"),
}
READS = {
    "open to read": (io, "open"),
    "open": (os, "open"),
    "pread": (os, "pread"),
    "stat": (os, "stat"),
}
SAID = {
    errno.ENOSPC: "No space left",
    errno.EIO: "Input/output error",
    errno.ESTALE: "Stale file",
    errno.EROFS: "Read-only",
    errno.EACCES: "Permission denied",
}


@dataclass
class Trouble:
    """The `when`-th of some calls on files below `root` fails with this number; it counts them."""

    root: Path
    what: str
    when: int = -1
    number: int = errno.EIO
    seen: int = 0
    failed: list[str] = field(default_factory=list)

    def put(self, patch) -> None:
        module, name = (WRITES | READS)[self.what]
        real = getattr(module, name)

        def call(*args, **more):
            if self._counts(args, more):
                self.seen += 1
                if self.seen - 1 == self.when:
                    self.failed.append(str(args[0]))
                    raise OSError(self.number, os.strerror(self.number), str(args[0]))
            return real(*args, **more)

        patch.setattr(module, name, call)

    def _counts(self, args, more) -> bool:
        if self.what in ("open to write", "open to read"):
            mode = str(args[1] if len(args) > 1 else more.get("mode", "r"))
            if any(letter in mode for letter in "wax+") != (self.what == "open to write"):
                return False
        path = args[0]
        if isinstance(path, int):
            try:
                path = Path(f"/proc/self/fd/{path}").readlink()
            except OSError:
                return False
        return str(path).startswith(str(self.root)) and "lock" not in Path(str(path)).name


def typed(monkeypatch, capsys, words) -> tuple[int, str]:
    """Exit code of a command as it is typed, and what it said on stderr."""
    monkeypatch.setattr(sys, "argv", ["depthtok", *map(str, words)])
    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    return code, capsys.readouterr().err


def result(out: Path) -> dict:
    """What a training made, without what the clock says."""
    if out.suffix == ".safetensors":
        return {"weights": out.read_bytes(), "card": out.with_suffix(".json").read_bytes()}
    if (out / "codebook.safetensors").is_file():
        return {name: (out / name).read_bytes() for name in ("codebook.safetensors",)}
    last_checkpoint = checkpoint.find(out)
    weights = {path.name: path.read_bytes() for path in last_checkpoint.glob("*.safetensors")}
    lines = (out / "metrics.jsonl").read_text().splitlines()
    steps = [{k: v for k, v in json.loads(line).items() if k not in CLOCK} for line in lines]
    return {**weights, "step": last_checkpoint.name, "lines": steps}


def command(name: str, stores: Path, out: Path) -> tuple[list, Path]:
    """A short training, and where it leaves its result."""
    if name == "train-vla":
        flags = ("--steps", 2, "--checkpoint-every", 1, "--validate-every", 1)
        return [*training(stores, out / "run"), *flags], out / "run"
    if name == "train-vqvae":
        (stores / "vqvae.toml").write_text(VQVAE)
        return [
            "train-vqvae",
            stores / "depth64",
            "--preset",
            stores / "vqvae.toml",
            "--device",
            "cpu",
            "--out",
            out / "book",
        ], out / "book"
    return [
        "finetune-vida",
        stores / "depth64",
        "--estimator",
        "tiny",
        "--steps",
        2,
        "--batch",
        1,
        "--frames",
        2,
        "--input-size",
        28,
        "--device",
        "cpu",
        "--held-out",
        0.3,
        "--camera",
        "image",
        "--out",
        out / "net.safetensors",
    ], out / "net.safetensors"


TRAININGS = ("train-vla", "train-vqvae", "finetune-vida")


@dataclass(frozen=True)
class Whole:
    """What a training makes where nothing goes wrong, and how often it calls what can go wrong."""

    result: dict
    calls: dict[str, int]


@pytest.fixture(scope="module")
def whole(stores, tmp_path_factory):
    call(
        "annotate",
        stores / "episodes",
        "--out",
        stores / "depth64",
        "--estimator",
        "dataset",
        "--size",
        64,
        "--workers",
        "0",
    )
    outputs = {}
    for name in TRAININGS:
        root = tmp_path_factory.mktemp("whole")
        words, out = command(name, stores, root)
        counts = [Trouble(root, what) for what in WRITES] + [Trouble(stores, r) for r in READS]
        with pytest.MonkeyPatch.context() as patch:
            for counting in counts:
                counting.put(patch)
            call(*words)
        calls = {counting.what: counting.seen for counting in counts if counting.seen}
        outputs[name] = Whole(result(out), calls)
    return outputs


def points(whole: Whole, name: str) -> list[tuple[str, int]]:
    """Some calls to fail, of different kinds first."""
    rng, calls = random.Random(name), []
    while len(calls) < 2 * TIMES:
        kinds = rng.sample(sorted(whole.calls), len(whole.calls))
        calls += [(what, rng.randrange(whole.calls[what])) for what in kinds]
    return calls[: 2 * TIMES]


@pytest.mark.parametrize("name", TRAININGS)
def test_a_trouble_ends_in_two_lines_and_loses_nothing(
    stores, whole, tmp_path, monkeypatch, capsys, name
):
    assert len(whole[name].calls) > 6
    for turn, (what, when) in enumerate(points(whole[name], name)):
        number = (
            list(SAID)[turn % len(SAID)] if what in WRITES else (errno.EIO, errno.ESTALE)[turn % 2]
        )
        words, out = command(name, stores, tmp_path / str(turn))
        trouble = Trouble(tmp_path if what in WRITES else stores, what, when, number)
        with monkeypatch.context() as patch:
            trouble.put(patch)
            code, said = typed(patch, capsys, words)
        context = f"{what} {trouble.failed}, call {when}: {said}"
        if code:  # else it went on without it: a lock's text, a directory's times
            assert code == 2, context
            assert SAID[number] in said, context
            assert "error: " in said, context
            assert "  fix: " in said, context
        assert "Traceback" not in said, context
        code, said = typed(monkeypatch, capsys, words)
        assert code == 0, f"{context}\nthen: {said}"
        assert result(out) == whole[name].result, context
        assert temporaries(tmp_path) == [], context


@pytest.mark.parametrize("name", TRAININGS)
def test_a_disk_that_is_full(stores, whole, small_disk, monkeypatch, capsys, name):
    """The real thing: what was made is gone on with where there is room again."""
    words, out = command(name, stores, small_disk)
    code, said = typed(monkeypatch, capsys, words)
    assert code == 2, said
    problem, remedy = [line for line in said.splitlines() if line[:6] in ("error:", "  fix:")]
    assert "No space left on device" in problem
    assert "free some space" in remedy
    assert temporaries(small_disk) == []
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    code, said = typed(monkeypatch, capsys, words)
    assert code == 0, said
    assert result(out) == whole[name].result


@pytest.mark.parametrize("name", TRAININGS)
def test_a_disk_that_is_read_only(stores, small_disk, whole, monkeypatch, capsys, name):
    words, _ = command(name, stores, small_disk)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    code, said = typed(monkeypatch, capsys, words)
    assert code == 2, said
    assert "Read-only file system" in said
    assert "fix: the file system is read-only; choose another --out" in said


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 200 kB; only root may make one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", disk], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.parametrize("name", TRAININGS)
def test_standard_output_on_a_full_disk(stores, whole, tmp_path, name):
    words, out = command(name, stores, tmp_path)
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "depthtok", *map(str, words)],
            stdout=full,
            text=True,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )
    assert done.returncode == 2
    problem, remedy = done.stderr.splitlines()[-2:]
    assert problem == "error: cannot write the standard output: No space left on device"
    assert remedy.startswith("  fix: what was made is kept; free some space")
    call(*words)
    assert result(out) == whole[name].result
