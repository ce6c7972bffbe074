"""Depth estimators: their registry, windows over clips, and networks."""
