"""`import depthtok`: quick, and every command is a function with the command's arguments."""

import inspect
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer

import depthtok
from depthtok.api.interface import read
from depthtok.api.names import COMMANDS
from depthtok.api.parameters import MISSING
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


def test_converting_needs_no_torch(tmp_path):
    program = (
        "import sys, depthtok; "
        "rlds = depthtok.__path__[0] + '/sample/libero_sample/1.0.0'; "
        f"depthtok.convert(rlds, out={str(tmp_path / 'episodes')!r}); "
        "print([m for m in ('torch', 'ray') if m in sys.modules])"
    )
    assert process(program).splitlines()[-1] == "[]"


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


@pytest.mark.parametrize("name", COMMANDS)
def test_the_defaults_that_are_listed_can_be_typed(name):
    """`depthtok settings` shows what `--set NAME=` takes."""
    function = getattr(import_module(f"depthtok.api.{COMMANDS[name]}"), name)
    interface = read(function)
    needed = {p.name: "x" for p in interface.parameters if p.default is MISSING}
    rows = [row for row in depthtok.settings(name) if row.default and not row.flag]
    texts = [f"{row.name}={row.default}" for row in rows]
    assert bool(texts) <= interface.takes_set
    interface.bind({**needed, **({"set": texts} if texts else {})}, "typed")


def test_a_number_alone_is_a_list_of_one(tmp_path):
    interface = read(import_module("depthtok.api.train_vla").train_vla)
    arguments = interface.bind({"episodes": "x", "out": tmp_path, "sampling_weight": 2}, "typed")
    assert arguments["stores"].sampling_weight == (2.0,)


def test_the_guide_works_as_it_is_written():
    """Of docs/python.md: what is imported, and what is said of the package, is there."""
    guide = (Path(depthtok.__file__).parents[1] / "docs/python.md").read_text()
    block = guide.split("```python")[1].split("```")[0]
    imports = [line for line in block.splitlines() if line.startswith(("import ", "from "))]
    names = sorted({*re.findall(r"\bdepthtok\.(\w+)\b(?!\.)", guide)})
    assert {"annotate", "load_policy"} <= {*names}
    process("\n".join([*imports, *(f"depthtok.{name}" for name in names)]))


def test_the_version_and_the_types_are_told():
    assert depthtok.__version__[0].isdigit()
    assert (Path(depthtok.__file__).parent / "py.typed").is_file()
    assert {"annotate", "open_store", "load_policy", "evaluate"} <= {*dir(depthtok)}
