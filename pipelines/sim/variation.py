"""What of a task's world differs from the benchmark's: camera, robot start, noise on pictures.

    Variation(view=Viewpoint(orbit=30), start=robot_start(120), noise=14)

A value only: `LiberoSimulator` puts it into its world, `pipelines/sim/perturb.py` has the formulas.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Viewpoint:
    """A pose of the main camera relative to the usual one, in LIBERO-Plus's terms; degrees. It is
    orbited about the world's vertical axis and raised about (0, 0, 0.8) m, then brought to
    `distance` per cent of its distance from there, then turned in its place. The field of view
    stays."""

    orbit: float = 0.0
    height: float = 0.0
    distance: float = 100.0
    turn: float = 0.0
    tilt: float = 0.0

    @property
    def name(self) -> str:
        """All five, shortest: `view 30 15 100 0 0`."""
        values = (self.orbit, self.height, self.distance, self.turn, self.tilt)
        return "view " + " ".join(f"{value:.6g}" for value in values)

    @property
    def size(self) -> str:
        """The group that results are told by."""
        if self.turn or self.tilt:
            return f"turned {_band(max(abs(self.turn), abs(self.tilt)), (5, 10))} deg"
        if self.distance != 100:
            return f"distance {_band(self.distance, (100, 130, 160, 200))} %"
        raised = ", raised" if self.height else ""
        return f"orbit {_band(abs(self.orbit), (15, 30, 45, 60, 75))} deg{raised}"


@dataclass(frozen=True)
class Start:
    """The robot's joints (rad) at the start, and how far they are from the usual ones (rad)."""

    joints: tuple[float, ...]
    away: float
    name: str

    @property
    def size(self) -> str:
        return f"joints {self.away:.1f} rad away"


@dataclass(frozen=True)
class Variation:
    """How one trial or episode of a task differs from the task; `wording` is the number of its
    instruction where that is another one (the text is in the task)."""

    view: Viewpoint | None = None
    start: Start | None = None
    noise: int = 0  # on the main camera's pictures: 1 to 50, see `pipelines/sim/noise.py`
    wording: int = 0

    @property
    def name(self) -> str:
        """What identifies it, in words; "" for none."""
        words = [part.name for part in (self.view, self.start) if part is not None]
        words += [f"noise {self.noise}"] * bool(self.noise)
        return ", ".join([*words, *[f"wording {self.wording}"] * bool(self.wording)])

    @property
    def size(self) -> str:
        """The group that results are told by: what is varied, and by how much."""
        words = [part.size for part in (self.view, self.start) if part is not None]
        if self.noise:
            kind = NOISES[(self.noise - 1) // LEVELS]
            level = (self.noise - 1) % LEVELS
            words.append(f"{kind}, level {1 + level - level % 2}-{2 + level - level % 2}")
        return ", ".join([*words, *["reworded"] * bool(self.wording)])


NOISES = ("motion blur", "Gaussian blur", "zoom blur", "fog", "glass blur")
LEVELS = 10  # of each noise
PLAIN = Variation()


def _band(value: float, limits: tuple[int, ...]) -> str:
    """The interval between limits that a value lies in: `15-30`."""
    low = 0
    for high in limits:
        if value <= high:
            return f"{low}-{high}"
        low = high
    return f"over {low}"
