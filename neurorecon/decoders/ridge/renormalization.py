"""Predictions brought to the spread of the targets: ridge regression predicts too little variance.

Each predicted target is standardized and then given the mean and the standard deviation that the target has in
the training samples. What it is standardized with is either a property of the model, its predictions of
training samples that were left out ("train"), or that of the very predictions ("test"), as in the code released
with Brain-Diffuser (Ozcelik & VanRullen 2023, Scientific Reports 13, 15666), which cannot be done for one image
and makes each prediction depend on the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurorecon.decoders.products import means, unit_vector
from neurorecon.decoders.solvers import Factorization
from neurorecon.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from neurorecon.decoders.ridge.fit import RidgeFit
    from neurorecon.decoders.ridge.smoothing import RidgeSmoother

#: Training samples that are left out to measure the spread of predictions.
LEFT_OUT = 1000

RENORMS = ("train", "test")

Renorm = Literal["train", "test"]


@dataclass(frozen=True)
class Moments:
    """Means and standard deviations of each target.

    Parameters
    ----------
    mean, deviation : array, shape (target,)
        Of the targets in the training samples (weighted).
    predicted_mean, predicted_deviation : array, shape (target,), optional
        Of predictions of training samples that were left out; None with ``renorm="test"``.
    """

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    predicted_mean: NDArray[np.float64] | None = None
    predicted_deviation: NDArray[np.float64] | None = None

    def apply(self, predicted: NDArray, columns: slice | NDArray) -> NDArray:
        """Return predictions of some targets, (sample, target), with the spread of the targets."""
        if self.predicted_mean is None or self.predicted_deviation is None:
            if len(predicted) < 2:
                raise InputError(
                    "predictions of one sample have no standard deviation",
                    given="renorm='test' and 1 sample",
                    expected="two samples or more",
                    todo="use renorm='train', which does not depend on what else is predicted",
                )
            mean = predicted.mean(axis=0, dtype=np.float64)
            deviation = predicted.std(axis=0, dtype=np.float64)
            # What constant predictions differ by is rounding.
            deviation = np.where(deviation > 1e-6 * self.deviation[columns], deviation, 0.0)
        else:
            mean, deviation = self.predicted_mean[columns], self.predicted_deviation[columns]
        scale = self.deviation[columns] / np.where(deviation > 0, deviation, np.inf)
        return ((predicted - mean) * scale + self.mean[columns]).astype(predicted.dtype)


def check_renorm(renorm: str | None) -> Renorm | None:
    """Return the name of the renormalization."""
    if renorm is None or renorm == "train" or renorm == "test":
        return renorm  # type: ignore[return-value]
    raise UnknownNameError("renormalization", renorm, RENORMS)


def left_out_samples(n_samples: int, groups: ArrayLike | None, weights: NDArray | None) -> list[NDArray[np.int64]]:
    """Return sets of about 1,000 samples in all, evenly spread, each to be left out at once.

    Samples of one group are in one set; samples without weight are in none.
    """
    used = np.arange(n_samples) if weights is None else np.flatnonzero(weights)
    labels = used if groups is None else np.unique(np.asarray(groups)[used], return_inverse=True)[1].ravel()
    sets = [used[labels == label] for label in np.unique(labels)] if groups is not None else list(used[:, None])
    if len(sets) < 2:
        raise InputError(
            "predictions cannot be renormalized: no samples can be left out",
            given=f"{len(used)} samples of {len(sets)} group",
            expected="two groups or more",
        )
    count = max(2, min(len(sets), LEFT_OUT * len(sets) // len(used)))
    return [sets[number] for number in np.unique(np.linspace(0, len(sets) - 1, count).round().astype(int))]


def measure_factors(problem: RidgeFit, factors: Factorization, groups: ArrayLike | None, *, train: bool) -> Moments:
    """Return moments of the targets, and with `train` of left-out predictions, from a factorization."""
    roots = None if problem.weights is None else np.sqrt(problem.weights)

    def rows_of(samples: NDArray[np.int64], alpha: float) -> NDArray[np.float64]:
        left = factors.backend.to_numpy(factors.u).astype(np.float64)
        squares = factors.singular_values**2
        rows = (left[samples] * (squares / (squares + alpha))) @ left.T
        if problem.center:
            unit = unit_vector(len(left), roots)
            rows += unit[samples, None] * unit
        return rows

    return _measure(problem, rows_of, groups, train=train)


def measure_smoother(problem: RidgeFit, smoother: RidgeSmoother, groups: ArrayLike | None, *, train: bool) -> Moments:
    """Return moments of the targets, and with `train` of left-out predictions, from a smoother."""
    return _measure(problem, smoother.rows_of, groups, train=train)


def _measure(
    problem: RidgeFit,
    rows_of: Callable[[NDArray[np.int64], float], NDArray[np.float64]],
    groups: ArrayLike | None,
    *,
    train: bool,
) -> Moments:
    weights, dtype = problem.weights, problem.dtype
    roots = None if weights is None else np.sqrt(weights)
    alphas, codes = np.unique(problem.alpha, return_inverse=True)
    matrices, shares = [], None
    if train:
        sets = left_out_samples(len(problem.x), groups, weights)
        samples = np.concatenate(sets)
        matrices = [left_out_matrix(rows_of(samples, float(alpha)), sets, roots).astype(dtype) for alpha in alphas]
        shares = None if weights is None else weights[samples]
    moments = np.empty((4, problem.targets.n_targets))
    for columns, y in problem.targets.blocks():
        moments[:2, columns] = _mean_and_deviation(y, weights)
        if not train:
            continue
        # With an intercept, rows sum to 1, and targets may be shifted: that keeps single precision exact.
        shift = moments[0, columns].astype(dtype) if problem.center else np.zeros(y.shape[1], dtype)
        found = np.zeros(y.shape[1], np.int64) if problem.alpha.ndim == 0 else codes.ravel()[columns]
        predicted = np.empty((len(matrices[0]), y.shape[1]), dtype)
        for code in np.unique(found):
            predicted[:, found == code] = matrices[code] @ (y - shift)[:, found == code]
        mean, deviation = _mean_and_deviation(predicted, shares)
        # What constant predictions differ by is rounding.
        deviation[deviation < 1e-6 * moments[1, columns]] = 0.0
        moments[2:, columns] = mean + shift, deviation
    return Moments(*moments) if train else Moments(moments[0], moments[1])


def _mean_and_deviation(values: NDArray, weights: NDArray | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    mean = means(values, weights, center=True)
    squares = np.square(values - mean, dtype=np.float64)
    return mean, np.sqrt(means(squares, weights, center=True))


def left_out_matrix(rows: NDArray[np.float64], sets: list[NDArray[np.int64]], roots: NDArray | None) -> NDArray:
    """Return the matrix that turns training targets into predictions of samples that were left out.

    Parameters
    ----------
    rows : array, shape (left out, sample)
        Of the smoother of all samples, weighted, for the samples of all sets one after another.
    sets : list of int array
        Samples that are left out at once.
    roots : array, shape (sample,), optional
        Roots of the sample weights.

    Returns
    -------
    array, shape (left out, sample)
        For targets that are not weighted. Its entries for the samples that are left out themselves are zero.
    """
    result = np.empty_like(rows)
    start = 0
    for samples in sets:
        part = slice(start, start + len(samples))
        residual = -rows[part]
        residual[np.arange(len(samples)), samples] += 1.0
        result[part] = -np.linalg.solve(residual[:, samples], residual)
        result[part, samples] = 0.0
        start = part.stop
    if roots is not None:
        result *= roots / roots[np.concatenate(sets), None]
    return result
