"""Frames of films: GIF by Pillow, other formats by PyAV."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from neurorecon.errors import InputError


def film_seconds(path: Path) -> float:
    """Return how long a film is."""
    if path.suffix.lower() == ".gif":
        return float(_gif_onsets(path)[-1])
    with _open(path) as container:
        stream = container.streams.video[0]
        if stream.duration is not None:
            return float(stream.duration * stream.time_base)
        return float(container.duration) / 1e6


def read_film(path: Path, frames: int, start: float = 0.0, seconds: float | None = None) -> list[Any]:
    """Return frames spread evenly over a film, or a clip of it: the middles of as many parts of it.

    Parameters
    ----------
    path : path
    frames : int
    start, seconds : float
        Of the clip; the rest of the film where `seconds` is None.

    Returns
    -------
    list of PIL.Image.Image
    """
    whole = film_seconds(path)
    wanted = start + (np.arange(frames) + 0.5) * (whole - start if seconds is None else seconds) / frames
    wanted = np.minimum(wanted, whole - 1e-3)  # a volume may last a little longer than the film
    return _gif_frames(path, wanted) if path.suffix.lower() == ".gif" else _film_frames(path, wanted)


def _gif_onsets(path: Path) -> np.ndarray:
    """Return the onset of each frame, and the end."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            durations = []
            for number in range(getattr(image, "n_frames", 1)):
                image.seek(number)
                durations.append(max(image.info.get("duration", 100), 10) / 1000)
    except (OSError, ValueError, SyntaxError) as error:
        raise _no_film(path, error) from None
    return np.cumsum([0.0, *durations])


def _gif_frames(path: Path, wanted: np.ndarray) -> list[Any]:
    from PIL import Image

    numbers = np.searchsorted(_gif_onsets(path), wanted, side="right") - 1
    found = []
    with Image.open(path) as image:
        for number in numbers:
            image.seek(int(number))
            found.append(image.convert("RGB"))
    return found


def _film_frames(path: Path, wanted: np.ndarray) -> list[Any]:
    """Return what is on the screen at some times, in seconds."""
    images: list[Any] = []
    before = None
    with _open(path) as container:
        container.seek(int(max(wanted[0] - 1.0, 0.0) * 1e6))  # to the key frame before it
        for frame in container.decode(video=0):
            while len(images) < len(wanted) and float(frame.time or 0.0) > wanted[len(images)]:
                images.append((before or frame).to_image())
            before = frame
            if len(images) == len(wanted):
                return images
    if before is None:
        raise _no_film(path, ValueError(f"no frame at {wanted[0]:.2f} s"))
    return images + [before.to_image()] * (len(wanted) - len(images))


def _open(path: Path) -> Any:
    try:
        import av
    except ModuleNotFoundError:
        raise InputError(
            f"films such as {path.name} need a package that is not installed",
            given="no package 'av'",
            expected="PyAV beside neurorecon",
            todo="pip install av",
        ) from None
    try:
        return av.open(str(path))
    except Exception as error:  # PyAV has an error class for each code of FFmpeg
        raise _no_film(path, error) from None


def _no_film(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path} is no film",
        given=f"{type(error).__name__}: {error}",
        expected="a whole film",
        todo="copy it again, or convert it",
    )
