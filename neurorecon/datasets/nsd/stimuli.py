"""The pictures, read from ``nsd_stimuli.hdf5`` one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from neurorecon.datasets.images import damaged
from neurorecon.datasets.nsd.betas import open_hdf5, wrong_shape
from neurorecon.datasets.nsd.layout import DOWNLOAD
from neurorecon.errors import InputError, MissingFileError


class Pictures:
    """The dataset ``imgBrick`` (picture, y, x, rgb) uint8: 39.6 GB, never read as a whole.

    Parameters
    ----------
    path : path
        ``nsd_stimuli.hdf5``.
    ids : int array, shape (stimulus,)
        ``nsdId`` (from 0) of the pictures that are wanted: their rows in the file.
    size : int or None
        Pixels on each side; those of the file where None.
    """

    def __init__(self, path: Path, ids: np.ndarray, size: int | None) -> None:
        if not path.is_file():
            raise MissingFileError(
                "the pictures are missing",
                given=f"no file {path}",
                expected="nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5 below the folder of the data set (39.6 GB)",
                todo=DOWNLOAD,
            )
        self._path, self._ids = path, np.asarray(ids)
        self._file: Any = None
        data = self._data()
        if data.ndim != 4 or data.shape[3] != 3 or data.shape[1] != data.shape[2]:
            raise wrong_shape(path, data.shape, "(picture, 425, 425, 3)")
        if data.dtype != np.uint8:
            raise InputError(
                f"the pictures in {path} are of the wrong kind", given=str(data.dtype), expected="uint8", todo=DOWNLOAD
            )
        if len(self._ids) and self._ids.max() >= len(data):
            raise InputError(
                f"{path} holds fewer pictures than the design names",
                given=f"{len(data):,} pictures",
                expected=f"at least {self._ids.max() + 1:,}",
                todo=DOWNLOAD,
            )
        self._stored = int(data.shape[1])
        self.size = size or self._stored

    def _data(self) -> Any:
        if self._file is None:
            self._file = open_hdf5(self._path)
        if "imgBrick" not in self._file:
            raise InputError(
                f"{self._path} holds no pictures",
                given=f"datasets {', '.join(self._file) or '(none)'}",
                expected="the dataset imgBrick (picture, y, x, rgb)",
                todo=DOWNLOAD,
            )
        return self._file["imgBrick"]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}  # an open file does not travel to workers

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return pictures ``start:stop``, uint8, shape (stimulus, y, x, rgb)."""
        data, ids = self._data(), self._ids[start:stop]
        found = np.empty((len(ids), self.size, self.size, 3), dtype=np.uint8)
        try:
            for row, number in enumerate(ids):
                found[row] = self._resized(data[int(number)])
        except OSError as error:
            raise damaged(self._path, error, DOWNLOAD) from error
        return found

    def _resized(self, picture: np.ndarray) -> np.ndarray:
        from PIL import Image

        if self.size == self._stored:
            return picture
        # Bicubic with antialiasing, as the preprocessing of CLIP has it.
        return np.asarray(Image.fromarray(picture).resize((self.size, self.size), Image.Resampling.BICUBIC))
