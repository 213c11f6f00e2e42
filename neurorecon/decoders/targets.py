"""Targets of any shape, in memory or not, as blocks of columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurorecon.errors import InputError

#: Values of a block of targets by default: 128 MB in single precision.
_BLOCK_VALUES = 2**25


class Targets:
    """Targets of shape (sample, ...) seen as (sample, target), read block by block.

    Parameters
    ----------
    y : array, shape (sample, ...)
        A NumPy array or memory map, or a dask, xarray or Zarr array, which is never loaded whole.
        (A Zarr array with more than two dimensions has to come wrapped in dask or xarray.)
    dtype : str
        Precision of the blocks.
    block : int, optional
        Targets in a block; by default as many as fit into 128 MB.
    """

    def __init__(self, y: Any, dtype: str, block: int | None = None) -> None:
        if y is None:
            raise InputError("this estimator requires y to be passed, but the target y is None")
        if type(y).__module__.startswith("xarray"):
            y = y.data
        lazy = hasattr(y, "shape") and hasattr(y, "dtype") and hasattr(y, "__getitem__")
        if not lazy or isinstance(y, np.ndarray) or type(y).__module__.startswith("pandas"):
            y = _plain(y)
        if y.ndim == 0:
            raise InputError("targets need a sample axis", given="a single number", expected="shape (sample, ...)")
        self.shape: tuple[int, ...] = tuple(y.shape[1:])
        self.n_samples = int(y.shape[0])
        self.n_targets = int(np.prod(self.shape, dtype=np.int64))
        self._y = y if len(self.shape) == 1 else y.reshape((self.n_samples, self.n_targets))
        self._dtype = dtype
        self._block = block or max(1, _BLOCK_VALUES // max(1, self.n_samples))

    def blocks(self) -> Iterator[tuple[slice, NDArray]]:
        """Yield ``(columns, values)``, values a NumPy array of shape (sample, target)."""
        for start in range(0, self.n_targets, self._block):
            block = slice(start, min(start + self._block, self.n_targets))
            values = np.asarray(self._y[:, block]).astype(self._dtype, copy=False)
            if not np.isfinite(values).all():
                raise InputError(
                    "targets contain NaN or infinity, or values too large for the precision",
                    given=f"{int((~np.isfinite(values)).sum())} of targets {start} to {block.stop - 1}",
                    expected=f"finite numbers that fit into {self._dtype}",
                    todo="leave out the samples or targets that are missing",
                )
            yield block, values


def _plain(y: Any) -> NDArray:
    """Return a NumPy array of numbers."""
    array = np.asarray(y)
    if array.dtype.kind == "c":
        raise InputError("Complex data not supported", given=f"targets of type {array.dtype}")
    if array.dtype.kind not in "fiub":
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(
                "targets are not numbers",
                given=f"values of type {array.dtype}",
                expected="an array of numbers",
            ) from error
    return array
