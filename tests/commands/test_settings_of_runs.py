"""Files that describe whole runs and studies: what is wrong in them is named, whatever it is."""

import copy
import math
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from depthtok.cli import app
from depthtok.commands.ablate import Study
from depthtok.commands.whole import Plan, prepared
from depthtok.config import load_toml
from depthtok.errors import ConfigError, DepthtokError, SchemaError
from depthtok.sources.schema import Schema

DOCS = Path(__file__).parents[2] / "docs"
WRONG = (
    None, True, -1, 10**400, 0.5, math.inf, math.nan, "", "x", "a=b=c", "\0", [], [1], ["x"],
    [[]], {},
    {"x": 1}, [{"x": 1}], {"": ""}, {"x": {"y": []}}, "train.lr=1e999", ["data.cameras=5"],
    ["train.lr=" + "[" * 5000], ["train.steps=" + "9" * 5000],
)  # fmt: skip


def places(tree, path=()):
    """The path to every value of a tree of tables."""
    for key, value in tree.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from places(value, (*path, key))


def with_value(tree, path, value):
    changed = copy.deepcopy(tree)
    table = changed
    for key in path[:-1]:
        table = table[key]
    table[path[-1]] = value
    return changed


def remedied(read, content):
    """Whether a refusal, if there is one, says what to do."""
    try:
        read(content)
    except DepthtokError as error:
        return bool(error.remedy)
    return True


def run_file():
    content = tomllib.loads((DOCS / "example.toml").read_text())
    content["train-vla"] |= {"set": ["train.steps=5"], "weights": "w", "skip": False, "steps": 3}
    content["tokenize"] |= {"codebook": "book", "skip": True}
    content["how"] |= {"device": "cpu"}
    content["convert"] = {"split": ["train"]}
    return content


@pytest.mark.parametrize("path", list(places(run_file())), ids=".".join)
def test_values_of_a_wrong_kind_are_named_in_a_run(path):
    for value in WRONG:
        content = with_value(run_file(), path, value)
        assert remedied(lambda content: prepared(Plan.read(content, "file.toml")), content)


def study():
    return tomllib.loads((DOCS / "ablation.toml").read_text())


@pytest.mark.parametrize("path", list(places(study())), ids=".".join)
def test_values_of_a_wrong_kind_are_named_in_a_study(path):
    for value in WRONG:
        content = with_value(study(), path, value)
        assert remedied(lambda content: Study.read(content, "file.toml"), content)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("out = 5", "`out` cannot be 5"),
        ("how = 3", r"\[how\] cannot be 3"),
        ("data = 'x'", r"\[data\] cannot be 'x'"),
        ("data = {x = 1}", r"\[data\].x cannot be 1"),
        ("data = {'../x' = 'y'}", "'../x' cannot be the name of a folder"),
        ("tokenize = {codebook = 1}", r"\[tokenize\] `codebook` cannot be 1"),
        ("train-vla = {skip = 'no'}", r"\[train-vla\] `skip` cannot be 'no'"),
        ("train-vla = {skip = true, preset = 1}", r"\[train-vla\] `preset` cannot be 1"),
    ],
)
def test_the_place_is_told(line, problem):
    content = {"out": "x", "data": {"a": "b"}} | tomllib.loads(line)
    with pytest.raises(ConfigError, match=problem):
        prepared(Plan.read(content, "file.toml"))


@pytest.mark.parametrize(
    "text", ["x = " + "[" * 5000, "x = " + "9" * 5000, "[" + ".".join("x" * 5000) + "]\n=", "x"]
)
def test_toml_that_is_too_deep_or_too_long_is_named(tmp_path, text):
    file = tmp_path / "file.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"file\.toml: "):
        load_toml(file)
    with pytest.raises(SchemaError, match="is not TOML"):
        Schema.load(str(file))
    assert CliRunner().invoke(app, ["run", str(file)]).exception.problem.startswith(str(file))


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 10**400, -(10**400)])
def test_numbers_without_bound_are_no_settings(value):
    content = {"out": "x", "data": {"a": "b"}, "how": {"cpus_per_worker": value}}
    with pytest.raises(ConfigError, match="`cpus_per_worker` cannot be"):
        prepared(Plan.read(content, "file.toml"))
