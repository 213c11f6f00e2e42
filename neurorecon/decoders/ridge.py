"""Ridge regression from responses to any number of targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from neurorecon.decoders.backend import Backend
from neurorecon.decoders.folds import group_folds
from neurorecon.decoders.persistence import Persistent
from neurorecon.decoders.scores import r2_score
from neurorecon.decoders.solvers import check_alphas, cross_validate, factorize, fit_targets, subtract
from neurorecon.decoders.targets import Targets
from neurorecon.decoders.validation import check_dtype, check_inputs, check_weights
from neurorecon.errors import InputError, UnknownNameError


class RidgeDecoder(Persistent, MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Predict any number of targets from responses by ridge regression.

    The responses are factorized once, whatever the number of targets and of candidates for alpha; targets
    are streamed in blocks, from memory or from disk. Predictions need no weight matrix of shape (voxel,
    target).

    Memory beside the data: three matrices of (sample, sample) in double precision while fitting, the factors
    of shapes (sample, component) and (voxel, component), the fitted coordinates (component, target) and two
    blocks of targets, with at most min(sample, voxel) components.

    Parameters
    ----------
    alpha : float or sequence of float
        Strength of the regularization, on the scale of the sum of squares over samples (as in scikit-learn).
        With a sequence, the candidate with the least squared error on held-out samples is taken; of equals,
        the largest.
    cv : int, scikit-learn splitter or iterable of (train, test)
        Folds that choose alpha; an int is a number of folds. See `groups` of :meth:`fit`.
    alpha_per_target : bool
        Choose alpha for each target rather than for all together. Slower where targets are many.
    fit_intercept : bool
        Whether means are fitted. Without, responses and targets have to be centered.
    solver : {"auto", "dual", "primal"}
        Factorize the samples' or the voxels' products; "auto" takes the smaller matrix. Same results.
    device : str
        ``"cpu"`` (NumPy), ``"torch"`` (torch on the processor), ``"cuda"`` or ``"cuda:<number>"``.
    dtype : {"float32", "float64"}
        Precision of everything as large as the data. The factorization itself is always computed in float64.
    target_block : int, optional
        Targets computed at once; by default as many as fit into 128 MB.

    Attributes
    ----------
    alpha_ : float or array, shape (target,)
        The regularization used.
    cv_scores_ : array, shape (alpha,) or (alpha, target)
        Negative mean squared error on held-out samples, averaged over folds, for each candidate; only after
        cross-validation.
    x_mean_ : array, shape (voxel,)
        Means of the responses.
    intercept_, singular_values_, sample_vectors_, voxel_vectors_, coordinates_ : array
        Means of the targets, shape (target,), and the factorization: the prediction for responses x is
        ``intercept_ + (x - x_mean_) @ voxel_vectors_ @ coordinates_``.
    n_features_in_ : int
        Number of voxels.

    References
    ----------
    Hoerl & Kennard (1970). Ridge regression. Technometrics 12(1), 55-67.
    Saunders, Gammerman & Vovk (1998). Ridge regression learning algorithm in dual variables. ICML.
    """

    def __init__(
        self,
        alpha: float | Sequence[float] = 1.0,
        *,
        cv: Any = 5,
        alpha_per_target: bool = False,
        fit_intercept: bool = True,
        solver: Literal["auto", "dual", "primal"] = "auto",
        device: str = "cpu",
        dtype: Literal["float32", "float64"] = "float32",
        target_block: int | None = None,
    ) -> None:
        self.alpha = alpha
        self.cv = cv
        self.alpha_per_target = alpha_per_target
        self.fit_intercept = fit_intercept
        self.solver = solver
        self.device = device
        self.dtype = dtype
        self.target_block = target_block

    def fit(
        self,
        X: ArrayLike,
        y: Any = None,
        groups: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> RidgeDecoder:
        """Fit the decoder.

        Parameters
        ----------
        X : array, shape (sample, voxel)
            Responses.
        y : array, shape (sample, ...)
            Targets of any shape; also dask, xarray and memory-mapped arrays, which are read in blocks.
        groups : array, shape (sample,), optional
            Labels, usually stimulus ids: samples of one group are never on both sides of a fold.
        sample_weight : array, shape (sample,), optional
            Weights of the samples, in fitting and in cross-validation.

        Returns
        -------
        RidgeDecoder
            Itself.

        Raises
        ------
        InputError
            Where shapes do not fit, values are not finite, or a parameter is not known.
        """
        if self.solver not in ("auto", "dual", "primal"):
            raise UnknownNameError("solver", self.solver, ("auto", "dual", "primal"))
        dtype, backend, alphas = check_dtype(self.dtype), Backend(self.device), check_alphas(self.alpha)
        x = check_inputs(self, X, dtype, reset=True)
        targets = Targets(y, dtype, self.target_block)
        if targets.n_samples != len(x):
            raise InputError(
                "responses and targets have different numbers of samples (inconsistent lengths)",
                given=f"X {len(x)}, y {targets.n_samples}",
                expected="one row of targets for each sample",
            )
        weights = check_weights(sample_weight, len(x))
        center = bool(self.fit_intercept)
        if alphas.ndim:
            folds = group_folds(len(x), groups, self.cv)
            errors = cross_validate(
                x,
                targets,
                alphas,
                folds,
                backend=backend,
                dtype=dtype,
                solver=self.solver,
                per_target=bool(self.alpha_per_target),
                weights=weights,
                center=center,
            )
            self.cv_scores_ = -errors
            alphas = _best_alphas(errors, alphas)
        elif hasattr(self, "cv_scores_"):
            del self.cv_scores_
        factors = factorize(x, backend, dtype, self.solver, weights, center)
        coordinates, y_mean = fit_targets(factors, targets, alphas, weights, center)
        self.alpha_ = alphas if alphas.ndim else float(alphas)
        self.target_shape_ = targets.shape
        self.x_mean_ = factors.x_mean
        self.intercept_ = y_mean
        self.singular_values_ = factors.singular_values
        self.sample_vectors_ = backend.to_numpy(factors.u)
        self.voxel_vectors_ = backend.to_numpy(factors.v)
        self.coordinates_ = coordinates
        self._sample_roots_ = None if weights is None else np.sqrt(weights)
        return self

    def predict(self, X: ArrayLike) -> NDArray:
        """Predict targets.

        Parameters
        ----------
        X : array, shape (sample, voxel)
            Responses.

        Returns
        -------
        y : array, shape (sample, ...)
            Predicted targets, in the shape of those fitted.
        """
        check_is_fitted(self)
        backend = Backend(self.device)
        x = check_inputs(self, X, self.dtype, reset=False)
        centered = backend.asarray(subtract(x, self.x_mean_, self.dtype), self.dtype)
        inputs = centered @ backend.asarray(self.voxel_vectors_, self.dtype)
        predicted = np.empty((len(x), self.coordinates_.shape[1]), dtype=self.dtype)
        step = self.target_block or max(1, 2**25 // max(1, len(self.coordinates_)))
        for start in range(0, predicted.shape[1], step):
            block = slice(start, start + step)
            part = backend.to_numpy(inputs @ backend.asarray(self.coordinates_[:, block], self.dtype))
            predicted[:, block] = part + self.intercept_[block].astype(self.dtype)
        return predicted.reshape((len(x), *self.target_shape_))

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

        predicted = self.predict(X).reshape(len(np.asarray(X)), -1)
        return float(weighted_r2_score(np.asarray(y).reshape(predicted.shape), predicted, sample_weight=sample_weight))

    def score_targets(self, X: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
        """Return R2 of each target, in the shape of a target; NaN for targets that do not vary."""
        predicted = self.predict(X).reshape(len(np.asarray(X)), -1)
        return r2_score(np.asarray(y).reshape(predicted.shape), predicted).reshape(self.target_shape_)

    @property
    def coef_(self) -> NDArray:
        """Weights, shape (*target_shape, voxel) as in scikit-learn, computed at each access.

        They answer to responses less ``x_mean_``. Weights are no map of where information is: see
        :meth:`haufe_patterns`.
        """
        check_is_fitted(self)
        return (self.voxel_vectors_ @ self.coordinates_).T.reshape((*self.target_shape_, -1))

    @property
    def dual_coef_(self) -> NDArray:
        """Weights of the samples, (sample, target): ``coef_.T = (X - x_mean_).T @ dual_coef_``."""
        check_is_fitted(self)
        scaled = self.sample_vectors_ / self.singular_values_.astype(self.dtype)
        if self._sample_roots_ is not None:
            scaled = scaled * self._sample_roots_[:, None].astype(self.dtype)
        return scaled @ self.coordinates_

    def haufe_patterns(self, targets: slice | NDArray[np.int64] | None = None) -> NDArray:
        """Return the activation pattern of each target: covariance of the responses times weights.

        Unlike weights, patterns say where responses vary with what is decoded; weights also cancel noise and
        are large in voxels that carry nothing but noise.

        Parameters
        ----------
        targets : slice or int array, optional
            Which of the flattened targets; by default all.

        Returns
        -------
        patterns : array, shape (target, voxel)
            Covariance of each voxel with the decoded value of each target over the training samples,
            in units of voxel times target.

        References
        ----------
        Haufe et al. (2014). On the interpretation of weight vectors of linear models in multivariate
        neuroimaging. NeuroImage 87, 96-110.
        """
        check_is_fitted(self)
        chosen = self.coordinates_ if targets is None else self.coordinates_[:, targets]
        variances = (self.singular_values_**2 / max(1, len(self.sample_vectors_) - 1)).astype(self.dtype)
        return (self.voxel_vectors_ @ (variances[:, None] * chosen)).T


def _best_alphas(errors: NDArray, alphas: NDArray) -> NDArray:
    """Return the alpha of least error, of equals the largest: shape () or (target,)."""
    order = np.argsort(-alphas, kind="stable")
    return alphas[order][np.argmin(errors[order], axis=0)]
