"""The commands by the names of their functions, and the file of each, in the order of the help."""

_FILES = (
    *("convert", "annotate", "train_vqvae", "tokenize", "train_vla", "run", "demo", "inspect"),
    *("verify", "report", "doctor", "settings", "finetune_depth", "audit_depth", "eval_vqvae"),
    *("decode", "inspect_mask", "eval_depth", "ablate", "collect", "eval", "compare", "serve"),
    *("copy", "push", "view", "export"),
)
COMMANDS = {"evaluate" if file == "eval" else file: file for file in _FILES}
"""`eval` is a function of Python's own: ours is `evaluate`."""
