"""The environments in which other tools run, and the Python that they are made with.

Each has the packages of one kind of user, at the versions below, and nothing of depthtok. A check
is a script of `checks/` that runs in one of them, reads what depthtok wrote, and fails by an
assertion.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(".interop")
VERSION = (3, 12)


@dataclass(frozen=True)
class Environment:
    """Packages that live together, and the checks that run in them. `beside` are installed without
    what they ask for. `named_by`: the variable that names a Python which has the packages already,
    where making one takes too much to be done unasked."""

    name: str
    packages: tuple[str, ...]
    checks: tuple[str, ...]
    beside: tuple[str, ...] = ()
    named_by: str = ""


ENVIRONMENTS = (
    Environment(
        "readers",
        ("xarray==2026.9.0", "zarr==3.4.2", "rerun-sdk==0.41.0"),
        ("zarr_reads", "xarray_reads", "rerun_reads"),
    ),
    Environment(
        "openpi",  # with the numpy<2 that it asks for, and a package that it does not ask for
        ("openpi-client==0.1.2", "websockets==17.4", "typing_extensions==4.16.0"),
        ("openpi_talks",),
    ),
    Environment(
        "vla-eval",
        ("vla-eval==0.8.0",),
        ("vla_eval_talks",),
        beside=("openpi-client==0.1.2",),  # it works with numpy 2 as well
    ),
    Environment(
        "lerobot",  # with torch<2.12: 6 GB from PyPI, CPU wheels have an index of theirs
        ("lerobot[dataset]==0.6.1",),
        ("lerobot_reads",),
        named_by="INTEROP_LEROBOT",
    ),
)


def find_python() -> Path | None:
    """A Python 3.12 that can make environments, by the names under which it is usually found."""
    for path in _candidates():
        program = "import sys, venv, ensurepip; print(*sys.version_info[:2])"
        try:
            done = subprocess.run([path, "-c", program], capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.stdout.split() == [str(number) for number in VERSION]:
            return Path(path)
    return None


def _candidates() -> Iterator[str]:
    """Paths that may be a Python 3.12: `INTEROP_PYTHON` alone where it is set; on the path, of uv,
    of pyenv, of conda, and in the usual places."""
    if chosen := os.environ.get("INTEROP_PYTHON"):
        yield chosen
        return
    if on_path := shutil.which("python3.12"):
        yield on_path
    if uv := shutil.which("uv"):
        lookup = subprocess.run([uv, "python", "find", "3.12"], capture_output=True, text=True)
        if path := lookup.stdout.strip():
            yield path
    home = Path.home()
    pyenv = Path(os.environ.get("PYENV_ROOT", home / ".pyenv"))
    patterns = (
        (pyenv, "versions/3.12*/bin/python"),
        (home, ".local/share/uv/python/cpython-3.12*/bin/python3.12"),
        (home, "*conda3/envs/*/bin/python3.12"),
        (Path("/opt"), "*/bin/python3.12"),
        (Path("/opt"), "python/cp312-cp312/bin/python"),
        (Path("/usr/local"), "bin/python3.12"),
    )
    for folder, pattern in patterns:
        yield from map(str, sorted(folder.glob(pattern), reverse=True))


def make(environment: Environment, python: Path) -> Path:
    """The Python of an environment: the one that is named, or one that is made, or made anew where
    its packages changed."""
    if named := os.environ.get(environment.named_by):
        return Path(named)
    folder = FOLDER / environment.name
    interpreter, marker = folder / "bin" / "python", folder / "packages.txt"
    wanted = "\n".join([*environment.packages, "", *environment.beside])
    if marker.is_file() and marker.read_text() == wanted:
        return interpreter
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([python, "-m", "venv", folder], check=True)
    pip = [interpreter, "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    subprocess.run([*pip, *environment.packages], check=True)
    if environment.beside:
        subprocess.run([*pip, "--no-deps", *environment.beside], check=True)
    marker.write_text(wanted)
    return interpreter
