"""The application: all commands, each in a file of its name."""

from __future__ import annotations

from importlib import import_module

from depthtok.cli.options import Command, new_app

MODULES = (
    "convert", "annotate", "train_vqvae", "tokenize", "train_vla", "run", "demo", "inspect",
    "verify", "report", "doctor", "settings", "finetune_depth", "audit_depth", "eval_vqvae",
    "decode", "inspect_mask", "eval_depth", "ablate", "collect", "eval", "compare", "serve",
)  # fmt: skip


def commands() -> dict[str, Command]:
    """The commands by name, in the order of the help."""
    modules = [import_module(f"depthtok.cli.{name}") for name in MODULES]
    return {module.COMMAND.name: module.COMMAND for module in modules}


app = new_app(
    """Depth tokens for any robot data set, and the QDepth-VLA that trains on them.

    From a data set to a policy: convert, annotate, train-vqvae, tokenize, train-vla. `run` does all
    of it, and `demo` shows all of it on data that ships with the package. `depthtok --version` says
    which version this is."""
)
for command in commands().values():
    command.register(app)
