"""A ridge regression fitted to sessions: predictions, scores and weights."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from neurorecon.decoders.sessions.rows import row_coefficients, row_components
from neurorecon.decoders.sessions.standardizing import Options, standardize_as
from neurorecon.decoders.solvers import Backend, subtract
from neurorecon.decoders.validation import TargetScores, check_alphas, check_dtype, check_inputs, r2_of_targets


class FittedSessions(TargetScores):
    """What :class:`neurorecon.decoders.UpdatingRidge` does once it is fitted; see there for the attributes."""

    alpha: Any
    device: str
    dtype: str
    fit_intercept: bool
    folder: str | None
    standardize: bool
    target_block: int | None
    rows_: dict[str, Any]
    sessions_: list[dict[str, Any]]
    solver_: str
    weights_: dict[str, Any]

    def predict(self, X: ArrayLike, session: Hashable | None = None) -> NDArray:
        """Predict targets.

        Parameters
        ----------
        X : array, shape (sample, voxel)
            Responses.
        session : str or int, optional
            Only with ``standardize=True``: the session they are of, whose means and standard deviations are
            used; ``"new"`` takes those of `X`, which has to be a session, or a good part of one; by default the
            average ones of the sessions fitted.

        Returns
        -------
        y : array, shape (sample, ...)
            Predicted targets, in the shape of those fitted.
        """
        check_is_fitted(self)
        options = self._options()
        x = check_inputs(self, X, options.dtype, reset=False)
        x = standardize_as(x, self.sessions_, session) if self.standardize else x
        fitted = self.weights_ if self.solver_ == "primal" else self.rows_
        if self.solver_ == "primal":
            centered = options.backend.asarray(subtract(x, fitted["x_mean"], options.dtype), options.dtype)
            inputs = centered @ options.backend.asarray(fitted["vectors"], options.dtype)
            parts, offsets = [fitted["coordinates"]], np.ones(len(x))
        else:
            along = row_components(fitted, x, options)
            # The Cholesky factor's coordinates are of targets that were not centered.
            offsets = 1 - along @ np.concatenate(fitted["ones"])[:, 0] if "ones" in fitted else np.ones(len(x))
            inputs = options.backend.asarray(along, options.dtype)
            parts = fitted["coordinates"]
        predicted = np.empty((len(x), len(fitted["intercept"])), dtype=options.dtype)
        step = self.target_block or max(1, 2**25 // max(1, inputs.shape[1]))
        for start in range(0, predicted.shape[1], step):
            block = slice(start, start + step)
            coordinates = np.concatenate([part[:, block] for part in parts])
            product = options.backend.to_numpy(inputs @ options.backend.asarray(coordinates, options.dtype))
            predicted[:, block] = product + offsets[:, None] * fitted["intercept"][block]
        return predicted.reshape((len(x), *self.target_shape_))

    def score_targets(self, X: ArrayLike, y: ArrayLike, session: Hashable | None = None) -> NDArray[np.float64]:
        """Return R2 of each target, in the shape of a target; `session` as for :meth:`predict`."""
        return r2_of_targets(y, self.predict(X, session), self.target_shape_)

    @property
    def coef_(self) -> NDArray:
        """Weights, shape (*target_shape, voxel), of responses (standardized, if they are), computed at each access."""
        check_is_fitted(self)
        if self.solver_ == "primal":
            weights = self.weights_["vectors"] @ self.weights_["coordinates"]
        else:
            weights = row_coefficients(self.rows_, self._options())
        return weights.T.reshape((*self.target_shape_, -1))

    def _options(self) -> Options:
        return Options(
            alphas=check_alphas(self.alpha),
            center=bool(self.fit_intercept),
            backend=Backend(self.device),
            dtype=check_dtype(self.dtype),
            target_block=self.target_block,
            folder=self.folder,
        )
