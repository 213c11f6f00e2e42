"""Read samples for torch decoders from arrays in memory or on disk, in shuffled batches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurorecon.errors import InputError

#: Number of values read at once from arrays on disk: 128 MB in single precision.
READ_VALUES = 2**25

#: Name of targets given as a single array.
ONLY = ""

#: Indices of samples.
Indices = NDArray[np.int64]


class Rows:
    """Read rows of an array of shape (sample, ...) in memory, memory-mapped or on disk.

    Parameters
    ----------
    array : array, shape (sample, ...)
        NumPy array, memory map, array-like, or dask, xarray or Zarr array. Lazy arrays are never loaded as a whole.
    dtype : str
        Type of the returned rows.
    what : str
        Content of the array, for messages.
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
        """Return consecutive rows."""
        # dask and xarray compute when NumPy asks for their values.
        return np.asarray(self._array[start:stop]).astype(self._dtype, copy=False)

    def blocks(self) -> Iterator[tuple[int, NDArray]]:
        """Yield ``(first_row, rows)`` in order, and check that values are finite."""
        step = max(1, READ_VALUES // 8 // max(1, self.values_per_row)) if self.in_memory else self.chunk()
        for start in range(0, self.n_samples, step):
            values = self.read(start, min(start + step, self.n_samples))
            wrong = int((~np.isfinite(values)).sum())
            if wrong:
                raise InputError(
                    f"{self._what} contain NaN or infinity, or values too large for the precision",
                    given=f"{wrong} values in samples {start} to {start + len(values) - 1}",
                    expected=f"finite numbers that fit into {self._dtype}",
                    todo="drop missing samples or targets",
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
        If targets are missing, not numbers, or have another number of samples.
    """
    if isinstance(y, Mapping):
        if not y or not all(isinstance(name, str) and name for name in y):
            raise InputError(
                "each of several targets needs a name", given=f"names {list(y)}", expected="a dict of str to array"
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
    """Statistics from one pass through an array.

    Parameters
    ----------
    count : int
        Number of chosen samples.
    mean, squares : array, float64, shape (...)
        Their mean and their sum of squared deviations, which is exactly 0 for values that do not vary.
    digest : str
        SHA-256 of all values in order.
    """

    count: int
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]
    digest: str

    def standard(self, standardize: bool) -> Standard:
        """Return mean and standard deviation, or 0 and 1 without standardization."""
        if not standardize:
            return Standard(np.zeros_like(self.mean), np.ones_like(self.mean))
        return Standard(self.mean, np.sqrt(np.where(self.squares > 0, self.squares / max(1, self.count), 1.0)))


def survey(rows: Rows, chosen: NDArray[np.bool_] | None = None) -> Survey:
    """Check that an array is finite, and compute its mean, variation and digest, in one pass.

    Parameters
    ----------
    rows : Rows
        The array.
    chosen : bool array, shape (sample,), optional
        Samples included in mean and variation; all by default.
    """
    digest = hashlib.sha256(f"{rows.n_samples} {rows.shape}".encode())
    count, mean, squares = 0, np.zeros(rows.shape), np.zeros(rows.shape)
    for start, values in rows.blocks():
        digest.update(np.ascontiguousarray(values).data)
        if chosen is not None:
            values = values[chosen[start : start + len(values)]]
        if not len(values):
            continue
        # Deviations from the mean of each block keep precision if the mean is far above the variation.
        block_mean = values.mean(axis=0, dtype=np.float64)
        total, change = count + len(values), block_mean - mean
        squares += ((values - block_mean) ** 2).sum(axis=0) + change**2 * (count * len(values) / total)
        mean += change * (len(values) / total)
        count = total
    # Rounding leaves a trace of variation in constants.
    least = count * (10 * np.finfo(np.float64).eps * np.abs(mean)) ** 2
    return Survey(count, mean, np.where(squares > least, squares, 0.0), digest.hexdigest())


class SampleReader:
    """Dataset of inputs and targets for :class:`torch.utils.data.DataLoader`, which reads whole batches.

    Arrays on disk are read in windows of consecutive samples. A window is kept until a batch of another one is
    requested.

    Parameters
    ----------
    inputs : Rows
        Inputs, in memory.
    targets : dict of str to Rows
        Targets by name.
    window : int, optional
        Number of samples in a window. By default all samples if everything is in memory, otherwise whole chunks of
        about 128 MB.
    """

    def __init__(self, inputs: Rows, targets: Mapping[str, Rows], window: int | None = None) -> None:
        self.inputs, self.targets = inputs, targets
        on_disk = [rows.chunk() for rows in targets.values() if not rows.in_memory]
        self.window = min(window or min(on_disk, default=inputs.n_samples), inputs.n_samples)
        self._start, self._kept = -1, {name: np.empty(0) for name in targets}

    def __len__(self) -> int:
        return self.inputs.n_samples

    def __getitems__(self, rows: list[int]) -> tuple[NDArray, dict[str, NDArray]]:
        """Return inputs and targets of samples in one window."""
        chosen = np.asarray(rows, dtype=np.int64)
        found = {}
        for name, source in self.targets.items():
            if source.in_memory:
                found[name] = source.take(chosen)
            else:
                start = int(chosen[0]) // self.window * self.window
                self._read(start)
                found[name] = self._kept[name][chosen - start]
        return self.inputs.take(chosen), found

    def _read(self, start: int) -> None:
        if start == self._start:
            return
        stop = min(start + self.window, len(self))
        self._kept = {}  # free memory before reading more
        self._kept = {name: rows.read(start, stop) for name, rows in self.targets.items() if not rows.in_memory}
        self._start = start


class Batches:
    """Batch sampler for :class:`torch.utils.data.DataLoader`.

    An epoch visits windows in random order, and the samples in each window in random order. The order only depends on
    the seed and the number of the epoch, so it is the same after resuming.

    Parameters
    ----------
    rows : array of int
        Indices of the samples.
    batch_size : int
        Maximum number of samples in a batch. Batches of a window have nearly equal sizes.
    window : int
        Number of samples in a window; see :class:`SampleReader`.
    seed : int, optional
        Seed. By default, samples are not shuffled.
    """

    def __init__(self, rows: Indices, batch_size: int, window: int, seed: int | None = None) -> None:
        ordered = np.sort(rows)
        edges = np.searchsorted(ordered, np.arange(0, ordered[-1] + window + 1, window))
        self._windows = [ordered[first:last] for first, last in pairwise(edges) if last > first]
        self._batch_size, self._seed, self.epoch = batch_size, seed, 0

    def __len__(self) -> int:
        return sum(-(-len(window) // self._batch_size) for window in self._windows)

    def __iter__(self) -> Iterator[list[int]]:
        windows = self._windows
        if self._seed is not None:
            generator = np.random.default_rng([self._seed, self.epoch])
            order = generator.permutation(len(windows))
            windows = [generator.permutation(windows[number]) for number in order]
        for window in windows:
            for batch in np.array_split(window, -(-len(window) // self._batch_size)):
                yield batch.tolist()


def split_samples(
    n_samples: int, groups: Any, validation: Any, fraction: float | None, seed: int
) -> tuple[Indices, Indices]:
    """Return indices of training and validation samples, without splitting groups.

    Parameters
    ----------
    n_samples : int
        Number of samples.
    groups : array, shape (sample,), optional
        Group of each sample.
    validation : bool array, shape (sample,), or array of int, optional
        Mask or indices of validation samples chosen by the caller.
    fraction : float, optional
        Fraction of the groups (without groups, of the samples) to draw at random for validation. 0 or None disables
        validation.
    seed : int
        Seed of the random choice.

    Raises
    ------
    InputError
        If a group is split, or there are no training or no validation samples.
    """
    from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit

    from neurorecon.decoders.validation import as_labels, group_folds

    labels = None if groups is None else as_labels(groups, n_samples)
    everything = np.arange(n_samples)
    if validation is not None:
        chosen = _chosen(n_samples, validation)
        folds = group_folds(n_samples, labels, [(everything[~chosen], everything[chosen])])
        return folds[0]
    if not fraction:
        return everything, everything[:0]
    n_groups = n_samples if labels is None else len(np.unique(labels))
    if not 0 < fraction < 1 or n_groups < 2:
        raise InputError(
            "no samples can be held out for validation",
            given=f"validation_fraction={fraction!r}, {n_groups} {'samples' if labels is None else 'groups'}",
            expected="a fraction between 0 and 1, and two groups or more",
            todo="set validation_fraction=0 to train without validation",
        )
    # Keep at least one group on each side.
    held_out = min(n_groups - 1, int(np.ceil(fraction * n_groups)))
    splitter = ShuffleSplit if labels is None else GroupShuffleSplit
    ((train, test),) = group_folds(n_samples, labels, splitter(1, test_size=held_out, random_state=seed))
    return np.sort(train), np.sort(test)


def _chosen(n_samples: int, validation: Any) -> NDArray[np.bool_]:
    chosen = np.asarray(validation)
    if chosen.dtype == bool and chosen.shape == (n_samples,):
        return chosen
    mask = np.zeros(n_samples, dtype=bool)
    usable = chosen.ndim == 1 and chosen.dtype.kind in "iu" and chosen.size > 0
    if not usable or chosen.min() < 0 or chosen.max() >= n_samples:
        raise InputError(
            "`validation` must be a mask or indices of samples",
            given=f"{chosen.dtype} of shape {chosen.shape}",
            expected=f"bool of shape ({n_samples},), or integers from 0 to {n_samples - 1}",
        )
    mask[chosen] = True
    return mask
