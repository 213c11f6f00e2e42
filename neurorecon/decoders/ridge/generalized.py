"""Generalized cross-validation: alpha from one factorization, without folds.

It is the mean of squared leave-one-out residuals, with the leverage of each sample replaced by the mean
leverage: ``n * |(1 - S) y|^2 / trace(1 - S)^2``, where S is the smoother including the intercept, which takes
one degree of freedom. It leaves out single samples, so it must not be used where stimuli were repeated.

References
----------
Golub, Heath & Wahba (1979). Generalized cross-validation as a method for choosing a good ridge parameter.
Technometrics 21(2), 215-223.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurorecon.decoders.solvers import Factorization
from neurorecon.errors import InputError


class GeneralizedCrossValidation:
    """Scores of candidates for alpha.

    Parameters
    ----------
    factors : Factorization
        Of the inputs.
    alphas : array, shape (alpha,)
        Candidates.
    weights : array, shape (sample,), optional
        Sample weights; samples of weight zero do not count.
    center : bool
        Whether an intercept is fitted.
    """

    def __init__(self, factors: Factorization, alphas: NDArray, weights: NDArray | None, center: bool) -> None:
        squares = factors.singular_values**2
        n_samples = len(factors.u) if weights is None else int((weights > 0).sum())
        degrees = n_samples - int(center)
        # Not 1 - squares / (squares + alpha): that loses all digits where alpha is weak.
        self.left = alphas[:, None] / np.where(squares + alphas[:, None] > 0, squares + alphas[:, None], 1.0)
        self.outside = max(0, degrees - len(squares))
        trace = self.left.sum(axis=1) + self.outside
        self.factor = np.full(len(alphas), np.inf)
        total_weight = float(n_samples) if weights is None else float(weights.sum())
        np.divide(n_samples**2 / total_weight, trace**2, out=self.factor, where=trace > 0)
        self.factors = factors

    def scores(self, projected: Any, squared_norms: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the score of each alpha for a block of targets: an estimate of the mean squared error.

        Parameters
        ----------
        projected : array, shape (component, target)
            ``U'Y`` of the centered, weighted targets, on the device.
        squared_norms : array, shape (target,)
            Sums of squares of the centered, weighted targets.

        Returns
        -------
        array, shape (alpha, target)
        """
        backend, dtype = self.factors.backend, self.factors.dtype
        squares = projected**2
        residual = backend.to_numpy(backend.asarray(self.left**2, dtype) @ squares).astype(np.float64)
        if self.outside:
            # What no response can explain; where components span all directions it is zero, not rounding.
            residual += np.maximum(squared_norms - backend.to_numpy(squares.sum(0)), 0.0)
        with np.errstate(invalid="ignore"):
            scores = residual * self.factor[:, None]
        return np.where(np.isfinite(scores), scores, np.inf)


def refuse_repeats(groups: ArrayLike | None) -> None:
    """Raise an InputError where samples share a label: leaving out one sample would leave its repeat in."""
    if groups is None:
        return
    labels = np.asarray(groups)
    if len(np.unique(labels)) < len(labels):
        raise InputError(
            "generalized cross-validation leaves out single samples, and these have repeats",
            given=f"{len(labels)} samples of {len(np.unique(labels))} groups",
            expected="one sample in each group",
            todo="average the repeats of each stimulus first, or use cv=<number of folds>",
        )
