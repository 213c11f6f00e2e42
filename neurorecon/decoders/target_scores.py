"""R2 as scikit-learn's regressors have it, and of each target: what decoders of targets of any shape share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurorecon.decoders.scores import r2_score


class TargetScores:
    """Scores of an estimator with ``predict`` and, once it is fitted, ``target_shape_``."""

    target_shape_: tuple[int, ...]

    if TYPE_CHECKING:

        def predict(self, X: ArrayLike) -> Any:
            """Predict targets, (sample, ...)."""

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the mean R2 over targets, as scikit-learn's regressors do.

        Parameters
        ----------
        X : array, shape (sample, voxel)
            Responses.
        y : array, shape (sample, ...)
            Targets.
        sample_weight : array, shape (sample,), optional
            Weights of the samples.

        Returns
        -------
        float
            Mean R2. :meth:`score_targets` returns one for each target.
        """
        from sklearn.metrics import r2_score as weighted_r2_score

        predicted = _flat(self.predict(X))
        return float(weighted_r2_score(np.asarray(y).reshape(predicted.shape), predicted, sample_weight=sample_weight))

    def score_targets(self, X: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
        """Return R2 of each target, in the shape of a target; NaN for targets that do not vary."""
        return r2_of_targets(y, self.predict(X), self.target_shape_)


def r2_of_targets(y: ArrayLike, predicted: NDArray, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return R2 of each target of (sample, ...), in the shape of a target; NaN for targets that do not vary."""
    flat = _flat(predicted)
    return r2_score(np.asarray(y).reshape(flat.shape), flat).reshape(shape)


def _flat(predicted: NDArray) -> NDArray:
    """Return predictions of shape (sample, target)."""
    return predicted.reshape(len(predicted), -1)
