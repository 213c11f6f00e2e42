"""Which samples a network is trained on, which it is validated on, and how they are read by batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurorecon.decoders.neural.rows import Indices, Rows
from neurorecon.errors import InputError


class Samples:
    """Inputs and targets of chosen samples, as :class:`torch.utils.data.DataLoader` reads them: batch by batch.

    Arrays on disk are read a window at a time, a stretch of adjoining samples that is kept until a batch of
    another window is asked for.

    Parameters
    ----------
    inputs : Rows
        Of shape (sample, ...), in memory.
    targets : dict of str to Rows
        By name.
    window : int, optional
        Samples of a window. By default all where everything is in memory, else whole chunks of about 128 MB.
    """

    def __init__(self, inputs: Rows, targets: Mapping[str, Rows], window: int | None = None) -> None:
        self.inputs, self.targets = inputs, targets
        on_disk = [rows.chunk() for rows in targets.values() if not rows.in_memory]
        self.window = min(window or min(on_disk, default=inputs.n_samples), inputs.n_samples)
        self._start, self._kept = -1, {name: np.empty(0) for name in targets}

    def __len__(self) -> int:
        return self.inputs.n_samples

    def __getitems__(self, rows: list[int]) -> tuple[NDArray, dict[str, NDArray]]:
        """Return inputs and targets of samples that lie in one window."""
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
        self._kept = {}  # given back before more is read
        self._kept = {name: rows.read(start, stop) for name, rows in self.targets.items() if not rows.in_memory}
        self._start = start


class Batches:
    """Which samples make up each batch of an epoch; a batch sampler of :class:`torch.utils.data.DataLoader`.

    An epoch goes through windows in random order, and within each through its samples in random order. The
    order follows from the seed and the number of the epoch alone, so that it is the same after a resumption.

    Parameters
    ----------
    rows : array of int
        The samples.
    batch_size : int
        Samples of a batch at most; batches of one window are of nearly equal size.
    window : int
        Samples of a window, see :class:`Samples`.
    seed : int, optional
        Without, samples come in their own order.
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
    """Return the samples to train on and those to validate on, those of a group on one side.

    Parameters
    ----------
    n_samples : int
        How many there are.
    groups : array, shape (sample,), optional
        Labels of the samples.
    validation : bool array, shape (sample,), or array of int, optional
        The samples to validate on, where the caller chose them.
    fraction : float, optional
        Share of the groups (without them, of the samples) to validate on, drawn at random. 0 or None is none.
    seed : int
        Of the draw.

    Raises
    ------
    InputError
        Where samples of a group were chosen for both sides, or one side has none.
    """
    from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit

    from neurorecon.decoders.folds import group_folds

    labels = None if groups is None else np.asarray(groups)
    if labels is not None and labels.shape != (n_samples,):
        raise InputError(
            "`groups` needs one label for each sample", given=f"shape {labels.shape}", expected=f"({n_samples},)"
        )
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
            "no samples can be held out to validate on",
            given=f"validation_fraction={fraction!r}, {n_groups} {'samples' if labels is None else 'groups'}",
            expected="a fraction between 0 and 1, and two groups or more",
            todo="set validation_fraction=0 to train without validation",
        )
    # At least one group stays on each side.
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
            "the samples to validate on are not given as samples",
            given=f"{chosen.dtype} of shape {chosen.shape}",
            expected=f"bool of shape ({n_samples},), or numbers of samples from 0 to {n_samples - 1}",
        )
    mask[chosen] = True
    return mask
