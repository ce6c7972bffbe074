"""Pretrained weights, from where they are published to this model."""
