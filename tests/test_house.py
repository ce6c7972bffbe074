"""The rules of the house: who may import whom, and what help may load."""

import ast
import re
import subprocess
import sys
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import typer

from depthtok.api.names import COMMANDS
from depthtok.cli.application import app, commands
from tests.checked.checked_calls import unchecked

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "depthtok": {"depthtok"},
    "pipelines": {"pipelines", "depthtok", "vqvae", "vla"},
    "vqvae": {"vqvae", "depthtok"},
    "vla": {"vla", "depthtok"},
}
ROOF = ("depthtok/cli/", "depthtok/api/", "depthtok/__main__.py", "depthtok/__init__.py")
ONE_PLACE = {
    "zarr": "depthtok/stores/arrays.py",
    "numcodecs": "depthtok/stores/arrays.py",
    "ray": "pipelines/ray/",
    "rerun": "pipelines/view/recording.py",
    "typer": "depthtok/cli/",
    "tensorflow": (),
    "tensorflow_datasets": (),
    "mujoco": "pipelines/sim/",
    "robosuite": "pipelines/sim/",
    "libero": "pipelines/sim/",
    "metaworld": "pipelines/sim/",
    "transformers": "pipelines/depth/hf/",
}
WITHOUT_TORCH = ("depthtok/",)
HANDED_TENSORS = "depthtok/disk/tensors.py"  # imports torch: who calls it has tensors
HEAVY = ("numpy", "torch", "ray", "zarr", "PIL", "matplotlib", "jinja2", "safetensors")
FILES = sorted(
    path.relative_to(ROOT).as_posix()
    for package in MAY_IMPORT
    for path in (ROOT / package).rglob("*.py")
)
CODE = FILES + sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("tests", "benchmarks", "tools")
    for path in (ROOT / folder).rglob("*.py")
)


def text(path: str) -> str:
    return (ROOT / path).read_text()


