"""Functions with typed parameters as commands."""

import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from typer.testing import CliRunner

from depthtok.api.interface import face, read
from depthtok.api.parameters import BySet, Flag, Only, Positional, Prefix, Preset
from depthtok.cli.options import Command, new_app
from depthtok.config import RunOptions
from depthtok.errors import ConfigError
from depthtok.log import announce
from depthtok.signals import Stopped
from tests.checked.checked_calls import unchecked


class Rule(StrEnum):
    NEAREST = "nearest"
    LINEAR = "linear"


@dataclass(frozen=True)
class Table:
    width: int = 1


@dataclass(frozen=True)
class Settings:
    batch_size: Annotated[int, "clips at a time [not rich]"] = 8
    cameras: Annotated[tuple[str, ...], "cameras"] = ()
    size: Annotated[tuple[int, int], "height and width, px"] = (256, 256)
    rule: Annotated[Rule, "resize rule"] = Rule.LINEAR
    mode: Annotated[Literal["a", "b"], "mode"] = "a"
    align: Annotated[bool, "align windows"] = True
    weights: Annotated[Path | None, "weights file"] = None
    model: Annotated[Table, "never a flag"] = Table()


def invoking(*functions, tell=None, hear=None):
    """Runs command lines; returns what the function returned, or the output of a refusal."""
    app, calls = new_app("test"), []

    def note(done):
        calls.append(done)

    for function in functions:
        Command(function, tell or note, hear=hear).register(app)

    @app.command()
    def other() -> None: ...

    def run(*words: str):
        result = CliRunner().invoke(app, list(words))
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return calls.pop() if result.exit_code == 0 and calls else result

    return run


def tokenize(
    depth: Annotated[Path, Positional("DEPTH", "a store")],
    settings: Settings,
    options: RunOptions,
    out: Annotated[Path, "where to"] = Path("codes"),
) -> object:
    """Turn depth into codes."""
    return depth, settings, options, out


@pytest.fixture
def invoke():
    run = invoking(tokenize)
    return lambda *words: run("tokenize", *words)


def test_no_flags_give_the_defaults(invoke):
    assert invoke("d") == (Path("d"), Settings(), RunOptions(), Path("codes"))


def test_every_kind_of_flag(invoke):
    line = (
        "d --batch-size 3 --cameras a --cameras b --size 64 32 --rule nearest --mode b --no-align "
        "--weights w.pt --workers 4 --shard 2/3 --no-resume --gpus-per-worker 0.5 --out o"
    )
    depth, settings, options, out = invoke(*line.split())
    assert (depth, out) == (Path("d"), Path("o"))
    assert settings == Settings(
        3, ("a", "b"), (64, 32), Rule.NEAREST, "b", align=False, weights=Path("w.pt")
    )
    assert options == RunOptions(workers=4, shard="2/3", resume=False, gpus_per_worker=0.5)


def test_bad_values_are_refused(invoke):
    with pytest.raises(ConfigError, match="`mode` cannot be 'c'"):
        invoke("d", "--mode", "c")
    assert invoke("d", "--batch-size", "x").exit_code == 2
    assert invoke("d", "--model", "x").exit_code == 2
    assert invoke().exit_code == 2


def test_help_shows_texts_and_defaults(invoke):
    text = " ".join(invoke("--help").output.split())
    assert "Turn depth into codes." in text
    assert "clips at a time [not rich] [default: 8]" in text
    assert "height and width, px [default: 256 256]" in text
    assert "--align / --no-align" in text
    assert "[default: linear]" in text


def test_a_command_may_tell_a_flag_otherwise():
    def evaluate(options: Annotated[RunOptions, Only("limit", limit="so many trials")]):
        """Evaluate."""

    text = " ".join(invoking(evaluate)("evaluate", "--help").output.split())
    assert "so many trials" in text
    assert "--resume" not in text
    assert "--workers" not in text


def test_the_help_is_in_groups(invoke):
    text = invoke("--help").output
    assert text.index("Options:") < text.index("--batch-size") < text.index("Where it runs:")
    assert text.index("Where it runs:") < text.index("--ray-address")
    assert text.index("What it resumes:") < text.index("--retry-failed") < text.index("Output:")


def test_one_name_is_one_flag():
    @dataclass(frozen=True)
    class Clash:
        workers: Annotated[int, "again"] = 1

    def both(a: Clash, b: RunOptions) -> None: ...

    both.__annotations__ = {"a": Clash, "b": RunOptions}
    with pytest.raises(AssertionError, match="workers"):
        read(both)


def misspelt(options: Annotated[RunOptions, Only("devise")]) -> None: ...


