"""The command line. Exit codes: 0 done, 1 done but some items failed, 2 refused with a remedy."""

from __future__ import annotations

import sys

from depthtok.commands import (
    ablate,
    codes,
    compare,
    depth,
    judge,
    look,
    mask,
    policy,
    serve,
    show,
    sim,
    stages,
    train,
    whole,
)
from depthtok.errors import DepthtokError
from depthtok.options import new_app
from depthtok.signals import Stopped

app = new_app(
    """Depth tokens for any robot data set, and the QDepth-VLA that trains on them.

    From a data set to a policy: convert, annotate, train-vqvae, tokenize, train-vla. `run` does all
    of it, and `demo` shows all of it on data that ships with the package. `depthtok --version` says
    which version this is."""
)
TOPICS = (
    stages, train, policy, whole, look, show, depth, codes, mask, judge, ablate, sim, compare,
    serve,
)  # fmt: skip
for topic in TOPICS:
    topic.register(app)


def main() -> None:
    """Runs a command. What the user can mend is said in two lines; a bug keeps its traceback."""
    if sys.argv[1:] == ["--version"]:  # an option of the application would cost --help 0.1 s
        from importlib import metadata

        print(metadata.version("depthtok"))
        return
    try:
        app()
    except DepthtokError as error:
        print(f"error: {error.problem}", file=sys.stderr)
        if error.remedy:
            print(f"  fix: {error.remedy}", file=sys.stderr)
        sys.exit(2)
    except Stopped as stop:
        print("stopped; the same command goes on where it was", file=sys.stderr)
        sys.exit(128 + stop.signum)


if __name__ == "__main__":
    main()
