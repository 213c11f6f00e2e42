"""Permutations of stimuli and of larger units, p-values, and correction for multiple comparisons.

All p-values are ``(1 + #{null >= observed}) / (1 + B)``. The observed order counts as one of the possible orders, so
no p-value is 0, and the test is valid for any number of permutations B (Phipson & Smyth, 2010).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from math import factorial, prod

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurorecon.errors import InputError


class UnitPermutations:
    """Random permutations of samples that exchange whole units.

    A unit is a stimulus with all its repeats, or a run (or stretch) of a time series. Samples keep their order within
    a unit. Only units of the same size are exchanged, so that each permutation of the responses is a permutation of
    rows and the features have to be factorized only once.

    Parameters
    ----------
    n_samples : int
        Number of samples.
    n_permutations : int
        Number of permutations.
    seed : int
        Seed of the random number generator.
    units : array, shape (sample,), optional
        Unit of each sample. By default, each sample is its own unit.
    within : array, shape (sample,), optional
        Exchangeability block of each sample, e.g. its session. Units are exchanged only within a block; all samples
        of a unit must be in the same block.

    Attributes
    ----------
    labels : int array, shape (sample,)
        Index of the unit of each sample, in order of first appearance.
    first : int array, shape (unit,)
        Index of the first sample of each unit.
    repeats : bool
        Whether there are fewer units than samples.
    orders : int array, shape (permutation, unit)
        ``orders[b, u]`` is the unit that replaces unit u in permutation b.

    Raises
    ------
    InputError
        If shapes do not match, a unit is in several blocks, or no two units can be exchanged.
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
                todo="make units specific to a session, or permute across sessions",
            )
        kinds = np.unique(np.stack([of_unit, sizes]), axis=1, return_inverse=True)[1].ravel()
        if np.bincount(kinds).max() < 2:
            raise InputError(
                "no two of these units can be exchanged",
                given=f"{len(sizes)} units of {len(np.unique(sizes))} sizes",
                expected="units with equal numbers of samples",
                todo="average responses over the repeats of each stimulus, or cut series into equal stretches",
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
        """Yield the permutation of samples of each order, int arrays of shape (sample,)."""
        return map(self.rows, self.orders)

    def rows(self, order: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the permutation of samples, (sample,), that replaces unit u by unit ``order[u]``."""
        places = np.empty(self.n_samples, dtype=np.int64)
        places[self._rows] = self._rows[self._starts[order[self._unit]] + self._offset]
        return places

    def sums(self, values: NDArray) -> NDArray:
        """Return the sum of `values`, (sample, ...), over the samples of each unit, (unit, ...)."""
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


#: Null and observed statistics that differ by fewer rounding errors than this are ties, which make p larger.
_TIE_ROUNDING_ERRORS = 100


def _tie_threshold(observed: NDArray, dtype: np.dtype) -> NDArray:
    """Return the threshold at which a null statistic counts as large as the observed one."""
    if not np.issubdtype(dtype, np.floating):
        return observed
    tolerance = _TIE_ROUNDING_ERRORS * np.finfo(dtype).eps
    return observed - tolerance * np.maximum(1.0, np.abs(observed))


def permutation_p(observed: ArrayLike, null: ArrayLike, axis: int = 0) -> NDArray[np.float64]:
    """Return one-sided p-values from a null distribution; large statistics are significant.

    Parameters
    ----------
    observed : array, shape (...)
        Observed statistic.
    null : array, shape (permutation, ...)
        Statistic of each permutation.
    axis : int
        Permutation axis of `null`.

    Returns
    -------
    p : array, shape (...)
        ``(1 + #{null >= observed}) / (1 + B)``; NaN where the observed statistic is NaN.

    Raises
    ------
    InputError
        If shapes do not match, there are no permutations, or a null statistic is NaN where the observed one is
        not.

    References
    ----------
    Phipson & Smyth (2010). Permutation p-values should never be zero. Statistical Applications in Genetics
    and Molecular Biology 9(1), 39.

    Examples
    --------
    >>> from neurorecon.stats import permutation_p
    >>> float(permutation_p(0.5, [0.1, 0.2, 0.6]))
    0.5
    """
    observed, null = np.asarray(observed), np.moveaxis(np.asarray(null), axis, 0)
    counter = PermutationCounter(observed)
    counter.update(null)
    return counter.p


class PermutationCounter:
    """Count how often the null reaches the observed statistic, in batches, without storing the null distribution.

    Parameters
    ----------
    observed : array, shape (...)
        Observed statistic, e.g. R2 of shape (voxel,).

    Attributes
    ----------
    n_permutations : int
        Number of permutations so far.
    count : int array, shape (...)
        ``#{null >= observed}``, including ties up to a few rounding errors.
    """

    def __init__(self, observed: ArrayLike) -> None:
        self.observed = np.asarray(observed)
        self.n_permutations = 0
        self.count = np.zeros(self.observed.shape, dtype=np.int64)
        self._sum = np.zeros(self.observed.shape, dtype=np.float64)
        self._maxima: list[NDArray] = []

    def update(self, null: ArrayLike) -> PermutationCounter:
        """Add a batch of permutations.

        Parameters
        ----------
        null : array, shape (permutation, ...)
            Statistic of each permutation.

        Returns
        -------
        PermutationCounter
            The counter itself.

        Raises
        ------
        InputError
            If shapes do not match, or a null statistic is NaN where the observed one is not.
        """
        null = np.asarray(null)
        if null.ndim != self.observed.ndim + 1 or null.shape[1:] != self.observed.shape:
            raise InputError(
                "the null distribution does not match the observed statistic",
                given=f"null of shape {null.shape}, observed of shape {self.observed.shape}",
                expected=f"null of shape (permutation, {', '.join(map(str, self.observed.shape))})",
            )
        undefined = np.isnan(self.observed)
        if np.isnan(null[:, ~undefined]).any():
            raise InputError(
                "a null statistic is NaN where the observed statistic is not",
                given=f"{int(np.isnan(null[:, ~undefined]).sum())} NaN values in the null distribution",
                expected="finite null statistics wherever the observed statistic is finite",
            )
        dtype = np.result_type(null.dtype, self.observed.dtype)
        with np.errstate(invalid="ignore"):
            self.count += (null >= _tie_threshold(self.observed, dtype)).sum(axis=0)
        self._sum += null.sum(axis=0, dtype=np.float64)
        if len(null) and not undefined.all():
            self._maxima.append(null[:, ~undefined].reshape(len(null), -1).max(axis=1))
        else:
            self._maxima.append(np.full(len(null), np.nan))
        self.n_permutations += len(null)
        return self

    def _require_permutations(self) -> None:
        if self.n_permutations == 0:
            raise InputError("there is no null distribution yet", given="0 permutations", expected="at least 1")

    @property
    def p(self) -> NDArray[np.float64]:
        """p-values, shape (...); NaN where the observed statistic is NaN."""
        self._require_permutations()
        p = (1.0 + self.count) / (1.0 + self.n_permutations)
        return np.where(np.isnan(self.observed), np.nan, p)

    @property
    def null_mean(self) -> NDArray[np.float64]:
        """Mean of the null, shape (...)."""
        self._require_permutations()
        return self._sum / self.n_permutations

    @property
    def null_max(self) -> NDArray[np.float64]:
        """Maximum statistic over all elements in each permutation, shape (permutation,)."""
        self._require_permutations()
        return np.concatenate(self._maxima).astype(np.float64)


def stimulus_permutations(
    n_stimuli: int, n_permutations: int, seed: int, within: ArrayLike | None = None
) -> NDArray[np.int64]:
    """Draw random permutations of stimuli; if there are few, return all of them.

    Draws may repeat, and may be the observed order: the test is valid because all orders are equally likely, and
    leaving one out would push p-values below 1 / (number of orders).

    Parameters
    ----------
    n_stimuli : int
        Number of stimuli.
    n_permutations : int
        Number of permutations. If there are at most that many orders, all but the observed one are returned instead, so
        that p = (1 + #{null >= observed}) / (number of orders) is exact. Otherwise the first ``k`` permutations are the
        same for every ``n_permutations >= k``.
    seed : int
        Seed of the random number generator.
    within : array, shape (stimulus,), optional
        Exchangeability block of each stimulus, e.g. its session. Stimuli are exchanged only within a block.

    Returns
    -------
    orders : int array, shape (permutation, stimulus)
        ``orders[b, s]`` is the stimulus that replaces stimulus s in permutation b.

    Raises
    ------
    InputError
        If `within` has the wrong shape, or there is no permutation other than the identity.

    Examples
    --------
    >>> from neurorecon.stats import stimulus_permutations
    >>> stimulus_permutations(3, 10, seed=0).tolist()  # all orders but the observed one
    [[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]
    """
    labels = np.zeros(n_stimuli, dtype=int) if within is None else np.asarray(within)
    if labels.shape != (n_stimuli,):
        raise InputError(
            "`within` needs one label for each stimulus",
            given=f"shape {labels.shape}",
            expected=f"({n_stimuli},)",
        )
    blocks = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    if all(len(block) < 2 for block in blocks):
        raise InputError(
            "these stimuli cannot be permuted",
            given=f"{n_stimuli} stimuli in {len(blocks)} blocks, none with two or more",
            expected="at least two stimuli that can be exchanged",
            todo="use more stimuli, or permute within larger blocks",
        )
    if prod(factorial(len(block)) for block in blocks) <= n_permutations:
        orders = np.tile(np.arange(n_stimuli), (1, 1))
        for block in blocks:
            parts = np.array(list(permutations(block)))
            orders = np.repeat(orders, len(parts), axis=0)
            orders[:, block] = np.tile(parts, (len(orders) // len(parts), 1))
        return orders[1:]  # the first one is the observed order
    generator = np.random.default_rng(seed)
    orders = np.empty((n_permutations, n_stimuli), dtype=np.int64)
    for row in orders:
        for block in blocks:
            row[block] = generator.permutation(block)
    return orders


def false_discovery_rate(p: ArrayLike, q: float = 0.05) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Control the false discovery rate (Benjamini & Hochberg, 1995).

    Parameters
    ----------
    p : array, shape (...)
        p-values. NaN means "not tested" and is not counted as a test.
    q : float
        False discovery rate to control.

    Returns
    -------
    rejected : bool array, shape (...)
        Whether the null hypothesis is rejected; False where p is NaN.
    q_values : array, shape (...)
        Adjusted p-values: the smallest rate at which each test is rejected; NaN where p is NaN.

    Raises
    ------
    InputError
        If a p-value is outside [0, 1], or `q` is not between 0 and 1.

    See Also
    --------
    scipy.stats.false_discovery_control : Computes the adjusted p-values; it does not accept NaN.

    References
    ----------
    Benjamini & Hochberg (1995). Controlling the false discovery rate. Journal of the Royal Statistical
    Society B 57(1), 289-300.

    Examples
    --------
    >>> from neurorecon.stats import false_discovery_rate
    >>> significant, q_values = false_discovery_rate([0.001, 0.02, 0.6])
    >>> significant.tolist(), q_values.round(3).tolist()
    ([True, True, False], [0.003, 0.03, 0.6])
    """
    p = np.asarray(p, dtype=np.float64)
    tested = ~np.isnan(p)
    values = p[tested]
    if values.size and (values.min() < 0 or values.max() > 1):
        raise InputError(
            "p-values must be between 0 and 1", given=f"values from {values.min():.3g} to {values.max():.3g}"
        )
    if not 0 < q < 1:
        raise InputError("the false discovery rate must be between 0 and 1", given=q, expected="e.g. q=0.05")
    from scipy.stats import false_discovery_control  # here: importing scipy.stats takes half a second

    q_values = np.full(p.shape, np.nan)
    q_values[tested] = false_discovery_control(values)
    with np.errstate(invalid="ignore"):
        return q_values <= q, q_values


def max_statistic_p(observed: ArrayLike, null_max: ArrayLike) -> NDArray[np.float64]:
    """Control the family-wise error rate by the maximum statistic of each permutation.

    Parameters
    ----------
    observed : array, shape (...)
        Statistic of each voxel.
    null_max : array, shape (permutation,)
        Maximum statistic over the same voxels in each permutation.

    Returns
    -------
    p : array, shape (...)
        ``(1 + #{null_max >= observed}) / (1 + B)``, corrected for the number of voxels; NaN stays NaN.

    Raises
    ------
    InputError
        If `null_max` is empty, not one-dimensional, or contains NaN.

    References
    ----------
    Nichols & Holmes (2002). Nonparametric permutation tests for functional neuroimaging. Human Brain Mapping
    15(1), 1-25.

    Examples
    --------
    >>> from neurorecon.stats import max_statistic_p
    >>> max_statistic_p([0.9, 0.3], [0.2, 0.4, 0.5, 0.1]).tolist()
    [0.2, 0.6]
    """
    observed, null_max = np.asarray(observed, dtype=np.float64), np.asarray(null_max, dtype=np.float64)
    if null_max.ndim != 1 or not null_max.size or np.isnan(null_max).any():
        raise InputError(
            "the null distribution of the maximum needs one finite value for each permutation",
            given=f"shape {null_max.shape}, {int(np.isnan(null_max).sum())} NaN",
            expected="shape (permutation,)",
        )
    reached = null_max.size - np.searchsorted(np.sort(null_max), observed, side="left")
    return np.where(np.isnan(observed), np.nan, (1.0 + reached) / (1.0 + null_max.size))
