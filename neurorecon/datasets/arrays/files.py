"""Arrays on disk, opened without being read: .npy, .npz, .h5, .zarr.

What is opened has ``shape``, ``dtype`` and takes slices; only the part that a slice names is read. Nothing here
unpickles: an array of Python objects is refused, whatever the format.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neurorecon.datasets.arrays.hierarchies import open_hdf5, open_zarr
from neurorecon.datasets.arrays.zipped import open_npz
from neurorecon.datasets.images import damaged
from neurorecon.errors import InputError, MissingFileError, NeuroreconError

#: Endings of the formats.
SUFFIXES = (".npy", ".npz", ".h5", ".hdf5", ".zarr")


@dataclass(frozen=True)
class ArrayFile:
    """An array that stays on disk (or in the memory of the caller) until slices of it are read.

    Parameters
    ----------
    where : str
        Its name in messages.
    values : object
        With ``shape``, ``dtype`` and slices: a memory map, an HDF5 data set, a Zarr array, a NumPy or dask array.
    path : path, optional
        The file.
    """

    where: str
    values: Any
    path: Path | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return tuple(int(size) for size in self.values.shape)

    @property
    def dtype(self) -> np.dtype:
        """Type of the array."""
        return np.dtype(self.values.dtype)

    def __getitem__(self, part: Any) -> np.ndarray:
        """Read a part.

        Raises
        ------
        InputError
            Where the file is damaged there.
        """
        try:
            return np.asarray(self.values[part])
        except NeuroreconError:
            raise
        except Exception as error:  # zlib, blosc, HDF5 and Zarr each have their own for a damaged chunk
            if self.path is None:
                raise
            raise damaged(self.path, error) from error


def open_array(path: Path, key: str | None, default: str) -> ArrayFile:
    """Open an array of numbers.

    Parameters
    ----------
    path : path
        Its ending says which format it is.
    key : str, optional
        Name of the array inside .npz, .h5 or .zarr.
    default : str
        The name that is taken where there are several arrays and no `key`.

    Raises
    ------
    MissingFileError, InputError
        Where the file is not there, is damaged, holds no such array, or holds anything but numbers.
    """
    if not path.exists():
        raise MissingFileError(
            f"{path} is missing", given="no such file", expected="an array", todo="check the name of the file"
        )
    suffix = path.suffix.lower()
    if suffix == ".npy":
        values = _open_npy(path)
    elif suffix == ".npz":
        values = open_npz(path, key, default)
    elif suffix in (".h5", ".hdf5"):
        values = open_hdf5(path, key, default)
    else:
        values = open_zarr(path, key, default)
    found = ArrayFile(str(path), values, path)
    check_numbers(found)
    return found


def check_numbers(array: ArrayFile) -> None:
    """Refuse arrays of anything but real numbers, and empty ones."""
    if array.dtype.kind not in "fiub":
        raise InputError(
            f"{array.where} holds no real numbers",
            given=f"an array of {array.dtype}",
            expected="floats or integers",
            todo="save it as float32: numpy.save(path, array.astype('float32'))",
        )
    if 0 in array.shape:
        raise InputError(
            f"{array.where} is empty",
            given=f"an array of shape {array.shape}",
            expected="at least one value",
            todo="check the program that wrote it",
        )


def _open_npy(path: Path) -> np.ndarray:
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except (ValueError, OSError, EOFError) as error:
        if "object" in str(error).lower():
            raise holds_objects(path) from error
        raise damaged(path, error) from error


def holds_objects(path: Path) -> InputError:
    """Return the error for an array of Python objects, which only a pickle can hold and which is never loaded."""
    return InputError(
        f"{path} holds Python objects instead of numbers",
        given="an array of objects; loading it could run any program",
        expected="an array of numbers of one shape",
        todo="save it again as numbers: numpy.save(path, numpy.asarray(values, dtype='float32'))",
    )
