"""Depth Anything 3, one image at a time."""
