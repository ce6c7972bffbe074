"""Estimators that see one frame at a time: how clips go through them."""