def test_a_command_offers_no_flag_that_it_would_ignore():
    def show(options: Annotated[RunOptions, Only("device")]) -> object:
        return options

    run = invoking(show)
    assert run("show", "--device", "cpu") == RunOptions(device="cpu")
    assert run("show", "--workers", "2").exit_code == 2
    with pytest.raises(AssertionError, match="devise"):
        read(misspelt)


def draw(
    what: Annotated[str, Positional("WHAT", "a thing")],
    settings: Annotated[Settings, Only("batch_size", "align"), BySet("align")],
    options: Annotated[
        RunOptions,
        Only("cpus_per_worker", "limit"),
        Prefix("run", most="limit"),
        BySet("cpus_per_worker"),
    ],
    count: Annotated[int, Flag("how many", least=1, most=4)] = 1,
    colour: Annotated[str, Flag("which", by_set=True)] = "red",
) -> object:
    """Draw."""
    return (
        what,
        settings.batch_size,
        settings.align,
        options.cpus_per_worker,
        options.limit,
        (count, colour),
    )


def test_settings_are_given_by_set():
    run = invoking(draw)
    words = "draw x --most 3 --set align=false --set run.cpus_per_worker=2 --set colour=blue"
    assert run(*words.split()) == ("x", 8, False, 2.0, 3, (1, "blue"))
    text = run("draw", "--help").output
    assert "--set NAME=VALUE" in text
    assert "`depthtok settings draw`" in " ".join(text.split())
    assert not {"--align", "--cpus-per-worker", "--colour"} & {*text.split()}


def test_a_flag_that_became_a_setting_is_understood():
    app = new_app("x")
    Command(draw, lambda drawn: print(*drawn)).register(app)
    result = CliRunner().invoke(app, ["x", "--no-align", "--cpus-per-worker", "2"])
    assert result.stdout == "x 8 False 2.0 None (1, 'red')\n"
    assert "warning: --align is a setting now: --set align=false\n" in result.stderr
    assert "--cpus-per-worker is a setting now: --set run.cpus_per_worker=2.0" in result.stderr


@pytest.mark.parametrize(
    ("words", "problem", "remedy"),
    [
        (["--count", "5"], "command line: `count` cannot be 5", "give 1 to 4"),
        (["--count", "0"], "command line: `count` cannot be 0", "give 1 to 4"),
        (["--set", "algin=true"], "--set: there is no setting 'algin'", "align"),
        (["--set", "run.limit_=3"], "--set: there is no setting 'run.limit_'", "run.limit"),
        (["--set", "align"], "--set align has no value", "write --set"),
        (["--set", "align=3"], "--set: `align` cannot be 3", "give true or false"),
        (["--set", "run.limit=-3"], "`limit` cannot be -3", "give 1 or more"),
    ],
)
def test_wrong_settings_are_named(words, problem, remedy):
    with pytest.raises(ConfigError) as caught:
        invoking(draw)("draw", "x", *words)
    assert caught.value.problem == problem
    assert remedy in caught.value.remedy


@dataclass(frozen=True)
class Whole:
    table: Table = Table()
    speed: Annotated[float, "metres per second"] = 0.5
    cameras: Annotated[int, "how many"] = 1


def load(preset: str, changes: Mapping[str, Any]) -> Any:
    return Whole(Table(width={"wide": 9, "narrow": 1}[preset])), dict(changes)


def go(
    settings: Annotated[
        Whole,
        Preset(
            load,
            "narrow",
            {"width": "table.width"},
            formerly={"fast": "speed"},
            counts={"camera": "cameras"},
        ),
    ],
    camera: Annotated[list[str] | None, "cameras"] = None,
) -> object:
    """Go."""
    return settings


def test_a_preset_with_flags_and_settings():
    run = invoking(go)
    assert run("go") == (Whole(), {})
    words = "go --preset wide --width 4 --set speed=2 --set table.width=5"
    assert run(*words.split()) == (Whole(Table(9)), {"table.width": 5, "speed": 2})
    assert "--fast" not in run("go", "--help").output
    assert run("go", "--fast", "3")[1] == {"speed": 3.0}
    assert run(*["go", "--camera", "a", "--camera", "b"])[1] == {"cameras": 2}
    assert run(*["go", "--camera", "a", "--set", "cameras=4"])[1] == {"cameras": 4}


def paint(
    settings: Annotated[
        Whole,
        Preset(load, "narrow", counts={"colours": "table.width"}),
    ],
    colours: Annotated[list[str] | None, "to paint with"] = None,
) -> object:
    """Paint."""
    return settings


def test_an_argument_decides_a_setting_that_set_overrules():
    run = invoking(paint)
    assert run("paint")[1] == {}
    assert run("paint", "--colours", "red", "--colours", "blue")[1] == {"table.width": 2}
    assert run("paint", "--colours", "red", "--set", "table.width=5")[1] == {"table.width": 5}


