"""`import depthtok`: quick, and every command is a function with the command's arguments."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import depthtok
from depthtok.api.names import COMMANDS
from depthtok.cli.application import app, commands
from depthtok.errors import ConfigError
from tests.checked.checked_calls import unchecked

HEAVY = ("numpy", "torch", "ray", "zarr", "typer", "PIL", "matplotlib", "jinja2")


def process(program: str) -> str:
    """What a fresh Python prints."""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=unchecked())
    return done.stdout


def test_the_package_loads_at_once():
    bare = min(float(process("import time; print(time.process_time())")) for _ in range(5))
    program = "import depthtok, time; dir(depthtok); print(time.process_time())"
    assert min(float(process(program)) for _ in range(5)) - bare < 0.1


@pytest.mark.parametrize("name", COMMANDS)
def test_a_function_loads_nothing_heavy(name):
    program = (
        f"import sys, depthtok; depthtok.{name}; print([m for m in {HEAVY} if m in sys.modules])"
    )
    assert process(program) == "[]\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_flag_is_an_argument(name):
    by_function = {command.function.__name__: key for key, command in commands().items()}
    command = typer.main.get_command(app).commands[by_function[name]]
    flags = {param.name for param in command.params} - {"json"}
    assert set(inspect.signature(getattr(depthtok, name)).parameters) == flags
    assert getattr(depthtok, name).__doc__


def test_the_signature_tells_types_and_defaults():
    parameters = inspect.signature(depthtok.annotate).parameters
    assert parameters["workers"].annotation is int
    assert (parameters["estimator"].default, parameters["size"].default) == ("vits", 256)
    assert parameters["source"].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert parameters["precision"].kind is inspect.Parameter.KEYWORD_ONLY
    assert parameters["out"].default is inspect.Parameter.empty


def test_what_is_not_known_is_an_error(tmp_path):
    with pytest.raises(TypeError, match="estimater"):
        depthtok.annotate("x", out=tmp_path, estimater="vits")
    with pytest.raises(TypeError, match="out"):
        depthtok.annotate("x")
    with pytest.raises(ConfigError, match=r"annotate\(\): `size` cannot be '256'"):
        depthtok.annotate("x", out=tmp_path, size="256")
    with pytest.raises(ConfigError, match="--set: there is no setting 'sizes'"):
        depthtok.annotate("x", out=tmp_path, set={"sizes": 3})
    with pytest.raises(AttributeError, match="anotate"):
        _ = depthtok.anotate


def test_the_version_and_the_types_are_told():
    assert depthtok.__version__[0].isdigit()
    assert (Path(depthtok.__file__).parent / "py.typed").is_file()
    assert {"annotate", "open_store", "load_policy", "evaluate"} <= {*dir(depthtok)}
