"""What people type that is not quite right: it works, or two lines say what does."""

import ctypes.util
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from depthtok.api.serve import warn_if_public
from depthtok.cli import application
from depthtok.cli import main as cli
from depthtok.cli.main import app
from depthtok.cli.next_step import after_codes, after_convert
from depthtok.config import RunOptions
from depthtok.disk import files
from depthtok.errors import ConfigError, MissingPackage, NotAFile, SourceError
from depthtok.log import plain, say, warn
from depthtok.pages.report import Report
from depthtok.sources.rlds import RldsDirectory
from depthtok.testing import make_rlds
from pipelines.config import ConvertConfig
from pipelines.convert.stage import ConvertStage
from pipelines.inspect.pages import maker
from pipelines.inspect.summary import inspect
from pipelines.run import run
from pipelines.videos import VideoStage

ROOT = Path(__file__).parents[2]
MAIN = "import sys; sys.argv = {}; from depthtok.cli.main import main; main()"


def typed(*words, folder=ROOT, **environment):
    """A command in a process of its own, with this package beside whatever `folder` has."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_every_way_to_ask_for_help_works():
    asked = (
        ["-m", "depthtok.cli", "annotate", "--help"],
        ["-m", "depthtok.cli", "annotate", "-h"],
        ["-m", "depthtok", "annotate", "-h"],
    )
    helps = [typed(*words).stdout.partition("Options:") for words in asked]
    assert all(usage.startswith("Usage: ") for usage, _, _ in helps)
    assert len({options for _, _, options in helps}) == 1
    assert "--estimator" in helps[0][2]
    assert typed("-m", "depthtok", "-h").stdout.count("\n") > 20
    assert typed("-m", "depthtok", "--version").stdout.strip()[0].isdigit()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("depthtok conv", "convert"),
        ("depthtok annotate --est", "--estimator"),
        ("depthtok t", "train-vla"),
    ],
)
def test_the_shell_completes(words, offered):
    count = str(len(words.split()) - 1)
    asked = {"COMP_WORDS": words, "COMP_CWORD": count, "_DEPTHTOK_COMPLETE": "complete_bash"}
    done = typed("-c", MAIN.format(["depthtok"]), **asked)
    assert offered in done.stdout.split()


@pytest.mark.parametrize("name", ["vla", "pipelines", "vqvae"])
@pytest.mark.parametrize("file", ["{}/__init__.py", "{}.py"])
def test_a_package_that_hides_ours_is_named(tmp_path, name, file):
    path = tmp_path / file.format(name)
    path.parent.mkdir(exist_ok=True)
    path.write_text("raise RuntimeError('never imported')")
    done = typed("-m", "depthtok", "doctor", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"error: another package `{name}`, in {tmp_path}, hides the one of depthtok, in {ROOT}",
        "  fix: run `depthtok` from another directory (not `python -m depthtok`), and leave "
        f"{tmp_path} out of PYTHONPATH",
    ]
    assert typed("-m", "depthtok", "--version", folder=tmp_path).returncode == 0


def test_a_folder_of_that_name_hides_nothing(tmp_path):
    (tmp_path / "vla").mkdir()
    assert typed("-m", "depthtok", "doctor", folder=tmp_path).returncode == 0


def test_what_is_not_there_is_removed_without_a_word(tmp_path):
    """As `train-vla --no-resume` does in a folder that is new."""
    files.remove(tmp_path / "new" / "checkpoints")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("address", "warned"),
    [
        ("127.0.0.1", False),
        ("127.3.2.1", False),
        ("::1", False),
        ("0.0.0.0", True),
        ("::", True),
        ("192.168.1.5", True),
        ("fe80::1%eth0", True),
    ],
)
def test_a_server_that_others_reach_is_warned_of(address, warned, capsys):
    warn_if_public(address, "somewhere:8000")
    assert ("DEPTHTOK_API_KEY" in capsys.readouterr().err) == warned


def test_what_comes_next_works_on_what_was_made(tmp_path):
    path = make_rlds(tmp_path / "rlds")
    stage = ConvertStage(RldsDirectory.open(path), tmp_path / "e", ConvertConfig())
    run(stage, RunOptions())
    then = f"depthtok annotate {tmp_path}/e --estimator dataset --out {tmp_path}/depth"
    assert after_convert(stage.out) == then
    assert after_codes(tmp_path / "e", tmp_path / "c").startswith("depthtok train-vla")
    assert after_codes(tmp_path / "moved", tmp_path / "c").startswith("depthtok train-vla")
    pictures(tmp_path / "films" / "a")
    run(VideoStage(tmp_path / "films", tmp_path / "v"), RunOptions())
    then = f"depthtok decode {tmp_path}/c --out {tmp_path}/decoded"
    assert after_codes(tmp_path / "v", tmp_path / "c") == then


def test_a_report_of_an_rlds_data_set_says_what_to_type(tmp_path):
    path = make_rlds(tmp_path / "some data" / "1.0.0")
    with pytest.raises(SourceError, match="is an RLDS data set") as caught:
        maker(path)
    assert f"`depthtok inspect '{path}'`" in caught.value.remedy
    assert f"`depthtok convert '{path}' --out EPISODES`" in caught.value.remedy
    assert "depthtok report EPISODES" in caught.value.remedy


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("x_demo.hdf5", "depthtok collect --suite SUITE --demos"),
        ("x.h5", "depthtok collect"),
        ("x.webm", "depthtok annotate"),
        ("x.PNG", "depthtok annotate"),
        ("x.csv", "dataset_info"),
    ],
)
def test_folders_that_are_no_rlds_are_told_what_takes_them(tmp_path, name, remedy):
    (tmp_path / name).write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(SourceError, match="is not an RLDS data set") as caught:
        RldsDirectory.open(tmp_path)
    assert remedy in caught.value.remedy
    if name.endswith("5"):
        with pytest.raises(SourceError, match="is an HDF5 file") as caught:
            RldsDirectory.open(tmp_path / name)
        assert f"--demos {tmp_path / name} --out DIR" in caught.value.remedy


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotAFile, match="pipe is a named pipe"):
        RldsDirectory.open(tmp_path / "pipe")


def pictures(folder, count=3):
    folder.mkdir(parents=True)
    for number in range(count):
        Image.fromarray(np.zeros((6, 9, 3), np.uint8)).save(folder / f"{number}.png")


def test_pictures_are_inspected(tmp_path):
    pictures(tmp_path / "films" / "a")
    pictures(tmp_path / "films" / "\x1b[2Jb", 2)
    inspected = inspect(tmp_path / "films")
    assert inspected.tables["Films"][1] == [
        ("\x1b[2Jb", "2", "9 x 6 px", "?"),
        ("a", "3", "9 x 6 px", "?"),
    ]
    printed = CliRunner().invoke(app, ["inspect", str(tmp_path / "films")]).stdout
    assert "\\u001b[2Jb" in printed
    assert "\x1b" not in printed
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="is not a store"):
        inspect(tmp_path / "empty")
    (tmp_path / "checkpoints" / "step-000001").mkdir(parents=True)
    (tmp_path / "config.json").touch()
    with pytest.raises(SourceError, match="is a part of a run") as caught:
        inspect(tmp_path / "checkpoints" / "step-000001")
    assert caught.value.remedy == f"name the run: {tmp_path}"


def test_videos_are_inspected_damaged_ones_too(tmp_path):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "one.mp4"), "w") as video:
        stream = video.add_stream("mpeg4", rate=5)
        stream.width, stream.height = 64, 48
        for _ in range(4):
            picture = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "rgb24")
            video.mux(stream.encode(picture))
        video.mux(stream.encode())
    (tmp_path / "two.mp4").write_bytes(b"no video")
    assert inspect(tmp_path).tables["Films"][1] == [
        ("one.mp4", "4", "64 x 48 px", "5"),
        ("two.mp4", "?", "?", "?"),
    ]
    assert inspect(tmp_path / "one.mp4").facts["videos"] == 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\tb\nc", "a\tb\nc"),
        ("\x1b]0;x\x07", "\\u001b]0;x\\u0007"),
        ("\x9b1m", "\\u009b1m"),
        ("a\rb", "a\\u000db"),
        ("\udc80", "\\udc80"),
        ("\u202e", "\\u202e"),
        ("Größe 深さ 👩‍👩‍👧 \xa0", "Größe 深さ 👩‍👩‍👧 \xa0"),
    ],
)
def test_what_is_printed_steers_no_terminal(text, shown, capsys, monkeypatch):
    assert plain(text) == shown
    say(text)
    warn(text)

    def refuse():
        raise ConfigError(text, remedy=text)

    monkeypatch.setattr(application, "app_for", lambda _: refuse)
    monkeypatch.setattr(sys, "argv", ["depthtok", "x"])
    with pytest.raises(SystemExit):
        cli.main()
    printed = capsys.readouterr()
    assert printed.out == f"{shown}\n"
    assert printed.err == f"warning: {shown}\nerror: {shown}\n  fix: {shown}\n"


def require_simulator():
    """Skips without the extra `sim`. MuJoCo is not imported: it takes its renderer as it is."""
    if any(find_spec(package) is None for package in ("mujoco", "robosuite", "libero", "h5py")):
        pytest.skip("needs the extra `sim`")


@pytest.mark.parametrize("name", ["osmesa", "egl"])
def test_a_renderer_without_its_library_is_named(name, monkeypatch):
    require_simulator()
    from pipelines.sim.setup import graphics

    monkeypatch.setattr(ctypes.util, "find_library", lambda library: None)
    monkeypatch.setenv("MUJOCO_GL", name)
    with pytest.raises(MissingPackage, match=f"MUJOCO_GL={name}, but its library") as caught:
        graphics()
    assert caught.value.remedy.startswith("apt-get install")


SOFTWARE = "from pipelines.sim.setup import software; software()"  # as `eval` does first of all
COLLECT = (
    "import sys; sys.argv = ['', 'collect', '--out', 'o']\n"
    "from depthtok.cli.main import main; main()"
)


@pytest.mark.parametrize("script", [SOFTWARE, COLLECT], ids=["eval", "collect"])
def test_a_renderer_without_its_driver_is_named(script, tmp_path):
    require_simulator()
    if ctypes.util.find_library("EGL") is None:
        pytest.skip("EGL is not installed")
    done = typed(
        "-c",
        script,
        folder=tmp_path,
        MUJOCO_GL="egl",
        PYOPENGL_PLATFORM="egl",
        __EGL_VENDOR_LIBRARY_DIRS="/nonexistent",
    )
    assert "MuJoCo cannot render with MUJOCO_GL=egl here" in done.stderr
    assert "AttributeError" not in done.stderr
    assert "or set MUJOCO_GL=osmesa" in done.stderr
    assert not (tmp_path / "o").exists()


def test_of_ranks_that_find_the_same_the_first_one_warns(monkeypatch, capsys):
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        warn(f"seen by {rank}")
    assert capsys.readouterr().err == "warning: seen by 0\n"


def test_a_page_that_stands_alone_is_inspected(tmp_path):
    """As of an audit or an ablation, which leave nothing else."""
    page = Report("Estimated against true depth")
    page.numbers({"AbsRel, image": 0.10713, "clips": 1200}).write(tmp_path / "audit")
    shown = inspect(tmp_path / "audit").lines()
    assert shown[0] == f"Estimated against true depth in {tmp_path / 'audit'}"
    assert [line.split() for line in shown[1:3]] == [
        ["AbsRel,", "image", "0.1071"],
        ["clips", "1,200"],
    ]
    (tmp_path / "audit" / "report.json").write_text('{"title": "x", "numbers": 3}')
    with pytest.raises(SourceError, match=r"report\.json is no report of depthtok"):
        inspect(tmp_path / "audit")
