"""Films of scenes: things and the camera move around the moment that the scene describes."""

from __future__ import annotations

import numpy as np

from neurorecon.datasets.scenes.drawing import render
from neurorecon.datasets.scenes.scene import Scene
from neurorecon.errors import InputError


def frame_times(frames: int = 8, frames_per_second: float = 4.0) -> np.ndarray:
    """Return the time of each frame in seconds; frame ``frames // 2`` is at 0, the moment of the scene.

    Raises
    ------
    InputError
        When there is no frame or no rate.
    """
    if frames < 1 or frames_per_second <= 0:
        raise InputError(
            "a film needs frames and a rate",
            given=f"{frames} frames at {frames_per_second} per second",
            expected="at least one frame and a positive rate",
        )
    return (np.arange(frames) - frames // 2) / frames_per_second


def render_film(scene: Scene, frames: int = 8, frames_per_second: float = 4.0, size: int = 64) -> np.ndarray:
    """Draw the frames of a film.

    Parameters
    ----------
    scene : Scene
        An image gives a film in which at most leaves and faces stir.
    frames : int
    frames_per_second : float
    size : int
        Pixels along each side.

    Returns
    -------
    array, uint8, shape (frame, y, x, rgb)
        Frame ``frames // 2`` is ``render(scene, size)``.
    """
    times = frame_times(frames, frames_per_second)
    return np.stack([render(scene, size, float(time)) for time in times])
