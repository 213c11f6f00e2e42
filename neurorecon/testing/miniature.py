"""A data set of a few kilobytes for tests of tools that read stores: random images, videos and responses.

The responses are a linear function of the stimuli's category plus noise, so that a decoder has something to find.
It says nothing about brains; for that see :mod:`neurorecon.simulation`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from neurorecon.datasets.base import Description, Options, Reader, SubjectData
from neurorecon.space import Space

_CATEGORIES = ("animal", "building", "person", "tool")


class MiniatureOptions(Options):
    """Options of the miniature data set."""

    seed: int = Field(0, description="seed of everything")
    subjects: int = Field(2, ge=1, description="number of subjects")
    voxels: int = Field(40, ge=8, description="voxels of a subject")
    images: int = Field(24, ge=8, description="images; the last quarter is the test set")
    videos: int = Field(12, ge=0, description="videos; the last third is the test set")
    space: Literal["volume", "surface", "none"] = Field("volume", description="where the voxels lie")
    noise: float = Field(1.0, ge=0, description="standard deviation of the noise")


class MiniatureReader(Reader):
    """Random images and videos, and responses that follow their category. See the module's docstring."""

    name: ClassVar[str] = "miniature"
    Options: ClassVar[type[Options]] = MiniatureOptions
    needs_root: ClassVar[bool] = False
    roi_groups: ClassVar[dict[str, list[str]]] = {"early": ["V1", "V2"]}

    options: MiniatureOptions

    @property
    def description(self) -> Description:
        """Title, citation, terms, units."""
        return Description("a miniature for tests", True, "none", "public domain", "standard deviations")

    @property
    def subjects(self) -> list[str]:
        """``subj01`` and so on."""
        return [f"subj{number:02d}" for number in range(1, self.options.subjects + 1)]

    def stimuli(self) -> pd.DataFrame:
        """Return the images first, then the videos."""
        ids = [f"image{number:04d}" for number in range(self.options.images)]
        ids += [f"video{number:04d}" for number in range(self.options.videos)]
        kinds = ["image"] * self.options.images + ["video"] * self.options.videos
        categories = [_CATEGORIES[number % len(_CATEGORIES)] for number in range(len(ids))]
        captions = [[f"a {name}", f"one {name} <here>"] for name in categories]
        return pd.DataFrame({"id": ids, "kind": kinds, "category": categories, "captions": captions})

    def image_shape(self) -> tuple[int, int, int]:
        """Return (y, x, rgb)."""
        return (8, 8, 3)

    def read_images(self, start: int, stop: int) -> np.ndarray:
        """Return random images, one generator each; for a video, its middle frame."""
        return np.stack([self._image(number) for number in range(start, stop)])

    def _image(self, number: int) -> np.ndarray:
        video = number - self.options.images
        return self._pixels(0, number, (8, 8, 3)) if video < 0 else self._pixels(1, video, (4, 8, 8, 3))[1]

    def video_shape(self) -> tuple[int, int, int, int] | None:
        """Return (frame, y, x, rgb)."""
        return (4, 8, 8, 3) if self.options.videos else None

    def frames_per_second(self) -> float | None:
        """Return 2 frames per second."""
        return 2.0 if self.options.videos else None

    def read_frames(self, start: int, stop: int) -> np.ndarray:
        """Return random videos."""
        return np.stack([self._pixels(1, number, (4, 8, 8, 3)) for number in range(start, stop)])

    def _pixels(self, kind: int, number: int, shape: tuple[int, ...]) -> np.ndarray:
        generator = np.random.default_rng([self.options.seed, kind, number])
        return generator.integers(0, 256, shape, dtype=np.uint8)

    def subject(self, name: str) -> SubjectData:
        """Return the data of one subject."""
        number = self.subjects.index(name)
        samples, voxels = self._samples(), self.options.voxels
        rois = {"MT": _range(voxels, 0.6, 0.9), "V1": _range(voxels, 0, 0.4), "V2": _range(voxels, 0.3, 0.6)}
        pattern = np.random.default_rng([self.options.seed, 2, number]).standard_normal((len(_CATEGORIES), voxels))
        codes = self.stimuli().set_index("id")["category"].loc[samples["stimulus"]].map(_CATEGORIES.index).to_numpy()

        def read(start: int, stop: int) -> np.ndarray:
            noise = [
                np.random.default_rng([self.options.seed, 3, number, row]).standard_normal(voxels)
                for row in range(start, stop)
            ]
            return (pattern[codes[start:stop]] + self.options.noise * np.array(noise)).astype(np.float32)

        table, space = self._voxels()
        series = {"videos": 2.0} if self.options.videos else {}
        truth = {"pattern": pattern.astype(np.float32)}
        return SubjectData(samples, table, rois, space, read, series, truth)

    def _voxels(self) -> tuple[pd.DataFrame, Space]:
        number = np.arange(self.options.voxels)
        if self.options.space == "surface":
            side = np.where(number % 2, "right", "left")
            vertices = {"left": 10242, "right": 10242}
            return pd.DataFrame({"hemisphere": side, "vertex": number}), Space(
                "surface", mesh="fsaverage5", vertices=vertices
            )
        if self.options.space == "volume":
            affine: list[list[float]] = [[2.0, 0, 0, -6], [0, 2.0, 0, 0], [0, 0, 2.0, 0], [0, 0, 0, 1]]
            shape = [6, 5, int(number[-1]) // 30 + 1]
            table = pd.DataFrame({"i": number % 6, "j": number // 6 % 5, "k": number // 30})
            return table, Space("volume", affine=affine, shape=shape)
        return pd.DataFrame(index=number), Space()

    def _samples(self) -> pd.DataFrame:
        rows = [*self._image_rows(), *self._video_rows()]
        columns = ["stimulus", "task", "session", "run", "repeat", "split", "time"]
        return pd.DataFrame(rows, columns=columns)

    def _image_rows(self) -> Iterator[tuple]:
        """Every training image once, every test image three times, in runs of ten trials, one every 4 s."""
        train = self.options.images - self.options.images // 4
        order = [(number, 1) for number in range(train)]
        order += [(number, repeat) for repeat in (1, 2, 3) for number in range(train, self.options.images)]
        for trial, (number, repeat) in enumerate(order):
            split = "train" if number < train else "test"
            yield f"image{number:04d}", "images", 1, trial // 10 + 1, repeat, split, 4.0 * (trial % 10)

    def _video_rows(self) -> Iterator[tuple]:
        """One run of training videos and one of test videos, each shown twice in the same order."""
        train = self.options.videos - self.options.videos // 3
        parts = {"train": range(train), "test": range(train, self.options.videos)}
        run = 0
        for split, numbers in parts.items():
            for repeat in (1, 2) if len(numbers) else ():
                run += 1
                for volume, number in enumerate(numbers):
                    yield f"video{number:04d}", "videos", 2, run, repeat, split, 2.0 * volume


def _range(voxels: int, start: float, stop: float) -> np.ndarray:
    """Return every voxel whose scrambled position is in a range, so that an ROI is scattered before sorting."""
    place = np.random.default_rng(voxels).permutation(voxels) / voxels
    return (place >= start) & (place < stop)
