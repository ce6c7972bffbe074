"""What raises says so: the docstrings of public functions and methods name their errors."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("depthtok", "pipelines", "vqvae", "vla")
MADE = ("__init__", "__post_init__")  # what they raise may stand in the docstring of the class
TREES = {
    path.relative_to(ROOT).as_posix(): ast.parse(path.read_text())
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}


def error_classes() -> set[str]:
    """Names of `DepthtokError` and of all classes that come from it."""
    bases = {
        node.name: {base.id for base in node.bases if isinstance(base, ast.Name)}
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    errors = {"DepthtokError"}
    while grown := {name for name, parents in bases.items() if parents & errors} - errors:
        errors |= grown
    return errors


ERRORS = error_classes()


def public(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef, str]]:
    """Public functions and methods: name, definition, and the docstrings that may speak of it."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node.name, node, ast.get_docstring(node) or ""
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for method in node.body:
                if not isinstance(method, ast.FunctionDef):
                    continue
                text = ast.get_docstring(method) or ""
                if method.name in MADE:
                    text += ast.get_docstring(node) or ""
                if method.name.startswith("__") or not method.name.startswith("_"):
                    yield f"{node.name}.{method.name}", method, text


def raised(function: ast.FunctionDef) -> set[str]:
    """The errors of ours that the body raises itself, not in functions that it defines."""
    names, nodes = set(), list[ast.AST](function.body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            continue
        if isinstance(node, ast.Raise) and node.exc is not None:
            error = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            if isinstance(error, ast.Name):
                names.add(error.id)
        nodes += ast.iter_child_nodes(node)
    return names & ERRORS


def silent(tree: ast.Module) -> list[str]:
    """Those that raise an error of ours without a word of it in their docstring."""
    return [
        name
        for name, function, text in public(tree)
        if raised(function) and not any(word in text.lower() for word in ("raise", "refuse"))
    ]


def test_what_raises_says_so():
    names = {path: silent(tree) for path, tree in TREES.items()}
    assert {path: quiet for path, quiet in names.items() if quiet} == {}


def test_what_is_silent_is_seen():
    text = """
def quiet():
    "Reads."
    raise ConfigError("no")
def loud():
    "Reads. Raises `ConfigError`."
    raise ConfigError("no")
def _private():
    raise ConfigError("no")
def makes():
    def inner():
        raise ConfigError("no")
class Settings:
    "What is set."
    def __post_init__(self):
        raise SchemaError("no")
    def read(self):
        raise ValueError("a mistake of ours")
"""
    assert {"ConfigError", "CorruptRecord"} < ERRORS
    assert silent(ast.parse(text)) == ["quiet", "Settings.__post_init__"]
