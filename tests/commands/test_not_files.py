"""A named pipe, a device, a socket or a directory in the place of any file that a command reads:
refused at once with what it is, never waited for, and never without an end."""

import os
import random
import shutil
import signal
import socket
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from depthtok.cli.main import app
from depthtok.disk.regular import open_file, require_file
from depthtok.errors import DepthtokError, NotAFile
from depthtok.testing import make_rlds
from tests.commands.trainings import DEMO, MICRO

TIMES = int(os.environ.get("DEPTHTOK_DAMAGES", "1"))  # 10: ten times as many
KINDS = {
    "pipe": "a named pipe",
    "device": "a device",
    "socket": "a socket",
    "directory": "a directory",
}
TRAIN = (
    "train-vla",
    "--preset",
    "MICRO",
    "--batch",
    4,
    "--steps",
    1,
    "--device",
    "cpu",
    "--out",
    "OUT",
    "--episodes",
    "episodes",
    "--codes",
    "codes",
)


def put(kind: str, path: Path) -> None:
    """Something of this kind in the place of a file."""
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "directory":
        path.mkdir()
    else:
        here = Path.cwd()
        os.chdir(path.parent)  # the name of a socket may have 107 bytes
        try:
            with socket.socket(socket.AF_UNIX) as unix_socket:
                unix_socket.bind(path.name)
        finally:
            os.chdir(here)


@contextmanager
def in_time(seconds: int = 60):
    """Fails what waits."""

    def late(*_):
        raise TimeoutError("it waits")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def typed(*arguments):
    """Exit code and what was said; a `DepthtokError` is what `main` makes exit code 2 of."""
    with in_time():
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, DepthtokError):
        assert result.exception.remedy
        return 2, str(result.exception)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """One of everything that commands read."""
    root = tmp_path_factory.mktemp("made")
    source = make_rlds(root / "rlds", episodes=4, steps=4, size=32, shards=1)
    (root / "micro.toml").write_text(MICRO)
    (root / "schema.toml").write_text(typed("inspect", source, "--draft-schema")[1])
    shutil.copytree(DEMO, root / "book")
    calls = [
        ("convert", source, "--out", root / "episodes"),
        ("annotate", root / "episodes", "--estimator", "dataset", "--out", root / "depth"),
        ("tokenize", root / "depth", "--codebook", root / "book", "--out", root / "codes"),
        [*(root / str(word) if word in ("episodes", "codes") else word for word in TRAIN)],
    ]
    for words in calls:
        words = [{"MICRO": root / "micro.toml", "OUT": root / "run"}.get(w, w) for w in words]
        code, said = typed(*words)
        assert code == 0, said
    pictures = root / "films" / "one"
    pictures.mkdir(parents=True)
    from PIL import Image

    for number in range(3):
        Image.effect_noise((40, 30), 90).convert("RGB").save(pictures / f"{number}.png")
    return root


