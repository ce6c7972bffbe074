"""Long clips by overlapping windows: plan, reading, alignment. Knows no network."""
