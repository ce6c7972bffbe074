"""inspect: what a directory is, and what it holds."""
