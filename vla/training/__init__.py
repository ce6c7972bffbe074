"""Training: updates, ranks, checkpoints, logs, validation."""
