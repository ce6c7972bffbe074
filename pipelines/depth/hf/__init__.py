"""Depth models of the transformers library; the only folder that imports it."""