NAMED = {
    "toml": ("run", "FILE.toml"),
    "schema": ("convert", "RLDS", "--schema", "FILE.toml", "--out", "OUT"),
    "preset": (
        "train-vla",
        "--preset",
        "FILE.toml",
        "--episodes",
        "EPISODES",
        "--codes",
        "CODES",
        "--out",
        "OUT",
    ),
    "vqvae config": ("train-vqvae", "DEPTH", "--preset", "FILE.toml", "--out", "OUT"),
    "tokenizer": (*TRAIN, "--set", "data.tokenizer=FILE.json"),
    "weights": (
        "annotate",
        "EPISODES",
        "--estimator",
        "tiny",
        "--weights",
        "FILE.pth",
        "--out",
        "OUT",
    ),
    "safetensors": (
        "annotate",
        "EPISODES",
        "--estimator",
        "tiny",
        "--weights",
        "FILE.safetensors",
        "--out",
        "OUT",
    ),
    "start": (*TRAIN, "--weights", "FILE.pt"),
    "video": ("annotate", "FILE.mp4", "--estimator", "tiny", "--out", "OUT"),
    "data set": ("convert", "FILE", "--out", "OUT"),
    "inspect": ("inspect", "FILE"),
    "verify": ("verify", "FILE"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", NAMED)
def test_what_is_named_is_a_file(made, tmp_path, what, kind):
    names = {
        "RLDS": made / "rlds",
        "EPISODES": made / "episodes",
        "CODES": made / "codes",
        "DEPTH": made / "depth",
        "MICRO": made / "micro.toml",
        "OUT": tmp_path / "out",
        "episodes": made / "episodes",
        "codes": made / "codes",
    }
    words = []
    for word in map(str, NAMED[what]):
        if "FILE" in word:
            path = tmp_path / word[word.index("FILE") :]
            put(kind, path)
            word = word.replace(path.name, str(path))
        words.append(names.get(word, word))
    code, said = typed(*words)
    assert code == 2, said
    if not (
        kind == "directory"
        and what in ("tokenizer", "start", "video", "data set", "inspect", "verify")
    ):
        assert KINDS[kind] in said, said


READERS = {
    "rlds": (("inspect", "HERE"), ("verify", "HERE"), ("convert", "HERE", "--out", "OUT")),
    "episodes": (
        ("inspect", "HERE"),
        ("verify", "HERE"),
        ("annotate", "HERE", "--estimator", "dataset", "--out", "OUT"),
    ),
    "depth": (
        ("inspect", "HERE"),
        ("verify", "HERE"),
        ("tokenize", "HERE", "--codebook", DEMO, "--out", "OUT"),
    ),
    "codes": (("inspect", "HERE"), ("verify", "HERE"), ("decode", "HERE", "--out", "OUT")),
    "book": (
        ("inspect", "HERE"),
        ("verify", "HERE"),
        ("tokenize", "DEPTH", "--codebook", "HERE", "--out", "OUT"),
    ),
    "run": (("inspect", "HERE"), ("verify", "HERE"), ("report", "HERE", "--out", "PAGE")),
    "films": (
        ("inspect", "HERE"),
        ("annotate", "HERE", "--estimator", "tiny", "--input-size", "28", "--out", "OUT"),
    ),
}
ADDED = (".lock", "seen.json", "speed.json", "statistics.json")  # beside what was made; made again


@pytest.mark.parametrize("name", READERS)
def test_every_file_that_lies_in_a_folder(made, tmp_path, name):
    """Refused, said by `verify`, or of no use to the command: never waited for, never a
    traceback; and of no file do all of the readers say nothing."""
    rng = random.Random(name)
    files = sorted(p.relative_to(made / name) for p in (made / name).rglob("*") if p.is_file())
    silent = []
    for number, file in enumerate(rng.sample(files, min(len(files), 6 * TIMES))):
        here, out = tmp_path / str(number), tmp_path / f"out-{number}"
        shutil.copytree(made / name, here)
        kind = rng.choice(list(KINDS))
        put(kind, here / file)
        names = {"HERE": here, "DEPTH": made / "depth", "OUT": out, "PAGE": out / "page.html"}
        codes = []
        for words in READERS[name]:
            try:
                code, _ = typed(*(names.get(word, word) for word in words))
            except Exception as error:
                raise AssertionError(f"{words[0]} of {file}, {kind}") from error
            codes.append(code)
            shutil.rmtree(out, ignore_errors=True)
        if not any(codes) and file.name not in ADDED and (name, kind) != ("films", "directory"):
            silent.append(f"{file} {kind}")
        shutil.rmtree(here)
    assert silent == []


def test_a_file_is_opened_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_text("text")
    number = open_file(path)
    assert os.read(number, 9) == b"text"
    os.close(number)
    require_file(path)
    require_file(tmp_path / "absent")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for kind, name in KINDS.items():
        put(kind, tmp_path / kind)
        with in_time(), pytest.raises(NotAFile, match=name):
            require_file(tmp_path / kind)
        with in_time(), pytest.raises((NotAFile, OSError)):  # a socket cannot be opened
            open_file(tmp_path / kind)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
