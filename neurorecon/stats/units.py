"""Permutations of samples in which what belongs together stays together."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurorecon.errors import InputError
from neurorecon.stats.permutation import stimulus_permutations


class UnitPermutations:
    """Orders of samples in which units of samples trade places as wholes.

    A unit is a stimulus with all its repeats, or a run (a stretch) of a time series. Its samples keep their order:
    the first repeat goes where a first repeat was. Units trade places only with units of the same size, so that
    every permutation of responses is a permutation of rows and the features never have to be factorized again.

    Parameters
    ----------
    units : array, shape (sample,), optional
        A label for each sample. By default each sample is a unit.
    n_samples : int
        Number of samples.
    within : array, shape (sample,), optional
        A label for each sample, the same for all samples of a unit (e.g. its session): only units of the same label
        trade places.
    n_permutations, seed : int
        How many orders, and where they come from.

    Attributes
    ----------
    labels : int array, shape (sample,)
        The number of each sample's unit, in order of first appearance.
    first : int array, shape (unit,)
        The first sample of each unit.
    repeats : bool
        Whether there are fewer units than samples.
    orders : int array, shape (permutation, unit)
        Which unit comes to the place of each.

    Raises
    ------
    InputError
        Where shapes do not fit, a unit has several labels, or no unit may trade places with another.
    """

    def __init__(
        self,
        n_samples: int,
        n_permutations: int,
        seed: int,
        units: ArrayLike | None = None,
        within: ArrayLike | None = None,
    ) -> None:
        self.n_samples = n_samples
        self.labels = _numbered(units, n_samples, "units")
        sizes = np.bincount(self.labels)
        strata = _numbered(within, n_samples, "within") if within is not None else np.zeros(n_samples, dtype=np.int64)
        of_unit = np.zeros(len(sizes), dtype=np.int64)
        of_unit[self.labels] = strata
        if (of_unit[self.labels] != strata).any():
            raise InputError(
                "the samples of a unit have different labels in `within`",
                given=f"{len(np.unique(self.labels[of_unit[self.labels] != strata]))} such units",
                expected="one label for all samples of a unit",
                todo="label repeats by session too, or permute across sessions",
            )
        kinds = np.unique(np.stack([of_unit, sizes]), axis=1, return_inverse=True)[1].ravel()
        if np.bincount(kinds).max() < 2:
            raise InputError(
                "no two of these units may trade places",
                given=f"{len(sizes)} units of {len(np.unique(sizes))} sizes",
                expected="units of the same number of samples",
                todo="average responses over the repeats of each stimulus, or cut series into stretches of one length",
            )
        self.orders = stimulus_permutations(len(sizes), n_permutations, seed, kinds)
        self._rows = np.argsort(self.labels, kind="stable")
        self._starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        self._unit = self.labels[self._rows]
        self.first = self._rows[self._starts]
        self.repeats = len(sizes) < n_samples
        self._offset = np.arange(n_samples) - self._starts[self._unit]

    def __len__(self) -> int:
        return len(self.orders)

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        """Yield for each order which sample comes to each place, int arrays of shape (sample,)."""
        return map(self.rows, self.orders)

    def rows(self, order: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return which sample comes to each place, (sample,), where unit ``order[u]`` comes to the place of unit u."""
        places = np.empty(self.n_samples, dtype=np.int64)
        places[self._rows] = self._rows[self._starts[order[self._unit]] + self._offset]
        return places

    def sums(self, values: NDArray) -> NDArray:
        """Return the sum of `values`, (sample, ...), over each unit, (unit, ...)."""
        return np.add.reduceat(values[self._rows], self._starts, axis=0)


def _numbered(labels: ArrayLike | None, n_samples: int, name: str) -> NDArray[np.int64]:
    if labels is None:
        return np.arange(n_samples)
    array = np.asarray(labels)
    if array.shape != (n_samples,):
        raise InputError(
            f"`{name}` needs one label for each training sample",
            given=f"shape {array.shape}",
            expected=f"({n_samples},)",
        )
    _, first, inverse = np.unique(array, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]
