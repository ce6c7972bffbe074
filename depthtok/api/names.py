"""The commands by the names of their functions, and the file of each."""

COMMANDS = {
    name: name
    for name in (
        "convert", "annotate", "train_vqvae", "tokenize", "train_vla", "run", "demo", "inspect",
        "verify", "report", "doctor", "settings", "decode", "eval_vqvae", "eval_depth",
        "audit_depth", "finetune_depth", "inspect_mask", "compare", "ablate", "collect", "serve",
    )
} | {"evaluate": "eval"}  # fmt: skip
"""`eval` is a function of Python's own: ours is `evaluate`."""
