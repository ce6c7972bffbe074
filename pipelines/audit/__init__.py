"""audit-depth: estimated depth against the truth."""
