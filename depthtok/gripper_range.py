"""Whether a gripper column lies where its convention says. Gripper columns are not normalised: a
gripper recorded as 0 to 100, or 0 and 1 under a convention of -1 and 1, would teach a wrong value
without a word.
"""

from __future__ import annotations

from dataclasses import dataclass

from depthtok.meaning import GRIPPERS, UNKNOWN

TOLERANCE = 0.1
"""How far outside its range a gripper may be read, as a share of the range: sensors overshoot."""
MIDDLE = 0.02
"""How near to the middle of the range an end counts as the middle, as a share of the range."""


@dataclass(frozen=True)
class Misfit:
    """What is wrong with a gripper column, and the schema's operations that would mend it."""

    problem: str
    remedy: str


def out_of_range(convention: str, low: float, high: float) -> Misfit | None:
    """What is wrong with a gripper column whose values go from `low` to `high`, or None.

    Values must lie in the range of the convention (-1 to 1 where it is unknown, which holds all
    conventions). Where they fill just one half of -1 to 1, they are of a convention of 0 and 1.
    """
    if convention != UNKNOWN and convention not in GRIPPERS:
        return None
    bottom, top = sorted(GRIPPERS.get(convention, (-1.0, 1.0)))
    slack = TOLERANCE * (top - bottom)
    seen = f"{low:g} to {high:g}" if low < high else f"always {low:g}"
    if not (low >= bottom - slack and high <= top + slack):
        where = "outside every convention, which lie in" if convention == UNKNOWN else "outside"
        span = f"{bottom:g} to {top:g}"
        named = "" if convention == UNKNOWN else f" of {convention}"
        return Misfit(
            f"its values are {seen}: {where} {span}{named}", _scaled(convention, low, high)
        )
    near = MIDDLE * (top - bottom)
    if convention != UNKNOWN and bottom < 0 and min(abs(low), abs(high)) <= near:
        return Misfit(
            f"its values are {seen}: half of the {bottom:g} to {top:g} of {convention}",
            "look at the images: if 1 is open, state gripper = 'open1_closed0' in the schema, if "
            f"1 is closed, 'open0_closed1'; or bring the column to {convention} by its ops, "
            f'"scale 2", "offset {-1 if high > near else 1}"',
        )
    return None


def _scaled(convention: str, low: float, high: float) -> str:
    """The operations that bring a column into the range of a convention."""
    opens, closes = GRIPPERS.get(convention, (1.0, 0.0))
    low, high = (low, high) if high > low else (min(low, 0.0), max(low, 0.0))
    ops = [f"unit_interval {low:g} {high:g}"]
    ops += ["scale 2", "offset -1"] if min(opens, closes) < 0 else []
    larger = "open" if opens > closes else "closed"
    stated = "open1_closed0" if convention == UNKNOWN else convention
    return (
        f"in the schema, add to the column's ops: {', '.join(repr(op) for op in ops)} (with the "
        f"numbers at which the gripper is quite closed and quite open), and state gripper = "
        f"{stated!r} if the larger number is {larger}; then convert again with --schema"
    )
