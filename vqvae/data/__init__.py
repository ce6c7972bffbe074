"""Frames to train on: clips of stores, crops, augmentation, held-out sides."""
