"""Dataclasses as flags."""

import subprocess
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import pytest
import typer
from typer.testing import CliRunner

from depthtok.cli.options import Only, command, new_app
from depthtok.config import RunOptions
from depthtok.errors import ConfigError
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


@pytest.fixture
def invoke():
    """Run a command line; returns the function's arguments, or the output of a refusal."""
    app, calls = new_app("test"), []

    @command(app)
    def tokenize(
        depth: Annotated[Path, typer.Argument(help="a store")],
        settings: Settings,
        options: RunOptions,
        out: Annotated[Path, typer.Option(help="where to")] = Path("codes"),
    ) -> None:
        """Turn depth into codes."""
        calls.append((depth, settings, options, out))

    @app.command()
    def other() -> None: ...

    def run(*words: str):
        result = CliRunner().invoke(app, ["tokenize", *words])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return calls[-1] if result.exit_code == 0 and calls else result

    run.function = tokenize
    return run


def test_no_flags_give_the_defaults(invoke):
    assert invoke("d") == (Path("d"), Settings(), RunOptions(), Path("codes"))


def test_every_kind_of_flag(invoke):
    line = (
        "d --batch-size 3 --cameras a --cameras b --size 64 32 --rule nearest --mode b --no-align "
        "--weights w.pt --workers 4 --shard 2/3 --no-resume --json --gpus-per-worker 0.5 --out o"
    )
    depth, settings, options, out = invoke(*line.split())
    assert (depth, out) == (Path("d"), Path("o"))
    assert settings == Settings(
        3, ("a", "b"), (64, 32), Rule.NEAREST, "b", align=False, weights=Path("w.pt")
    )
    assert options == RunOptions(
        workers=4, shard="2/3", resume=False, json=True, gpus_per_worker=0.5
    )


def test_bad_values_are_refused(invoke):
    with pytest.raises(ConfigError, match="`mode` cannot be 'c'"):
        invoke("d", "--mode", "c")
    assert invoke("d", "--batch-size", "x").exit_code == 2
    assert invoke("d", "--model", "x").exit_code == 2


def test_help_shows_texts_and_defaults(invoke):
    text = " ".join(invoke("--help").output.split())
    assert "Turn depth into codes." in text
    assert "clips at a time [not rich] [default: 8]" in text
    assert "height and width, px [default: 256 256]" in text
    assert "--align / --no-align" in text
    assert "[default: linear]" in text


def test_a_command_may_tell_a_flag_otherwise():
    app = new_app("test")

    @command(app)
    def judge(options: Annotated[RunOptions, Only("limit", "json", limit="so many trials")]):
        """Judge."""

    text = " ".join(CliRunner().invoke(app, ["--help"]).output.split())
    assert "so many trials" in text
    assert "machine-readable" in text
    assert "--workers" not in text


def test_the_function_stays_a_function(invoke):
    invoke.function(Path("x"), Settings(), RunOptions())


def test_one_name_is_one_flag():
    @dataclass(frozen=True)
    class Clash:
        workers: Annotated[int, "again"] = 1

    def both(a: Clash, b: RunOptions) -> None: ...

    with pytest.raises(AssertionError, match="workers"):
        command(new_app("x"))(both)


def test_a_command_offers_no_flag_that_it_would_ignore():
    app, calls = new_app("test"), []

    @command(app)
    def show(options: Annotated[RunOptions, Only("device", "json")]) -> None:
        calls.append(options)

    @app.command()
    def other() -> None: ...

    run = CliRunner().invoke
    assert run(app, ["show", "--device", "cpu"]).exit_code == 0
    assert calls == [RunOptions(device="cpu")]
    assert run(app, ["show", "--workers", "2"]).exit_code == 2
    with pytest.raises(AssertionError, match="devise"):
        _register_misspelt(app)


def _register_misspelt(app: typer.Typer) -> None:
    @command(app)
    def show(options: Annotated[RunOptions, Only("devise")]) -> None: ...


def test_nothing_heavy_is_imported():
    code = (
        "import sys, depthtok.cli.options, depthtok.config, depthtok.progress, depthtok.log\n"
        "heavy = {'numpy', 'torch', 'ray', 'zarr', 'rich', 'tqdm', 'jaxtyping', 'PIL'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=unchecked())
    assert done.stdout.strip() == "[]"
