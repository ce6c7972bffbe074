"""Rotations in the forms that data sets use, converted via unit quaternions.

Forms, each a row of one array (angles in radians):

- `euler`: roll, pitch, yaw about the fixed axes x, y, z in this order, so R = Rz(yaw) Ry(pitch)
  Rx(roll). Roll and yaw are returned in (-pi, pi], pitch in [-pi/2, pi/2].
- `axis_angle`: the unit axis times the angle; the angle is returned in [0, pi].
- `quat_xyzw`, `quat_wxyz`: unit quaternions; returned with w >= 0.
- `matrix`: 3 x 3, row by row. It is assumed to be a rotation; small errors are averaged out.

Internally, a quaternion is w, x, y, z in float64.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

Rows = Float[np.ndarray, "T n"]
Quaternions = Float[np.ndarray, "T 4"]

SINGULAR = 1e-7
"""Below this length, half-angle sums at pitch +-90 degrees carry only rounding noise."""


def convert(values: Float[np.ndarray, "T n"], source: str, target: str) -> Float[np.ndarray, "T m"]:
    """Rows of form `source` converted to form `target`, in float64. A row with a number that is
    not finite becomes NaN."""
    values = np.asarray(values, np.float64)
    finite = np.isfinite(values).all(axis=1, keepdims=True)
    converted = _TO[target](_FROM[source](np.where(finite, values, 1.0)))
    return np.where(finite, converted, np.nan)


def width(form: str) -> int:
    """The number of values in a row of this form."""
    return {"euler": 3, "axis_angle": 3, "quat_xyzw": 4, "quat_wxyz": 4, "matrix": 9}[form]


def _unit(q: Quaternions) -> Quaternions:
    q = q / np.linalg.norm(q, axis=1, keepdims=True)
    return np.where(q[:, :1] < 0, -q, q)


def _from_euler(angles: Rows) -> Quaternions:
    (cr, cp, cy), (sr, sp, sy) = np.cos(angles / 2).T, np.sin(angles / 2).T
    return np.stack(
        [
            cr * cp * cy + sr * sp * sy,
            sr * cp * cy - cr * sp * sy,
            cr * sp * cy + sr * cp * sy,
            cr * cp * sy - sr * sp * cy,
        ],
        axis=1,
    )


def _to_euler(q: Quaternions) -> Rows:
    """Uses the half sum and half difference of roll and yaw, which stay accurate near pitch +-90
    degrees, where an arcsine would lose half of the digits. At +-90 degrees only one of the two is
    defined: yaw is set to 0."""
    w, x, y, z = _unit(q).T
    up, down = np.hypot(w + y, x - z), np.hypot(w - y, x + z)
    pitch = 2 * np.arctan2(up, down) - np.pi / 2
    difference, total = np.arctan2(x - z, w + y), np.arctan2(x + z, w - y)
    total = np.where(down < SINGULAR, difference, total)
    difference = np.where(up < SINGULAR, total, difference)
    return np.stack([wrap(total + difference), pitch, wrap(total - difference)], axis=1)


def _from_axis_angle(vectors: Rows) -> Quaternions:
    angle = np.linalg.norm(vectors, axis=1, keepdims=True)
    # sin(angle / 2) / angle, without dividing by zero: numpy's sinc is sin(pi t) / (pi t)
    return np.concatenate([np.cos(angle / 2), vectors * np.sinc(angle / (2 * np.pi)) / 2], axis=1)


def _to_axis_angle(q: Quaternions) -> Rows:
    q = _unit(q)
    sine = np.linalg.norm(q[:, 1:], axis=1, keepdims=True)
    angle = 2 * np.arctan2(sine, q[:, :1])
    scale = np.full_like(sine, 2.0)  # the limit for no rotation
    np.divide(angle, sine, out=scale, where=sine > 0)
    return q[:, 1:] * scale


def _from_matrix(rows: Rows) -> Quaternions:
    """The eigenvector of the largest eigenvalue of the 4 x 4 matrix that a rotation defines: no
    case distinction, exact at 180 degrees, and the nearest rotation for a matrix with errors."""
    (a, b, c), (d, e, f), (g, h, i) = rows.reshape(-1, 3, 3).transpose(1, 2, 0)
    table = [
        [a + e + i, h - f, c - g, d - b],
        [h - f, a - e - i, b + d, c + g],
        [c - g, b + d, e - a - i, f + h],
        [d - b, c + g, f + h, i - a - e],
    ]
    return np.linalg.eigh(np.asarray(table).transpose(2, 0, 1))[1][:, :, -1]


def _to_matrix(q: Quaternions) -> Rows:
    w, x, y, z = _unit(q).T
    entries = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    return np.stack(entries, axis=1)


def wrap(angle: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Angles in radians, wrapped to (-pi, pi]."""
    return np.pi - np.mod(np.pi - angle, 2 * np.pi)


_FROM: dict[str, Callable[[Rows], Quaternions]] = {
    "euler": _from_euler,
    "axis_angle": _from_axis_angle,
    "quat_xyzw": lambda rows: rows[:, [3, 0, 1, 2]],
    "quat_wxyz": lambda rows: rows,
    "matrix": _from_matrix,
}
_TO: dict[str, Callable[[Quaternions], Rows]] = {
    "euler": _to_euler,
    "axis_angle": _to_axis_angle,
    "quat_xyzw": lambda q: _unit(q)[:, [1, 2, 3, 0]],
    "quat_wxyz": _unit,
    "matrix": _to_matrix,
}
FORMS = tuple(_FROM)