def imports(path: str) -> set[str]:
    """Full names of what a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(text(path))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def in_roof(path: str) -> bool:
    return path.startswith(ROOF)


def test_tests_lie_where_their_modules_do():
    folders = {Path(path).parent.relative_to("tests") for path in CODE if path.startswith("tests/")}
    assert [
        f for f in folders if f.parts[:1] and f.parts[0] in MAY_IMPORT and not (ROOT / f).is_dir()
    ] == []


@pytest.mark.parametrize("path", FILES)
def test_imports_go_downwards(path):
    package = path.split("/")[0]
    ours = {name.split(".")[0] for name in imports(path)} & set(MAY_IMPORT)
    if not in_roof(path):
        assert ours <= MAY_IMPORT[package]
        roof = [n for n in imports(path) if n.startswith(("depthtok.cli", "depthtok.api"))]
        assert not roof, "nobody imports the roof"


@pytest.mark.parametrize("path", FILES)
def test_heavy_packages_have_one_place(path):
    for name in {name.split(".")[0] for name in imports(path)}:
        if name in ONE_PLACE:
            assert path.startswith(ONE_PLACE[name] or ("never",)), f"{path} imports {name}"


def test_settings_check_themselves_in_one_way():
    """By the functions of depthtok/required.py, and by no `raise` of their own."""
    checks = [
        (path, node)
        for path in FILES
        for node in ast.walk(ast.parse(text(path)))
        if isinstance(node, ast.FunctionDef) and node.name == "__post_init__"
    ]
    assert len(checks) > 20
    raises = [
        path
        for path, check in checks
        for node in ast.walk(check)
        if isinstance(node, ast.Raise) and "ConfigError" in ast.dump(node)
    ]
    assert raises == []


def test_toml_is_read_in_one_way():
    """By depthtok/config.py; the text of a schema, which may be in no file, where it is parsed."""
    readers = [path for path in FILES if "tomllib" in imports(path)]
    assert readers == ["depthtok/config.py", "depthtok/sources/schema.py"]


def test_the_ground_floor_needs_no_torch():
    for path in FILES:
        if path.startswith(WITHOUT_TORCH) and not in_roof(path) and path != HANDED_TENSORS:
            assert "torch" not in {name.split(".")[0] for name in imports(path)}, path


def test_package_files_hold_a_docstring_only():
    for path in FILES:
        if path.endswith("__init__.py") and path != "depthtok/__init__.py":
            body = ast.parse(text(path)).body
            assert len(body) == 1, path
            assert isinstance(body[0], ast.Expr), path


def test_all_packages_are_listed():
    import tomllib

    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {Path(path).parent.as_posix().replace("/", ".") for path in FILES}
    assert folders == set(listed)


def test_every_command_has_its_files():
    """depthtok/cli/NAME.py prints what the function of depthtok/api/NAME.py returns."""
    for name, command in commands().items():
        file = name.replace("-", "_")
        assert command.function.__module__ == f"depthtok.api.{file}"
        assert (ROOT / f"depthtok/cli/{file}.py").is_file()
        assert COMMANDS[command.function.__name__] == file
    assert len(commands()) == len(COMMANDS)


FLAGS = {
    "convert": 14,
    "annotate": 20,
    "train-vqvae": 20,
    "tokenize": 17,
    "train-vla": 20,
    "run": 1,
    "demo": 1,
    "inspect": 2,
    "verify": 4,
    "report": 2,
    "doctor": 1,
    "settings": 1,
    "finetune-depth": 19,
    "audit-depth": 16,
    "eval-vqvae": 10,
    "decode": 13,
    "inspect-mask": 2,
    "eval-depth": 9,
    "ablate": 7,
    "collect": 20,
    "eval": 20,
    "compare": 2,
    "serve": 13,
    "view": 6,
    "copy": 3,
    "push": 7,
    "export": 10,
}
"""How many flags each command shows. What is rarely given is a setting, for --set."""


def test_commands_have_no_more_flags_than_are_known():
    shown = {
        name: [p for p in command.params if p.param_type_name == "option" and not p.hidden]
        for name, command in typer.main.get_command(app).commands.items()
        if not command.hidden
    }
    assert {name: len(flags) for name, flags in shown.items()} == FLAGS
    assert max(FLAGS.values()) <= 20


LOOSE = {"# type: ignore": 8, r"\bAny\b": 383, r"\bcast\(": 2}


def test_types_do_not_get_looser():
    """What the type checker is not asked is counted; a lower count is to be written down here."""
    texts = [text(path) for path in FILES]
    counts = {what: sum(len(re.findall(what, text)) for text in texts) for what in LOOSE}
    assert counts == LOOSE


def loaded_by(path: str) -> set[str]:
    """Those of our files that the import of a file imports in turn."""
    names = set()
    for node in ast.parse(text(path)).body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {f"{name.replace('.', '/')}.py" for name in names} & set(FILES)


def test_no_import_circle():
    TopologicalSorter({path: loaded_by(path) for path in FILES}).prepare()


def test_imports_are_real_below_the_roof():
    """What is imported for a checker alone cannot be checked when it is called."""
    assert [path for path in FILES if not in_roof(path) if "TYPE_CHECKING" in text(path)] == []


def all_loaded_by(path: str) -> set[str]:
    """Those of our files that the import of a file imports, directly or not."""
    loaded, paths = set(), {path}
    while paths:
        loaded |= paths
        paths = {other for path in paths for other in loaded_by(path)} - loaded
    return loaded


def test_tokenizing_loads_no_depth_network():
    for path in ("pipelines/tokenize.py", "pipelines/decode.py"):
        assert [other for other in all_loaded_by(path) if other.endswith("network.py")] == [
            "vqvae/model/network.py"
        ]
    assert "pipelines/depth/vida/network.py" in all_loaded_by("pipelines/annotate/stage.py")


def test_files_are_short():
    lengths = {path: len(text(path).splitlines()) for path in FILES}
    assert {path: length for path, length in lengths.items() if length > 320} == {}


VAGUE = {
    *("found", "each", "told", "made", "kept", "place", "own", "given", "more", "where", "left"),
    *("known", "taken", "seen", "begun", "ready", "whole"),
}
"""Names that do not say what they hold; some are words of the domain, as the left of an image."""


def test_local_names_say_what_they_hold():
    for files, limit in ((FILES, 0.0016), (CODE[len(FILES) :], 0.0065)):
        stored = [
            node.id
            for path in files
            for node in ast.walk(ast.parse(text(path)))
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        ]
        vague = Counter(name for name in stored if name in VAGUE)
        assert vague.total() <= limit * len(stored), vague


def test_a_class_name_stands_for_one_thing():
    names = Counter(
        node.name
        for path in FILES
        for node in ast.parse(text(path)).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_the_formatter_has_the_last_word():
    skipped = "# fmt" + ": "
    assert [path for path in CODE if skipped in text(path)] == []


# The smallest program with commands that typer can make: what no command line on it can beat.
BARE = """
import typer
app = typer.Typer(rich_markup_mode=None, add_completion=False)
app.command("annotate")(lambda: None)
app.command("train-vla")(lambda: None)
"""


# As `main` does: a command that is named is made alone, `--help` makes them all.
OURS = """
from depthtok.cli.application import app_for
app = lambda words: app_for(words)(words)
"""


def cpu_of_help(program: str, arguments: list[str]) -> float:
    """CPU seconds of a fresh process; asserts that it loaded none of the heavy packages."""
    program = (
        f"import sys, time\n{program}\n"
        "try: app(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        f"print('LOADED', [m for m in {HEAVY!r} if m in sys.modules])\n"
        "print('CPU', time.process_time())\n"
    )
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=unchecked())
    printed = done.stdout
    assert "LOADED []" in printed
    return float(printed.rsplit("CPU", 1)[1])


@pytest.mark.parametrize("arguments", [["--help"], ["annotate", "--help"], ["train-vla", "--help"]])
def test_help_is_instant(arguments):
    """Under 0.3 s of CPU time; on a machine that is slow just now, under twice a bare typer's."""
    pairs = [
        (
            cpu_of_help(OURS, arguments),
            cpu_of_help(BARE, ["train-vla", "--help"]),
        )
        for _ in range(5)
    ]
    ours, bare = map(min, zip(*pairs, strict=True))
    assert ours < max(0.3, 2 * bare)
