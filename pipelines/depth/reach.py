"""How far a robot's camera sees: depth beyond that is most likely read in a wrong unit."""

from __future__ import annotations

REACH_M = (0.05, 20.0)  # median depth of a robot's camera: a wrist above a table, a hall
OUT_OF_REACH = f"not within the {REACH_M[0]:g} to {REACH_M[1]:g} m of a robot's camera"


def within_reach(median_m: float) -> bool:
    """Whether a robot's camera may see depth of this median, m."""
    return REACH_M[0] <= median_m <= REACH_M[1]
