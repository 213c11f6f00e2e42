"""Frames of films: GIF by Pillow, other formats by PyAV."""

from __future__ import annotations

from itertools import pairwise
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


def read_film(path: Path, frames: int) -> list[Any]:
    """Return frames spread evenly over a film: the middles of as many parts of it.

    Parameters
    ----------
    path : path
    frames : int

    Returns
    -------
    list of PIL.Image.Image
    """
    seconds = film_seconds(path)
    wanted = (np.arange(frames) + 0.5) * seconds / frames
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
    with _open(path) as container:
        times: list[float] = []
        images: list[Any] = []
        edges = [*((first + second) / 2 for first, second in pairwise(wanted)), np.inf]
        place = 0
        for frame in container.decode(video=0):
            time = float(frame.time or 0.0)
            while place < len(edges) - 1 and time > edges[place]:
                place += 1
            if len(images) == place:
                times.append(time)
                images.append(frame.to_image())
            elif abs(time - wanted[place]) < abs(times[place] - wanted[place]):
                times[place], images[place] = time, frame.to_image()
    if len(images) < len(wanted):
        raise _no_film(path, ValueError(f"{len(images)} frames of the {len(wanted)} asked for"))
    return images


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
