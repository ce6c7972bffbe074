"""Checks gripper columns against the range of their convention: they are not normalised, so a
percentage or a width would reach the model as it is."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from depthtok.errors import SchemaError
from depthtok.meaning import GRIPPERS

MARGIN = 0.1
"""How far values may lie outside of their range, as a share of it: sensors overshoot."""

FEW = 0.2
"""Share of an episode's steps outside above which it is not an error of the sensor."""

_SHOWN = 4  # the most distinct values that a message lists


def range_of(convention: str) -> tuple[float, float]:
    """Smallest and largest value of a convention; -1 to 1 where it is not known, since more than
    that is not fit for a column that is not normalised."""
    low, high = sorted(GRIPPERS.get(convention, (-1.0, 1.0)))
    return low, high


def outside(values: Float[np.ndarray, "*n"], convention: str) -> np.ndarray:
    """Which values are out of the convention's range, bool[*n]."""
    low, high = range_of(convention)
    margin = MARGIN * (high - low)
    return (values < low - margin) | (values > high + margin)


def misfit(values: Float[np.ndarray, "*n"], convention: str) -> SchemaError | None:
    """The error if values cannot all be of the convention; None if they can.

    They cannot if any is out of range, or if the convention is -1 and 1 and they are 0 and 1.
    """
    if not values.size or convention == "none":
        return None
    low, _ = range_of(convention)
    smallest, largest = float(values.min()), float(values.max())
    is_half = convention in GRIPPERS and low == -1 and -0.05 < smallest < 0.05 and largest <= 1.05
    if not outside(np.array([smallest, largest]), convention).any() and not is_half:
        return None
    return SchemaError(
        f"the gripper is {_values_in_words(values)}, {stated(convention)}",
        remedy=_remedy(smallest, largest, convention),
    )


def stated(convention: str) -> str:
    """The values of a convention, as the second half of a sentence."""
    meaning = (
        "open {:g}, closed {:g}".format(*GRIPPERS[convention])
        if convention in GRIPPERS
        else "-1 to 1 at most, since it is not normalised"
    )
    return f'but gripper = "{convention}" means {meaning}'


def narrow(least: float, most: float, convention: str) -> str | None:
    """A sentence where values use so little of their range that they may be of another unit."""
    low, high = range_of(convention)
    if convention not in GRIPPERS or not 0 < most - least < FEW * (high - low) or least > low + FEW:
        return None
    return (
        f'the gripper is only ever {least:g} to {most:g}, but gripper = "{convention}" means '
        f"{low:g} to {high:g}: if that is its whole way, add to its ops "
        f'"unit_interval {least:g} {most:g}"'
    )


def _values_in_words(values: Float[np.ndarray, "*n"]) -> str:
    distinct = np.unique(values)
    if len(distinct) <= _SHOWN:
        return " or ".join(f"{value:.4g}" for value in distinct)
    return f"{distinct[0]:.4g} to {distinct[-1]:.4g} ({len(distinct)} distinct values)"


def _remedy(smallest: float, largest: float, convention: str) -> str:
    """How a schema can bring `smallest`..`largest` to the range of a convention."""
    low, high = range_of(convention)
    is_width = 0 < largest - smallest < FEW and -MARGIN < smallest < MARGIN  # of fingers, in metres
    if low == -1 and smallest >= -MARGIN and largest <= 1 + MARGIN and not is_width:
        return (
            'say gripper = "open1_closed0" or "open0_closed1", or add "scale 2" and "offset -1" to '
            "its ops"
        )
    if low == 0 and smallest >= -1 - MARGIN and largest <= 1 + MARGIN:
        return (
            'say gripper = "open1_closed-1" or "open-1_closed1", or add "unit_interval -1 1" to '
            "its ops"
        )
    excess = max(low - smallest, largest - high)
    if excess < (high - low) / 2 and not is_width:
        return f'if these are slips of the sensor, add "clip {low:g} {high:g}" to its ops'
    bottom = 0.0 if smallest >= 0 else smallest
    top = next((full for full in (100.0, 255.0) if 0.9 * full < largest <= full), largest)
    operation = f'add "unit_interval {bottom:g} {top:g}" to its ops'
    if convention in GRIPPERS:
        is_open, is_closed = GRIPPERS[convention]
        remains = "open1_closed0" if is_open > is_closed else "open0_closed1"
        return f'{operation}, and say gripper = "{remains}": the larger number is ' + (
            "open, as stated" if is_open > is_closed else "closed, as stated"
        )
    return (
        f"{operation} (the numbers of closed and of open; then 0 is closed and 1 open), and say "
        'gripper = "open1_closed0"'
    )
