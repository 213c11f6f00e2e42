"""Arrays that networks are trained on: rows read in blocks, and what one pass through them says."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurorecon.errors import InputError

#: Values that are read at once from arrays on disk: 128 MB in single precision.
READ_VALUES = 2**25

#: Name of the targets where they are one array rather than several by name.
ONLY = ""

#: Indices of samples.
Indices = NDArray[np.int64]


class Rows:
    """An array of shape (sample, ...) of which rows are read: in memory, memory-mapped, or on disk.

    Parameters
    ----------
    array : array, shape (sample, ...)
        NumPy array or memory map, anything NumPy makes an array of, or a dask, xarray or Zarr array, which is
        never loaded whole.
    dtype : str
        Type of the rows that are returned.
    what : str
        What the array holds, for messages.
    """

    def __init__(self, array: Any, dtype: str, what: str = "targets") -> None:
        if array is None:
            raise InputError(f"this estimator requires y to be passed, but the {what.rstrip('s')} y is None")
        lazy = all(hasattr(array, name) for name in ("shape", "dtype", "__getitem__"))
        if not lazy or isinstance(array, np.ndarray) or type(array).__module__.startswith("pandas"):
            array = np.asarray(array)
        self.in_memory = isinstance(array, np.ndarray)
        if self.in_memory:
            array = _numbers(array, what)
        if len(array.shape) == 0:
            raise InputError(f"{what} need a sample axis", given="a single number", expected="shape (sample, ...)")
        self.shape: tuple[int, ...] = tuple(int(length) for length in array.shape[1:])
        self.n_samples = int(array.shape[0])
        self.values_per_row = int(np.prod(self.shape, dtype=np.int64))
        self._array, self._dtype, self._what = array, dtype, what

    def take(self, rows: Indices) -> NDArray:
        """Return rows of an array in memory, in any order."""
        return self._array[rows].astype(self._dtype, copy=False)

    def read(self, start: int, stop: int) -> NDArray:
        """Return adjoining rows."""
        # dask and xarray compute when NumPy asks for their values.
        return np.asarray(self._array[start:stop]).astype(self._dtype, copy=False)

    def blocks(self) -> Iterator[tuple[int, NDArray]]:
        """Yield ``(first row, rows)`` one after the other, all of finite numbers."""
        step = max(1, READ_VALUES // 8 // max(1, self.values_per_row)) if self.in_memory else self.chunk()
        for start in range(0, self.n_samples, step):
            values = self.read(start, min(start + step, self.n_samples))
            wrong = int((~np.isfinite(values)).sum())
            if wrong:
                raise InputError(
                    f"{self._what} contain NaN or infinity, or values too large for the precision",
                    given=f"{wrong} values in samples {start} to {start + len(values) - 1}",
                    expected=f"finite numbers that fit into {self._dtype}",
                    todo="leave out the samples or targets that are missing",
                )
            yield start, values

    def chunk(self) -> int:
        """Return how many rows to read at once from disk: whole chunks, at least one, about 128 MB."""
        rows = max(1, READ_VALUES // max(1, self.values_per_row))
        chunks = getattr(self._array, "chunks", None)
        if not chunks:
            return rows
        stored = int(chunks[0][0] if isinstance(chunks[0], tuple) else chunks[0])
        return max(stored, rows - rows % stored)


def _numbers(array: NDArray, what: str) -> NDArray:
    if array.dtype.kind == "c":
        raise InputError("Complex data not supported", given=f"{what} of type {array.dtype}")
    if array.dtype.kind in "fiub":
        return array
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{what} are not numbers", given=f"values of type {array.dtype}", expected="an array of numbers"
        ) from error


def rows_of_targets(y: Any, dtype: str, n_samples: int | None = None) -> dict[str, Rows]:
    """Return the targets by name; one array has the name :data:`ONLY`.

    Raises
    ------
    InputError
        Where targets are missing, not numbers, or of another number of samples.
    """
    if isinstance(y, Mapping):
        if not y or not all(isinstance(name, str) and name for name in y):
            raise InputError(
                "several targets need a name each", given=f"names {list(y)}", expected="a dict of str to array"
            )
        targets = {name: Rows(array, dtype, f"targets {name!r}") for name, array in y.items()}
    else:
        targets = {ONLY: Rows(y, dtype)}
    for name, rows in targets.items():
        if n_samples is not None and rows.n_samples != n_samples:
            raise InputError(
                "responses and targets have different numbers of samples (inconsistent lengths)",
                given=f"X {n_samples}, y {rows.n_samples}" + (f" ({name!r})" if name else ""),
                expected="one row of targets for each sample",
            )
    return targets


@dataclass(frozen=True)
class Standard:
    """Mean and scale of each value over the training samples.

    Parameters
    ----------
    mean, scale : array, float64, shape (...)
        A value that does not vary has the scale 1.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]


@dataclass(frozen=True)
class Survey:
    """What one pass through an array says.

    Parameters
    ----------
    count : int
        Samples that were chosen.
    mean, squares : array, float64, shape (...)
        Their mean, and their sum of squares about it, exactly 0 for values that do not vary.
    digest : str
        SHA-256 of all values in order.
    """

    count: int
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]
    digest: str

    def standard(self, standardize: bool) -> Standard:
        """Return mean and standard deviation, or what changes nothing."""
        if not standardize:
            return Standard(np.zeros_like(self.mean), np.ones_like(self.mean))
        return Standard(self.mean, np.sqrt(np.where(self.squares > 0, self.squares / max(1, self.count), 1.0)))


def survey(rows: Rows, chosen: NDArray[np.bool_] | None = None) -> Survey:
    """Go once through an array: are all numbers finite, what is their mean and variation, what is their digest.

    Parameters
    ----------
    rows : Rows
        The array.
    chosen : bool array, shape (sample,), optional
        Samples that mean and variation are taken of; by default all.
    """
    digest = hashlib.sha256(f"{rows.n_samples} {rows.shape}".encode())
    count, mean, squares = 0, np.zeros(rows.shape), np.zeros(rows.shape)
    for start, values in rows.blocks():
        digest.update(np.ascontiguousarray(values).data)
        if chosen is not None:
            values = values[chosen[start : start + len(values)]]
        if not len(values):
            continue
        # Squares about the mean of each block: a mean far above the variation then costs no precision.
        block_mean = values.mean(axis=0, dtype=np.float64)
        total, change = count + len(values), block_mean - mean
        squares += ((values - block_mean) ** 2).sum(axis=0) + change**2 * (count * len(values) / total)
        mean += change * (len(values) / total)
        count = total
    # Rounding leaves a trace of variation in constants.
    least = count * (10 * np.finfo(np.float64).eps * np.abs(mean)) ** 2
    return Survey(count, mean, np.where(squares > least, squares, 0.0), digest.hexdigest())
