"""Reader of one's own data: arrays of responses, tables of samples, voxels and stimuli, pictures."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from neurorecon.datasets.arrays.content import Content, put_together
from neurorecon.datasets.arrays.layout import open_folder, source_files
from neurorecon.datasets.arrays.options import ArraysOptions
from neurorecon.datasets.base import Description, Options, Reader, SubjectData
from neurorecon.errors import UnknownNameError


class ArraysReader(Reader):
    """Reader of a folder of arrays and tables; ``docs/datasets/arrays.md`` shows one.

    Parameters
    ----------
    root : path
        The folder.
    options : ArraysOptions, optional

    Raises
    ------
    MissingFileError, InputError
        Where files are missing or contradict each other. Values of the responses are looked at by :meth:`subject`.
    """

    name: ClassVar[str] = "arrays"
    Options: ClassVar[type[Options]] = ArraysOptions
    options: ArraysOptions

    def __init__(self, root: str | Path | None, options: ArraysOptions | None = None) -> None:
        super().__init__(root, options)
        self._content = self._read()

    @classmethod
    def sources(cls, root: Path, options: ArraysOptions) -> list[Path]:
        """Return the arrays, tables, masks and pictures of a folder."""
        return source_files(root)

    def _read(self) -> Content:
        assert self.root is not None  # the base class refuses None
        return put_together(open_folder(self.root, self.options), self.options)

    @property
    def description(self) -> Description:
        """Title, citation, terms, units, as the options or ``about.toml`` state them."""
        about, unused = self._content.about, self._content.stimuli.unused
        stated = self.options.simulated
        return Description(
            title=about.title,
            simulated=self.simulated if stated is None else stated,
            citation=about.citation,
            terms=about.terms,
            units=about.units,
            notes="Responses are taken as they were given; nothing was filtered or scaled."
            + (f" Columns of the table of stimuli that were not used: {', '.join(unused)}." if unused else ""),
        )

    @property
    def subjects(self) -> list[str]:
        """Names of the folders of the subjects, or ``["subj01"]``."""
        return list(self._content.subjects)

    def stimuli(self) -> pd.DataFrame:
        """Return the table of stimuli, films behind the images."""
        table = self._content.stimuli.table.copy()
        table["captions"] = [list(row) for row in table["captions"]]
        return table

    def labels(self) -> pd.DataFrame | None:
        """Return the labels, in the order of the stimuli."""
        return None if self._content.labels is None else self._content.labels.copy()

    def image_shape(self) -> tuple[int, int, int] | None:
        """Return (y, x, rgb) of the pictures; where there are films alone, that of their frames."""
        if self._content.images is not None:
            return self._content.images.shape
        film = self.film_shape()
        return None if film is None else film[1:]

    def read_images(self, start: int, stop: int) -> np.ndarray:
        """Return the pictures of stimuli ``start:stop``, uint8, (stimulus, y, x, rgb); of a film, its middle frame."""
        shape, images = self.image_shape(), self._content.images
        if shape is None:
            return super().read_images(start, stop)
        first_film = 0 if images is None else len(images)
        start, stop, _ = slice(start, stop).indices(len(self._content.stimuli.table))
        parts = []
        if images is not None and start < first_film:
            parts.append(images.read(start, min(stop, first_film)))
        if stop > first_film:
            parts.append(self._middle_frames(max(start, first_film) - first_film, stop - first_film, shape))
        return np.concatenate(parts) if parts else np.empty((0, *shape), dtype=np.uint8)

    def _middle_frames(self, start: int, stop: int, shape: tuple[int, int, int]) -> np.ndarray:
        film, frames = self.film_shape(), self._content.frames
        assert film is not None
        assert frames is not None
        found = [frames[number : number + 1][0, film[0] // 2] for number in range(start, stop)]
        if film[1:] == shape:
            return np.stack(found)
        from PIL import Image

        scaled = [Image.fromarray(one).resize((shape[1], shape[0]), Image.Resampling.LANCZOS) for one in found]
        return np.stack([np.asarray(one) for one in scaled])

    def film_shape(self) -> tuple[int, int, int, int] | None:
        """Return (frame, y, x, rgb) of the films, or None where there are none."""
        frames = self._content.frames
        return None if frames is None else (frames.shape[1], frames.shape[2], frames.shape[3], 3)

    def frames_per_second(self) -> float | None:
        """Return the frame rate of the films."""
        return None if self._content.frames is None else self.options.frames_per_second

    def read_frames(self, start: int, stop: int) -> np.ndarray:
        """Return the frames of films ``start:stop``, uint8, (film, frame, y, x, rgb)."""
        if self._content.frames is None:
            return super().read_frames(start, stop)
        return np.array(self._content.frames[start:stop])

    def subject(self, name: str) -> SubjectData:
        """Return the recordings of one subject; the first time, the responses are passed through once.

        Raises
        ------
        UnknownNameError, InputError
            For a name that is none, and where no voxel can be used.
        """
        if name not in self.subjects:
            raise UnknownNameError("subject", name, self.subjects)
        return self._content.subject(name)
