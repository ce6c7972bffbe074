"""The application: all commands."""

from __future__ import annotations

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
from depthtok.options import new_app

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
