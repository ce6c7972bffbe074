"""A small real data set, and the settings of the demo that uses it."""
