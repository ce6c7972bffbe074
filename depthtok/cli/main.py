"""The command line. Exit codes: 0 done, 1 done but some items failed, 2 refused with a remedy."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from depthtok.errors import ConfigError, DepthtokError
from depthtok.log import QUIET, RED, coloured, let_go_of_stdout, plain, say, silenced
from depthtok.signals import Stopped


def __getattr__(name: str) -> Any:
    """`app`, the application, which is only made where it is asked for."""
    if name == "app":
        from depthtok.cli.application import app

        return app
    raise AttributeError(name)


def require_own_packages() -> None:
    """Raises `ConfigError` where a package of the same name hides one of ours: one in the current
    directory with `python -m depthtok`, or one in PYTHONPATH."""
    root = Path(__file__).parents[2]
    for name in ("pipelines", "vla", "vqvae"):
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            problem = f"the package `{name}` of depthtok is not found as a package"
            folder = "the folder of that name"
        else:
            parent = Path(spec.origin).resolve().parents[bool(spec.submodule_search_locations)]
            if parent == root.resolve():
                continue
            folder = str(parent)
            problem = f"another package `{name}`, in {folder}, hides the one of depthtok, in {root}"
        raise ConfigError(
            problem,
            remedy=f"run `depthtok` from another directory (not `python -m depthtok`), and leave "
            f"{folder} out of PYTHONPATH",
        )


def main() -> None:
    """Runs a command. A `DepthtokError` is printed in two lines; a bug keeps its traceback."""
    try:
        if sys.argv[1:] == ["--version"]:  # an option of the application would cost --help 0.1 s
            from importlib import metadata

            say(metadata.version("depthtok"))
            return
        if "--quiet" in sys.argv:  # of all commands: it is none of the flags of one
            sys.argv[1:] = [word for word in sys.argv[1:] if word != "--quiet"]
            os.environ[QUIET] = "1"  # for the processes that it starts, too
        require_own_packages()  # before they are imported
        from depthtok.cli.application import app_for

        app_for(sys.argv[1:])()
    except DepthtokError as error:
        _refuse(error)
    except (OSError, MemoryError, RuntimeError) as error:
        from depthtok.disk.regular import of_the_system

        refusal = of_the_system(error)
        if refusal is None:
            raise
        _refuse(refusal)
    except Stopped as stop:
        print("stopped; the same command goes on where it was", file=sys.stderr)
        sys.exit(128 + stop.signum)


def _refuse(error: DepthtokError) -> NoReturn:
    """Prints problem and remedy on stderr, and exits with code 2 even where that fails."""
    with silenced():
        print(f"{coloured('error:', RED, sys.stderr)} {plain(error.problem)}", file=sys.stderr)
        if error.remedy:
            print(f"  fix: {plain(error.remedy)}", file=sys.stderr)
    let_go_of_stdout()
    sys.exit(2)


if __name__ == "__main__":
    main()
