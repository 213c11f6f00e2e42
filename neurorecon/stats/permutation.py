"""p-values from permutations, and the permutations themselves.

All p-values are ``(1 + #{null >= observed}) / (1 + B)``: the observed order counts as one of the possible
orders, so that no p-value is 0 and the test is valid for any number of permutations B (Phipson & Smyth,
2010).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurorecon.errors import InputError

#: Null and observed statistics that differ by fewer rounding errors than this are ties, and ties count
#: against us.
_TIE_ROUNDING_ERRORS = 100


def _tie_threshold(observed: NDArray, dtype: np.dtype) -> NDArray:
    """Return the value from which on a null statistic counts as at least as large as the observed one."""
    if not np.issubdtype(dtype, np.floating):
        return observed
    tolerance = _TIE_ROUNDING_ERRORS * np.finfo(dtype).eps
    return observed - tolerance * np.maximum(1.0, np.abs(observed))


def permutation_p(observed: ArrayLike, null: ArrayLike, axis: int = 0) -> NDArray[np.float64]:
    """Return one-sided p-values, large statistics being the evidence.

    Parameters
    ----------
    observed : array, shape (...)
        The statistic in the order in which the stimuli were shown.
    null : array, shape (permutation, ...)
        The statistic in permuted orders.
    axis : int
        The axis of `null` that runs over permutations.

    Returns
    -------
    p : array, shape (...)
        ``(1 + #{null >= observed}) / (1 + B)``; NaN where the observed statistic is NaN.

    Raises
    ------
    InputError
        Where the shapes do not fit, there are no permutations, or a null statistic is NaN though the
        observed is not.

    References
    ----------
    Phipson & Smyth (2010). Permutation p-values should never be zero. Statistical Applications in Genetics
    and Molecular Biology 9(1), 39.
    """
    observed, null = np.asarray(observed), np.moveaxis(np.asarray(null), axis, 0)
    counter = PermutationCounter(observed)
    counter.update(null)
    return counter.p


class PermutationCounter:
    """Count how often the null reaches the observed statistic, batch after batch, without keeping the null.

    Parameters
    ----------
    observed : array, shape (...)
        The statistic in the order in which the stimuli were shown, e.g. R2 of shape (voxel,).

    Attributes
    ----------
    n_permutations : int
        How many permutations have been seen.
    count : int array, shape (...)
        ``#{null >= observed}``; differences of a few rounding errors are ties, which count.
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
            The statistic in permuted orders.

        Returns
        -------
        PermutationCounter
            Itself.
        """
        null = np.asarray(null)
        if null.ndim != self.observed.ndim + 1 or null.shape[1:] != self.observed.shape:
            raise InputError(
                "the null distribution does not fit the observed statistic",
                given=f"null of shape {null.shape}, observed of shape {self.observed.shape}",
                expected=f"null of shape (permutation, {', '.join(map(str, self.observed.shape))})",
            )
        undefined = np.isnan(self.observed)
        if np.isnan(null[:, ~undefined]).any():
            raise InputError(
                "a statistic is NaN in a permuted order though it is defined in the observed one",
                given=f"{int(np.isnan(null[:, ~undefined]).sum())} NaN in the null distribution",
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
            raise InputError("there is no null distribution yet", given="0 permutations", expected="at least one")

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
        """Largest statistic of each permutation over all elements, shape (permutation,)."""
        self._require_permutations()
        return np.concatenate(self._maxima).astype(np.float64)


def stimulus_permutations(
    n_stimuli: int, n_permutations: int, seed: int, within: ArrayLike | None = None
) -> NDArray[np.int64]:
    """Draw random orders of the stimuli, none of which is the order shown.

    Parameters
    ----------
    n_stimuli : int
        How many stimuli are exchanged.
    n_permutations : int
        How many orders to draw. The first ``k`` orders are the same for every ``n_permutations >= k``.
    seed : int
        The same seed gives the same orders.
    within : array, shape (stimulus,), optional
        A label for each stimulus, e.g. its session: stimuli change places only with those of the same label.

    Returns
    -------
    orders : int array, shape (permutation, stimulus)
        Row ``b`` puts stimulus ``orders[b, s]`` in the place of stimulus ``s``.

    Raises
    ------
    InputError
        Where no order but the one shown exists.
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
            expected="at least two stimuli that may change places",
            todo="test on more stimuli, or permute within larger blocks",
        )
    generator = np.random.default_rng(seed)
    identity = np.arange(n_stimuli)
    orders = np.empty((n_permutations, n_stimuli), dtype=np.int64)
    for row in orders:
        row[:] = identity
        while np.array_equal(row, identity):
            for block in blocks:
                row[block] = generator.permutation(block)
    return orders
