"""The stimuli of the embedded data set, images and videos by number, rendered on request."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from neurorecon.errors import InputError
from neurorecon.features.gabor import GaborBank
from neurorecon.features.images import luminance, opponent_colors, pool, resize
from neurorecon.features.motion import MotionBank
from neurorecon.parallel import in_processes
from neurorecon.simulation.cortex import FIELD_OF_VIEW, LAYOUT
from neurorecon.simulation.drawing.render import render
from neurorecon.simulation.scene import Scene, label_table, sample_scene
from neurorecon.simulation.vocabulary import CATEGORIES


def frame_times(frames: int = 8, frames_per_second: float = 4.0) -> np.ndarray:
    """Return the time of each frame in seconds, relative to frame ``frames // 2``, shape (frame,).

    Raises
    ------
    InputError
        If there are no frames, or the rate is not positive.
    """
    if frames < 1 or frames_per_second <= 0:
        raise InputError(
            "a video needs frames and a frame rate",
            given=f"{frames} frames at {frames_per_second} per second",
            expected="at least one frame and a positive rate",
        )
    return (np.arange(frames) - frames // 2) / frames_per_second


def render_video(scene: Scene, frames: int = 8, frames_per_second: float = 4.0, size: int = 64) -> np.ndarray:
    """Render the frames of a video.

    Parameters
    ----------
    scene : Scene
        The scene of a video. In the scene of an image, only details such as leaves and faces move.
    frames : int
        Number of frames.
    frames_per_second : float
        Frame rate.
    size : int
        Pixels per side.

    Returns
    -------
    array, uint8, shape (frame, y, x, rgb)
        Frame ``frames // 2`` is ``render(scene, size)``.
    """
    times = frame_times(frames, frames_per_second)
    return np.stack([render(scene, size, float(time)) for time in times])


FRAMES = 8

FRAMES_PER_SECOND = 4.0

#: Size in pixels of the images that the simulated brain processes.
RETINA = 64

#: Cells per side of the maps on which receptive fields are defined.
CELLS = 32

MOTION_CELLS = 16

GABORS = GaborBank(RETINA, frequencies=(2.5, 5.0, 10.0, 18.0), orientations=6)

MOTION = MotionBank(
    GaborBank(RETINA, frequencies=(2.5, 5.0, 10.0), orientations=4), (0.6, 1.3), FRAMES, FRAMES_PER_SECOND
)

#: Spatial frequency of each Gabor channel in cycles per degree.
GABOR_CYCLES = GABORS.channel_frequency / FIELD_OF_VIEW

#: Frames of a video that are used for features other than motion.
_STATIC_FRAMES = slice(0, FRAMES, 2)

#: Size of the cache of pixels in bytes, which holds all stimuli of the default data set, so that each is drawn once.
_PIXELS = 256 * 2**20

#: Number of cached features (160 kB each; those of the default data set are computed once for all its subjects), scenes
#: and labels.
_FEATURES = 4096

_SCENES = 1 << 13

_LABELS = 1 << 17

#: Number of images and frames from which starting processes pays off, and the maximum number of processes.
_WORTH_PROCESSES, _MOST_PROCESSES = 400, 8


@dataclass(frozen=True)
class Features:
    """Features of one stimulus to which the simulated brain responds.

    Parameters
    ----------
    gabor : array, shape (gabor channel, cell)
        Gabor energy, averaged over frames.
    color : array, shape (3, cell)
        Luminance, red-green and blue-yellow signals, averaged over frames.
    category : array, shape (category,)
        Share of the image that is covered by visible objects of each category.
    layout : array, shape (layout,)
        Layout of the scene, in the order of :data:`~neurorecon.simulation.cortex.LAYOUT`.
    motion : array, shape (motion channel, motion cell)
        Motion energy; zero for images.
    """

    gabor: np.ndarray
    color: np.ndarray
    category: np.ndarray
    layout: np.ndarray
    motion: np.ndarray


class Stimuli:
    """All stimuli of a data set: images, followed by videos.

    Parameters
    ----------
    seed : int
        Seed of the data set.
    images, videos : int
        Numbers of images and videos.
    size : int
        Pixels per side.
    categories : tuple of str
        Categories of main objects.
    """

    def __init__(
        self, seed: int, images: int, videos: int, size: int, categories: tuple[str, ...] = CATEGORIES
    ) -> None:
        self.seed = seed
        self.images = images
        self.videos = videos
        self.size = size
        self.categories = categories
        self.scene = lru_cache(maxsize=_SCENES)(self._scene)
        whole = 3 * size**2 * (images + FRAMES * videos)
        #: Number of stimuli whose pixels are cached.
        self._room = max(64, _PIXELS * (images + videos) // max(whole, 1))
        self.pixels = lru_cache(maxsize=self._room)(self._pixels)
        self.labels = lru_cache(maxsize=_LABELS)(self._labels)
        self.features = lru_cache(maxsize=_FEATURES)(self._features)
        self._drawn: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return self.images + self.videos

    def is_video(self, number: int) -> bool:
        """Return whether stimulus `number` is a video."""
        return number >= self.images

    def image(self, number: int) -> np.ndarray:
        """Return the image, or the middle frame of the video: uint8, shape (y, x, rgb)."""
        pixels = self.pixels(number)
        return pixels[FRAMES // 2] if self.is_video(number) else pixels

    def _scene(self, number: int) -> Scene:
        if self.is_video(number):
            return sample_scene(self.seed, number - self.images, "video", self.categories)
        return sample_scene(self.seed, number, "image", self.categories)

    def _pixels(self, number: int) -> np.ndarray:
        """Return the image (y, x, rgb), or the video (frame, y, x, rgb), uint8."""
        drawn = self._drawn.pop(number, None)
        return _draw(self.scene(number), self.size) if drawn is None else drawn

    def draw_ahead(self, numbers: range) -> None:
        """Render many stimuli on all cores and keep them for the next calls. It changes no pixel."""
        from joblib import cpu_count, delayed

        numbers = numbers[: self._room]
        images = sum(FRAMES if self.is_video(number) else 1 for number in numbers)
        if cpu_count() == 1 or images < _WORTH_PROCESSES or numbers[-1] in self._drawn:
            return
        jobs = min(cpu_count(), _MOST_PROCESSES)
        shares = [numbers[start::jobs] for start in range(jobs)]
        drawn = in_processes(jobs)(
            delayed(_draw_many)([self.scene(number) for number in share], self.size) for share in shares
        )
        self._drawn = {
            number: pixels
            for share, images in zip(shares, drawn, strict=True)
            for number, pixels in zip(share, images, strict=True)
        }

    def _labels(self, number: int) -> tuple[float, ...]:
        """Return the numeric labels of one stimulus, in the order of :meth:`label_names`."""
        return tuple(label_table([self.scene(number)]).iloc[0])

    def label_names(self) -> list[str]:
        """Return the names of the labels."""
        return _label_names()

    def _features(self, number: int) -> Features:
        # Responses do not depend on the resolution of the images in the store.
        pixels = self.pixels(number) if self.size == RETINA else _draw(self.scene(number), RETINA)
        frames = pixels if self.is_video(number) else pixels[None]
        gray = luminance(frames)
        static = _STATIC_FRAMES if self.is_video(number) else slice(None)
        labels = dict(zip(self.label_names(), self.labels(number), strict=True))
        if self.is_video(number):
            motion = pool(MOTION.energy(gray[None])[0], MOTION_CELLS).reshape(MOTION.channels, -1)
        else:
            motion = np.zeros((MOTION.channels, MOTION_CELLS**2), dtype=np.float32)
        color = np.concatenate([gray[static, ..., None], opponent_colors(frames[static])], axis=-1).mean(axis=0)
        return Features(
            gabor=GABORS.energy(gray[static]).mean(axis=0).reshape(GABORS.channels, -1),
            color=resize(np.moveaxis(color, -1, 0), CELLS).reshape(3, -1),
            category=np.array([labels[f"category:{name}"] for name in CATEGORIES]),
            layout=np.array([labels[f"layout:{name}"] for name in LAYOUT]),
            motion=motion,
        )


def _draw_many(scenes: list[Scene], size: int) -> list[np.ndarray]:
    return [_draw(scene, size) for scene in scenes]


def _draw(scene: Scene, size: int) -> np.ndarray:
    if scene.kind == "video":
        pixels: Any = render_video(scene, frames=FRAMES, frames_per_second=FRAMES_PER_SECOND, size=size)
    else:
        pixels = render(scene, size=size, time=0.0)
    pixels = np.asarray(pixels)
    pixels.flags.writeable = False  # the cache shares it between callers
    return pixels


@lru_cache(maxsize=1)
def _label_names() -> list[str]:
    return list(label_table([]).columns)