def test_a_former_name_of_a_command_is_understood():
    app = new_app("Test.")
    Command(work_of, lambda done: None, formerly="toil-of").register(app)
    app.command("other")(lambda: None)
    runner = CliRunner()
    assert runner.invoke(app, ["toil-of", "--number", "3"]).exit_code == 0
    assert DONE == [3]
    assert "toil-of" not in runner.invoke(app, ["--help"]).output
    assert "--number" in runner.invoke(app, ["toil-of", "--help"]).output
    assert "toil-of is called work-of now" in runner.invoke(app, ["toil-of"]).stderr


DONE = []


def work_of(number: Annotated[int, "how much"] = 1) -> None:
    """Work."""
    DONE.append(number)


def test_a_former_flag_is_told_in_words_that_can_be_pasted():
    names = ("cameras", "weights", "size")

    def play(settings: Annotated[Settings, Only(*names), BySet(*names)]) -> object:
        return settings

    app, played = new_app("x"), []
    Command(play, played.append).register(app)
    app.command("other")(lambda: None)
    flags = "--cameras left --cameras right --weights 2024 --size 3 4"
    warned = CliRunner().invoke(app, ["play", *flags.split()]).stderr.splitlines()
    pasted = [word for line in warned for word in shlex.split(line.partition("now: ")[2])]
    assert len(pasted) == 6
    again = CliRunner().invoke(app, ["play", *pasted])
    assert (again.exit_code, again.stderr) == (0, "")
    assert played == [Settings(cameras=("left", "right"), weights=Path("2024"), size=(3, 4))] * 2


def test_a_table_of_settings_keeps_the_flags_beside_it():
    settings = {"table": {"width": 3}, "speed": 2}
    assert face(go)(camera="a", set=settings)[1] == {"cameras": 1, "table.width": 3, "speed": 2}
    words = ["go", "--width", "4", "--set", "speed=1", "--set", "table={}"]
    assert invoking(go)(*words)[1] == {"table.width": 4, "speed": 1}


def test_a_misspelt_setting_is_named_among_all():
    with pytest.raises(ConfigError, match=r"there is no setting 'tabel\.width'") as caught:
        invoking(go)("go", "--set", "tabel.width=3")
    assert caught.value.remedy == "Did you mean 'table.width'?"
    with pytest.raises(ConfigError) as caught:
        invoking(go)("go", "--set", "width=3")
    assert caught.value.remedy == "Did you mean 'table.width'?"
    with pytest.raises(ConfigError, match="--set: there is no setting 'xyz'") as caught:
        invoking(go)("go", "--set", "xyz=3")
    assert caught.value.remedy == "see `depthtok settings go`"


def test_the_python_face_takes_what_people_write():
    call = face(draw)
    drawn = call(Path("y"), batch_size=2, align=False, set={"run.limit": 7}, cpus_per_worker=None)
    assert drawn == ("y", 2, False, 1.0, 7, (1, "red"))
    assert face(go)(preset="wide", width=2) == (Whole(Table(9)), {"table.width": 2})
    many = face(tokenize)("d", cameras="left", weights="w.pt", size=[3, 4], out="o")
    assert many[1] == Settings(cameras=("left",), weights=Path("w.pt"), size=(3, 4))
    assert many[3] == Path("o")
    with pytest.raises(ConfigError, match="`size` has 1 entries"):
        face(tokenize)("d", size=3)
    with pytest.raises(TypeError, match="what"):
        call()


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Stopped)]
)
def test_ctrl_c_is_what_python_calls_it(number, error):
    def work() -> None:
        raise Stopped(number)

    with pytest.raises(error):
        face(work)()


def test_results_and_announcements_are_told():
    """The exit code is the largest of all."""

    def work(out: Annotated[Path, "where to"]) -> int:
        announce(3)
        return 2

    heard = []

    def hear(event, out):
        heard.append((event, out))
        return event

    def tell(done, *, out, json):
        heard.append((done, out, json))
        return 1

    result = invoking(work, tell=tell, hear=hear)("work", "--out", "o", "--json")
    assert heard == [(3, Path("o")), (2, Path("o"), True)]
    assert result.exit_code == 3
    announce("nobody hears this")


def test_nothing_heavy_is_imported():
    code = (
        "import sys, depthtok.api.interface, depthtok.config, depthtok.progress, depthtok.log\n"
        "heavy = {'numpy', 'torch', 'ray', 'zarr', 'rich', 'typer', 'tqdm', 'jaxtyping', 'PIL'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=unchecked())
    assert done.stdout.strip() == "[]"
