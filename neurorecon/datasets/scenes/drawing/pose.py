"""What an object is doing at one moment, and the random numbers that make it one of its kind."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from neurorecon.datasets.scenes.drawing.light import RGB
from neurorecon.datasets.scenes.thing import SceneObject
from neurorecon.datasets.scenes.vocabulary import COLORS


@dataclass(frozen=True)
class Pose:
    """An object at one moment.

    Parameters
    ----------
    item : SceneObject
    setting : str
        Where it is.
    random : numpy.random.Generator
        Started from the object's style: the same numbers in every frame.
    phase : float
        Of its gait, wing beat or sway, in radians.
    moving : bool
        Whether it goes somewhere.
    way : float
        How far it has gone, in its own heights (turns wheels).
    """

    item: SceneObject
    setting: str
    random: np.random.Generator
    phase: float
    moving: bool
    way: float

    @property
    def color(self) -> RGB:
        """Color of the object."""
        return COLORS[self.item.color]

    def between(self, low: float, high: float) -> float:
        """Draw a number between two."""
        return low + (high - low) * float(self.random.random())

    def pick(self, *choices: RGB) -> RGB:
        """Draw one of several colors."""
        return choices[int(self.random.integers(len(choices)))]

    def chance(self, share: float) -> bool:
        """Draw a yes with a probability."""
        return float(self.random.random()) < share

    def swing(self, amount: float, shift: float = 0.0) -> float:
        """Return a swing to and fro with the gait."""
        return amount * math.sin(self.phase + shift)


#: Beats (steps, wing beats, sways) per second.
_BEATS = {"person": 1.0, "animal": 1.3, "plant": 0.45, "face": 0.4}


def pose_of(item: SceneObject, time: float, setting: str) -> Pose:
    """Return what an object is doing at a time in seconds, in a setting."""
    random = np.random.default_rng(item.style)
    start = float(random.uniform(0, 2 * math.pi))
    moving = item.velocity != (0.0, 0.0)
    beats = _BEATS.get(item.category, 0.5) * (1.6 if item.kind == "bird" else 1.0)
    goes = moving or item.category in ("plant", "face")
    phase = start + (2 * math.pi * beats * time if goes else 0.0)
    return Pose(item, setting, random, phase, moving, abs(item.velocity[0]) * time / item.size)
