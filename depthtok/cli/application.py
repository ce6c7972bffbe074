"""The application: all commands."""

from __future__ import annotations

from depthtok.cli import (
    ablate,
    codes,
    compare,
    depth,
    look,
    serve,
    sim,
    stages,
    whole,
)
from depthtok.cli import (
    eval_depth as judge,
)
from depthtok.cli import (
    inspect_mask as mask,
)
from depthtok.cli import (
    report as show,
)
from depthtok.cli import (
    train_vla as policy,
)
from depthtok.cli import (
    train_vqvae as train,
)
from depthtok.cli.options import new_app

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
