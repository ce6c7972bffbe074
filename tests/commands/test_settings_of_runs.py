"""Files that describe whole runs and studies: what is wrong in them is named, whatever it is."""

import copy
import math
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from depthtok.api.ablate import Study
from depthtok.api.run import Description, prepared
from depthtok.cli.main import app, main
from depthtok.config import from_mapping, load_toml, parse_settings, to_json
from depthtok.errors import ConfigError, DepthtokError, SchemaError
from depthtok.sources.schema import Schema
from depthtok.stores.part_writer import PartWriter
from pipelines.config import AnnotateConfig
from pipelines.depth.learning.finetune import FinetuneConfig
from pipelines.depth.vida.config import RunConfig
from pipelines.stage import recording_failures
from vla.config import Config
from vla.named_configs import load
from vqvae.config import TokeniserConfig

DOCS = Path(__file__).parents[2] / "docs"
WRONG = (
    None,
    True,
    -1,
    10**400,
    0.5,
    math.inf,
    math.nan,
    "",
    "x",
    "a=b=c",
    "\0",
    [],
    [1],
    ["x"],
    [[]],
    {},
    {"x": 1},
    [{"x": 1}],
    {"": ""},
    {"x": {"y": []}},
    "train.lr=1e999",
    ["data.cameras=5"],
    ["train.lr=" + "[" * 5000],
    ["train.steps=" + "9" * 5000],
)


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
        assert remedied(lambda content: prepared(Description.read(content, "file.toml")), content)


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
        ("data = {'..' = 'y'}", r"'\.\.' cannot be the name of a folder"),
        ("tokenize = {codebook = 1}", r"\[tokenize\] `codebook` cannot be 1"),
        ("train-vla = {skip = 'no'}", r"\[train-vla\] `skip` cannot be 'no'"),
        ("train-vla = {skip = true, preset = 1}", r"\[train-vla\] `preset` cannot be 1"),
    ],
)
def test_the_place_is_told(line, problem):
    content = {"out": "x", "data": {"a": "b"}} | tomllib.loads(line)
    with pytest.raises(ConfigError, match=problem):
        prepared(Description.read(content, "file.toml"))


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
        prepared(Description.read(content, "file.toml"))


NONSENSE = (0, -1, 1, 3, 10**9, 10**30, 0.5, -0.5, 1e300, math.nan, "", "x", None, True, [], {})


@pytest.mark.parametrize("kind", [Config, TokeniserConfig, FinetuneConfig, AnnotateConfig])
def test_no_setting_of_a_training_is_a_traceback(kind):
    usual = to_json(kind())
    for path in places(usual):
        for value in NONSENSE:
            try:
                settings = from_mapping(kind, with_value(usual, path, value), "settings")
            except ConfigError:
                continue
            assert from_mapping(kind, to_json(settings), "settings") == settings


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("train.lr=1", "train.lr.x=2"), r"train\.lr\.x: lr is no table"),
        (("model.vision.patch=0",), r"vision\.patch = 0"),
        (("model.vlm.kv_heads=0",), "kv_heads = 0"),
        (("train.seed=-1",), r"train\.seed = -1"),
        ((f"train.seed={2**63}",), f"`seed` cannot be {2**63}"),
    ],
)
def test_settings_that_cannot_be_are_named(words, problem):
    with pytest.raises(ConfigError, match=problem):
        load("tiny", parse_settings(words))


def test_a_picture_too_large_for_a_network_is_no_setting():
    for make in (AnnotateConfig, FinetuneConfig, RunConfig):
        make(input_size=1036)
        with pytest.raises(ConfigError, match="`input_size` cannot be 6000"):
            make(input_size=6000)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryError("Unable to allocate 7 GiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate "
            "memory: you tried to allocate 448000000000 bytes."
        ),
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
    ],
    ids=lambda error: str(error)[:12],
)
def test_a_lack_of_memory_is_two_lines_and_no_episodes_failure(monkeypatch, capsys, error):
    def fails():
        raise error

    monkeypatch.setattr("depthtok.cli.application.app_for", lambda _: fails)
    monkeypatch.setattr(sys, "argv", ["depthtok", "inspect", "x"])
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr().err.splitlines()
    assert (end.value.code, len(said)) == (2, 2)
    assert said[0].startswith("error: there is not enough memory")
    writer, failed = object.__new__(PartWriter), []
    writer.fail = failed.append
    with pytest.raises(type(error)), recording_failures(writer, 0):
        fails()
    assert failed == []


def test_other_errors_of_that_kind_keep_their_traceback(monkeypatch):
    def fails():
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr("depthtok.cli.application.app_for", lambda _: fails)
    monkeypatch.setattr(sys, "argv", ["depthtok", "inspect", "x"])
    with pytest.raises(RuntimeError, match="a mistake"):
        main()
