"""The application: all commands."""

from __future__ import annotations

from depthtok.cli import (
    ablate,
    annotate,
    audit_depth,
    collect,
    compare,
    decode,
    doctor,
    eval,
    eval_depth,
    eval_vqvae,
    finetune_depth,
    inspect,
    inspect_mask,
    report,
    serve,
    stages,
    train_vla,
    train_vqvae,
    verify,
    whole,
)
from depthtok.cli.options import new_app

app = new_app(
    """Depth tokens for any robot data set, and the QDepth-VLA that trains on them.

    From a data set to a policy: convert, annotate, train-vqvae, tokenize, train-vla. `run` does all
    of it, and `demo` shows all of it on data that ships with the package. `depthtok --version` says
    which version this is."""
)
stages.register(app)
for module in (annotate, train_vqvae, train_vla):
    module.COMMAND.register(app)
whole.register(app)
for module in (inspect, verify, doctor, report, finetune_depth, audit_depth, eval_vqvae):
    module.COMMAND.register(app)
decode.register(app)
for module in (inspect_mask, eval_depth, ablate, eval, compare, serve):
    module.COMMAND.register(app)
collect.register(app)
