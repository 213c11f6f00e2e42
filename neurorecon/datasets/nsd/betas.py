"""The betas of one session, whichever file holds them: the voxels of a mask, in the memory that these need.

Voxels are named by their place in a volume counted with x fastest, as NIfTI files and (with their axes reversed) the
HDF5 files have them, or by vertex, the left hemisphere first.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np

from neurorecon.datasets.images import check_grid, damaged, open_image
from neurorecon.datasets.nsd.layout import DOWNLOAD
from neurorecon.datasets.nsd.mgh import read_header
from neurorecon.datasets.nsd.stream import volumes
from neurorecon.errors import InputError

#: Betas that are stored as int16 are percent signal change times 300.
PERCENT = np.float32(300)

#: Bytes that are read of an HDF5 file at a time.
BLOCK = 64 * 2**20


class Betas(ABC):
    """The betas of a session.

    Attributes
    ----------
    path : path
        The file, or the first of two.
    trials : int
        Trials that it holds.
    dtype : numpy dtype
        int16 (percent signal change times 300) or floating-point (percent signal change).
    """

    path: Path
    trials: int
    dtype: np.dtype

    @abstractmethod
    def read(self, voxels: np.ndarray, stop: int | None = None) -> np.ndarray:
        """Read trials as they are on disk.

        Parameters
        ----------
        voxels : int array, shape (voxel,)
            Places in the volume, or vertices; ascending.
        stop : int, optional
            Number of trials, from the first; all where left out.

        Returns
        -------
        array, shape (trial, voxel)
            Of :attr:`dtype`, in the byte order of this machine.
        """

    def _wanted(self, stop: int | None) -> int:
        return self.trials if stop is None else min(stop, self.trials)

    def _check_dtype(self, dtype: np.dtype) -> None:
        if dtype.kind != "f" and dtype.newbyteorder("=") != np.int16:
            raise InputError(
                f"{self.path} holds betas of an unknown kind",
                given=str(dtype),
                expected="int16 (percent signal change times 300) or floating-point numbers (percent signal change)",
                todo=DOWNLOAD,
            )
        self.dtype = dtype.newbyteorder("=")


class NiftiBetas(Betas):
    """A file ``betas_sessionNN.nii.gz``, axes (x, y, z, trial).

    Parameters
    ----------
    path : path
    grid : tuple
        Shape and affine that the volumes have to have, and what has them, for the message.
    """

    def __init__(self, path: Path, grid: tuple[tuple[int, ...], Any, str]) -> None:
        self.path = path
        image = open_image(path, DOWNLOAD)
        shape, affine, like = grid
        if len(image.shape) != 4:
            raise wrong_shape(path, image.shape, f"{(*shape, 'trial')}: {like} and the trials")
        check_grid(path, image.shape[:3], image.affine, like, shape, affine)
        proxy = image.dataobj
        slope, inter = float(proxy.slope), float(proxy.inter)
        if (slope, inter) != (1.0, 0.0):
            raise InputError(
                f"the header of {path} rescales its values",
                given=f"scl_slope {slope}, scl_inter {inter}",
                expected="1 and 0: NSD's int16 are percent signal change times 300",
                todo=DOWNLOAD,
            )
        self.trials, self._offset, self._stored = image.shape[3], int(proxy.offset), proxy.dtype
        self._size = int(np.prod(shape)) * self._stored.itemsize
        self._check_dtype(self._stored)
        self._check_length()

    def _check_length(self) -> None:
        """Refuse a file that was cut short, where that can be told without reading all of it."""
        expected = self._offset + self._size * self.trials
        with self.path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(-4 if packed else 0, 2)
            # The last four bytes of a gzip are the length of its content.
            length = int.from_bytes(file.read(4), "little") if packed else file.tell()
        if length == (expected % 2**32 if packed else expected):
            return
        if packed or length < expected:
            for _ in volumes(self.path, self._offset, self._size, self.trials):
                pass  # reads to the end: a file of several gzips passes, one that is cut raises

    def read(self, voxels: np.ndarray, stop: int | None = None) -> np.ndarray:
        """Stream through the file; see the base class."""
        number = self._wanted(stop)
        found = np.empty((number, len(voxels)), dtype=self.dtype)
        stream = volumes(self.path, self._offset, self._size, number, whole=number == self.trials)
        for trial, volume in enumerate(stream):
            found[trial] = np.frombuffer(volume, dtype=self._stored)[voxels]
        return found


class Hdf5Betas(Betas):
    """A file ``betas_sessionNN.hdf5``, dataset ``betas`` (trial, z, y, x)."""

    def __init__(self, path: Path, grid: tuple[tuple[int, ...], Any, str]) -> None:
        self.path = path
        shape, _, like = grid
        with open_hdf5(path) as file:
            if "betas" not in file:
                raise InputError(
                    f"{path} holds no betas",
                    given=f"datasets {', '.join(file) or '(none)'}",
                    expected="the dataset betas (trial, z, y, x)",
                    todo=DOWNLOAD,
                )
            data = file["betas"]
            if data.ndim != 4 or data.shape[1:] != shape[::-1]:
                expected = f"('trial', {', '.join(map(str, shape[::-1]))}): the axes of {like}, reversed"
                raise wrong_shape(path, data.shape, expected)
            self.trials = data.shape[0]
            self._check_dtype(data.dtype)
            # NSD's files have a chunk for each voxel, all its trials.
            self._by_voxel = data.chunks is not None and data.chunks[0] == self.trials and max(data.chunks[1:]) == 1
        self._shape = shape

    def read(self, voxels: np.ndarray, stop: int | None = None) -> np.ndarray:
        """Read rows of voxels, or blocks of trials, as the file is laid out; see the base class."""
        number = self._wanted(stop)
        found = np.empty((number, len(voxels)), dtype=self.dtype)
        with open_hdf5(self.path) as file:
            try:
                if self._by_voxel:
                    self._read_rows(file["betas"], voxels, found)
                else:
                    self._read_trials(file["betas"], voxels, found)
            except OSError as error:
                raise damaged(self.path, error, DOWNLOAD) from error
        return found

    def _read_rows(self, data: Any, voxels: np.ndarray, found: np.ndarray) -> None:
        length = self._shape[0]
        rows, first = np.unique(voxels // length, return_index=True)
        for row, start, stop in zip(rows, first, [*first[1:], len(voxels)], strict=True):
            z, y = divmod(int(row), self._shape[1])
            x = voxels[start:stop] % length
            part = data[: len(found), z, y, int(x[0]) : int(x[-1]) + 1]
            found[:, start:stop] = part[:, x - x[0]]

    def _read_trials(self, data: Any, voxels: np.ndarray, found: np.ndarray) -> None:
        volume = int(np.prod(self._shape))
        step = max(1, BLOCK // (volume * self.dtype.itemsize))
        for start in range(0, len(found), step):
            part = data[start : min(start + step, len(found))]
            found[start : start + len(part)] = part.reshape(len(part), volume)[:, voxels]


class SurfaceBetas(Betas):
    """Files ``lh.betas_sessionNN.mgh`` and ``rh.``, axes (vertex, 1, 1, trial).

    Parameters
    ----------
    paths : list of path
        Left, right.
    vertices : tuple of int
        Vertices that each has to have.
    """

    def __init__(self, paths: list[Path], vertices: tuple[int, int]) -> None:
        self.path, self._vertices = paths[0], vertices
        self._headers = [read_header(path) for path in paths]
        for path, header, number in zip(paths, self._headers, vertices, strict=True):
            if len(header.shape) != 4 or header.shape[:3] != (number, 1, 1):
                raise wrong_shape(path, header.shape, f"({number}, 1, 1, 'trial'): a value a vertex, and the trials")
        self.trials, other = (header.shape[3] for header in self._headers)
        if other != self.trials:
            raise wrong_shape(paths[1], self._headers[1].shape, f"{self.trials} trials, as in {paths[0].name}")
        self._paths = paths
        self._check_dtype(self._headers[0].dtype)
        for path, header in zip(paths, self._headers, strict=True):
            expected = header.offset + int(np.prod(header.shape)) * header.dtype.itemsize
            if path.suffix == ".mgh" and path.stat().st_size < expected:
                error = EOFError(f"at least {expected:,} bytes expected for {self.trials} trials")
                raise damaged(path, error, DOWNLOAD)

    def read(self, voxels: np.ndarray, stop: int | None = None) -> np.ndarray:
        """Stream through both files; see the base class."""
        number = self._wanted(stop)
        found = np.empty((number, len(voxels)), dtype=self.dtype)
        border = int(np.searchsorted(voxels, self._vertices[0]))
        parts = (slice(0, border), slice(border, len(voxels)))
        for side, part in enumerate(parts):
            header, places = self._headers[side], voxels[part] - self._vertices[0] * side
            size = self._vertices[side] * header.dtype.itemsize
            # Behind the values an MGH file may hold further text: nothing to be checked there.
            stream = volumes(self._paths[side], header.offset, size, number, whole=False)
            for trial, values in enumerate(stream):
                found[trial, part] = np.frombuffer(values, dtype=header.dtype)[places]
        return found


def open_hdf5(path: Path) -> Any:
    """Open an HDF5 file for reading."""
    import h5py

    try:
        return h5py.File(path, "r")
    except OSError as error:  # not HDF5, or cut short
        raise damaged(path, error, DOWNLOAD) from error


def wrong_shape(path: Path, given: tuple[int, ...], expected: str) -> InputError:
    """Return the error for an array whose axes are not as they should be."""
    return InputError(f"{path} has the wrong shape", given=str(tuple(given)), expected=expected, todo=DOWNLOAD)


def percent(values: np.ndarray) -> np.ndarray:
    """Return betas in percent signal change, float32.

    Parameters
    ----------
    values : array
        As on disk: int16 are divided by 300.
    """
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    return np.divide(values, PERCENT, dtype=np.float32)
