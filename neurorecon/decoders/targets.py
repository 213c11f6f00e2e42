"""Read and write targets of any shape, in memory or on disk, in blocks of columns."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurorecon.errors import InputError

#: Default number of values in a block of targets: 128 MB in single precision.
_BLOCK_VALUES = 2**25


class Targets:
    """View targets of shape (sample, ...) as (sample, target), and read them in blocks.

    Parameters
    ----------
    y : array, shape (sample, ...)
        NumPy array, memory map, or dask, xarray or Zarr array (or any object with a shape, a dtype and slicing). Lazy
        arrays are never loaded as a whole.
    dtype : str
        Precision of the blocks.
    block : int, optional
        Number of targets in a block; by default as many as fit in 128 MB.
    missing : bool
        Whether NaN marks missing targets. Otherwise, NaN raises an error.

    Attributes
    ----------
    shape : tuple of int
        Shape of one target.
    names : tuple of str
        Names of its axes, if `y` is an xarray array.
    parts : dict of str to list of int
        Where parts of the flattened target begin, and where the last one ends, from attributes such as
        ``group_boundaries`` (of ``vdvae``) and ``layer_boundaries`` (of ``clip_layers``), by the name before the
        underscore.
    n_samples, n_targets : int
        Numbers of samples and of flattened targets.

    Raises
    ------
    InputError
        If targets are not an array of numbers with a sample axis. NaN and infinity raise it on reading.
    """

    def __init__(self, y: Any, dtype: str, block: int | None = None, *, missing: bool = False) -> None:
        if y is None:
            raise InputError("this estimator requires y to be passed, but the target y is None")
        self.names: tuple[str, ...] = ()
        self.parts: dict[str, list[int]] = {}
        if type(y).__module__.startswith("xarray"):
            self.names = tuple(str(name) for name in y.dims[1:])
            ends = "_boundaries"
            self.parts = {key.removesuffix(ends): list(y.attrs[key]) for key in y.attrs if str(key).endswith(ends)}
            y = y.data
        lazy = hasattr(y, "shape") and hasattr(y, "dtype") and hasattr(y, "__getitem__")
        if not lazy or isinstance(y, np.ndarray) or type(y).__module__.startswith("pandas"):
            y = _plain(y)
        if len(y.shape) == 0:
            raise InputError("targets need a sample axis", given="a single number", expected="shape (sample, ...)")
        self.shape: tuple[int, ...] = tuple(int(size) for size in y.shape[1:])
        self.n_samples = int(y.shape[0])
        self.n_targets = int(np.prod(self.shape, dtype=np.int64))
        self._columns = FlatColumns(y, self.n_samples, self.shape)
        self._dtype = dtype
        self._block = block or max(1, _BLOCK_VALUES // max(1, self.n_samples))
        self._missing = missing

    def column_blocks(self) -> Iterator[slice]:
        """Yield the columns of each block."""
        return self._columns.blocks(self._block)

    def blocks(self) -> Iterator[tuple[slice, NDArray]]:
        """Yield ``(columns, values)``, where values is a NumPy array of shape (sample, target)."""
        for block in self.column_blocks():
            values = np.asarray(self._columns[block]).astype(self._dtype, copy=False)
            if not _all_finite(values):
                wrong = np.isinf(values) if self._missing else ~np.isfinite(values)
                if wrong.any():
                    raise InputError(
                        f"targets contain {'' if self._missing else 'NaN or '}infinity, or values too large "
                        "for the precision",
                        given=f"{int(wrong.sum())} of targets {block.start} to {block.stop - 1}",
                        expected=f"finite numbers that fit into {self._dtype}",
                        todo="drop missing samples or targets"
                        + ("" if self._missing else ", or use missing='omit' if NaN marks missing targets"),
                    )
            yield block, values
            release_pages(self._columns.array)


class TargetPart:
    """A subset of samples and targets, read in blocks.

    Parameters
    ----------
    whole : Targets
        All targets.
    rows : int array, shape (sample,)
        Indices of the samples.
    columns : int array, shape (target,)
        Indices of the flattened targets, ascending.
    """

    def __init__(self, whole: Targets, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> None:
        self.whole, self.rows, self.columns = whole, rows, columns
        self.n_samples, self.n_targets = len(rows), len(columns)

    def blocks(self) -> Iterator[tuple[NDArray[np.int64], NDArray]]:
        """Yield ``(columns, values)``: indices among all targets, and values of shape (sample, target)."""
        for block, values in self.whole.blocks():
            first, last = np.searchsorted(self.columns, (block.start, block.stop))
            if last > first:
                columns = self.columns[first:last]
                yield columns, values[np.ix_(self.rows, columns - block.start)]


#: Types that yield blocks of targets.
Blocks = Targets | TargetPart


class FlatColumns:
    """Read and write columns of an array of shape (sample, ...) as if it had the shape (sample, target).

    Parameters
    ----------
    array : array
        NumPy, dask or Zarr array, or any object that supports slicing.
    n_samples : int
        Number of samples.
    shape : tuple of int
        Shape of one target.
    """

    def __init__(self, array: Any, n_samples: int, shape: tuple[int, ...]) -> None:
        self.n_samples, self.shape = n_samples, shape
        self.n_targets = int(np.prod(shape, dtype=np.int64))
        self.array = array
        # Number of columns per position along the first axis of a target: the step for arrays without reshape.
        self.item = 1
        if len(array.shape) != 2:
            if hasattr(array, "reshape"):
                self.array = array.reshape((n_samples, self.n_targets))
            elif len(array.shape) > 2:
                self.item = int(np.prod(shape[1:], dtype=np.int64))

    def blocks(self, size: int) -> Iterator[slice]:
        """Yield slices of about `size` columns."""
        step = max(1, size // self.item) * self.item
        for start in range(0, self.n_targets, step):
            yield slice(start, min(start + step, self.n_targets))

    def __getitem__(self, block: slice) -> Any:
        if len(self.array.shape) == 1:
            return np.asarray(self.array[:]).reshape(-1, 1)
        if self.item == 1:
            return self.array[:, block]
        return np.asarray(self.array[:, self._items(block)]).reshape(self.n_samples, -1)

    def __setitem__(self, block: slice, values: NDArray) -> None:
        if len(self.array.shape) == 1:
            self.array[:] = values[:, 0]
        elif self.item == 1:
            self.array[:, block] = values
        else:
            places = self._items(block)
            self.array[:, places] = values.reshape(self.n_samples, places.stop - places.start, *self.shape[1:])
        release_pages(self.array)

    def _items(self, block: slice) -> slice:
        return slice(block.start // self.item, block.stop // self.item)


def output_columns(out: Any, n_samples: int, shape: tuple[int, ...], dtype: str) -> tuple[Any, FlatColumns]:
    """Return an output array (the given one or a new one) and its columns.

    Parameters
    ----------
    out : array or None
        NumPy array, memory map or Zarr array, flattened or in the shape of the targets. If None, create an array.
    n_samples : int
        Number of samples.
    shape : tuple of int
        Shape of one target.
    dtype : str
        Type of a new array.

    Returns
    -------
    out : array
        Output array.
    columns : FlatColumns
        Its columns.

    Raises
    ------
    InputError
        If `out` has the wrong shape or is not contiguous.
    """
    n_targets = int(np.prod(shape, dtype=np.int64))
    if out is None:
        out = np.empty((n_samples, *shape), dtype=dtype)
    found = tuple(getattr(out, "shape", ()))
    if found not in ((n_samples, *shape), (n_samples, n_targets)) or not hasattr(out, "__setitem__"):
        raise InputError(
            "predictions do not fit into `out`",
            given=f"{type(out).__name__} of shape {found}",
            expected=f"a writable array of shape {(n_samples, *shape)} or {(n_samples, n_targets)}",
        )
    columns = FlatColumns(out, n_samples, shape if found == (n_samples, *shape) else (n_targets,))
    if isinstance(out, np.ndarray) and not np.shares_memory(out, columns.array) and out.size:
        raise InputError(
            "`out` cannot be written to in blocks",
            given=f"an array with strides {out.strides}",
            expected="a contiguous array",
            todo="pass np.empty(shape) or an np.memmap",
        )
    return out, columns


def release_pages(array: Any) -> None:
    """Release the pages of a memory map, which would otherwise count as used memory until it is closed.

    Written data stay in the file. Copy-on-write maps are not changed.
    """
    pages = getattr(array, "_mmap", None)
    if isinstance(array, np.memmap) and pages is not None and array.mode != "c" and hasattr(mmap, "MADV_DONTNEED"):
        pages.madvise(mmap.MADV_DONTNEED)


def _all_finite(values: NDArray) -> bool:
    """Return whether all values are finite; also False if their sum overflows."""
    # A sum only reads the block, whereas np.isfinite writes another one.
    with np.errstate(over="ignore", invalid="ignore"):
        return values.dtype.kind != "f" or bool(np.isfinite(values.sum()))


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
