"""A few stimuli of every kind, for tests of extractors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Examples:
    """Stimuli to try an extractor on.

    Parameters
    ----------
    pictures : array, uint8, shape (stimulus, y, x, rgb)
    films : array, uint8, shape (stimulus, frame, y, x, rgb)
    captions : list of list of str
        Some with several captions.
    categories : list of str
    frames_per_second : float
    """

    pictures: np.ndarray = field(default_factory=lambda: _films(5, 1, 48, 64)[:, 0])
    films: np.ndarray = field(default_factory=lambda: _films(5, 8, 48, 64))
    captions: list[list[str]] = field(
        default_factory=lambda: [["a red car"], ["one tool", "a tool here"], ["a person"], ["a building"], ["animal"]]
    )
    categories: list[str] = field(default_factory=lambda: ["animal", "tool", "animal", "person", "tool"])
    frames_per_second: float = 4.0

    def of(self, needs: str) -> Any:
        """Return the stimuli that a target is computed from."""
        kinds = {"images": self.pictures, "frames": self.films, "captions": self.captions}
        return kinds.get(needs, self.categories)


def _films(stimuli: int, frames: int, height: int, width: int) -> np.ndarray:
    """Return films of a bright spot that moves over a colored grating, different for each stimulus."""
    y, x = np.mgrid[:height, :width] / width
    found = np.empty((stimuli, frames, height, width, 3), dtype=np.uint8)
    for number in range(stimuli):
        angle = np.pi * number / stimuli
        wave = 0.5 + 0.4 * np.sin(2 * np.pi * (3 + 2 * number) * (x * np.cos(angle) + y * np.sin(angle)))
        for frame in range(frames):
            center = 0.2 + 0.07 * frame
            spot = np.exp(-((x - center) ** 2 + (y - 0.1 * (number + 1)) ** 2) / 0.01)
            color = np.array([1.0, 0.3 + 0.15 * number, 0.8 - 0.15 * number])
            mixed = wave[..., None] * color * (1 - spot[..., None]) + spot[..., None]
            found[number, frame] = np.round(255 * np.clip(mixed, 0, 1))
    return found
