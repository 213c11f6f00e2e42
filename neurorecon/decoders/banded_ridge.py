"""Banded ridge regression: one regularization for each band of features, chosen for each target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from neurorecon.decoders.backend import check_device
from neurorecon.decoders.folds import group_folds
from neurorecon.decoders.kernels import (
    KernelScaling,
    as_mapping,
    check_kernels,
    linear_kernels,
    resolve_bands,
)
from neurorecon.decoders.mixtures import MixtureSearch, candidate_mixtures
from neurorecon.decoders.persistence import Persistent
from neurorecon.decoders.scores import r2_score, r2_score_split
from neurorecon.decoders.solvers import check_alphas
from neurorecon.decoders.targets import Targets
from neurorecon.decoders.validation import check_dtype, check_inputs
from neurorecon.errors import InputError, UnknownNameError

#: Regularization strengths tried by default. Kernels are scaled to a mean diagonal of 1, so they fit any
#: data.
ALPHAS = tuple(float(value) for value in np.logspace(-1, 5, 13))


class BandedRidge(Persistent, MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Predict responses from bands of features, each with a regularization of its own, chosen for each voxel.

    The kernel of a target is a weighted sum of one linear kernel per band. Weights and overall
    regularization are searched by himalaya's random search with cross-validation over samples, its backend
    set only for the time it runs.

    Kernels are centered by the training mean of the features (again within each fold, on the fold's own
    training samples) and scaled to a mean diagonal of 1, so that a band does not win because it has more
    features or larger units. See :class:`neurorecon.decoders.kernels.KernelScaling`.

    Parameters
    ----------
    bands : dict of str to slice or index array, or sequence of one label per feature, optional
        Which features make up each band. By default all features are one band: ridge regression.
    alphas : sequence of float
        Regularization strengths tried, for kernels with a mean diagonal of 1.
    n_iter : int or array, shape (mixture, band), optional
        How many mixtures of bands are tried, or the mixtures; see :func:`candidate_mixtures`.
    cv : int, scikit-learn splitter or iterable of (train, test)
        Folds. See `groups` of :meth:`fit`.
    device : str
        ``"cpu"`` or ``"cuda"``.
    dtype : {"float32", "float64"}
        Precision of the search.
    random_state : int
        Seed of random mixtures.
    fit_intercept : bool
        Whether means are fitted. Without, features (or kernels) and responses have to be centered.
    n_targets_batch : int, optional
        Targets searched at once; by default as many as fit into 512 MB.

    Attributes
    ----------
    band_names_ : list of str
        Names of the bands.
    band_weights_ : array, shape (band, target)
        Weight of each band's scaled kernel, mixture / alpha.
    mixtures_ : array, shape (band, target)
        Share of each band in the kernel; sums to 1.
    alphas_ : array, shape (target,)
        Regularization of each target.
    cv_scores_ : array, shape (mixture, target)
        Negative mean squared error on held-out samples for each mixture tried, with its best alpha.
    dual_coef_ : array, shape (train, target)
        Weights of the training samples.
    intercept_ : array, shape (target,)
        Training mean of the responses.
    n_features_in_ : int
        Number of features; not after :meth:`fit_kernels`.

    References
    ----------
    Nunez-Elizalde, Huth & Gallant (2019). Voxelwise encoding models with non-spherical multivariate normal
    priors. NeuroImage 197, 482-492.
    Dupre la Tour, Eickenberg, Nunez-Elizalde & Gallant (2022). Feature-space selection with banded ridge
    regression. NeuroImage 264, 119728.
    """

    def __init__(
        self,
        bands: Any = None,
        *,
        alphas: Any = ALPHAS,
        n_iter: Any = None,
        cv: Any = 5,
        device: str = "cpu",
        dtype: Literal["float32", "float64"] = "float32",
        random_state: int = 0,
        fit_intercept: bool = True,
        n_targets_batch: int | None = None,
    ) -> None:
        self.bands = bands
        self.alphas = alphas
        self.n_iter = n_iter
        self.cv = cv
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self.fit_intercept = fit_intercept
        self.n_targets_batch = n_targets_batch

    def fit(self, X: ArrayLike, y: Any = None, groups: ArrayLike | None = None) -> BandedRidge:
        """Fit the model.

        Parameters
        ----------
        X : array, shape (sample, feature)
            Features of all bands side by side.
        y : array, shape (sample, target) or (sample,)
            Responses; a target is a voxel.
        groups : array, shape (sample,), optional
            Labels, usually stimulus ids (runs for time series): samples of one group are never on both sides
            of a fold.

        Returns
        -------
        BandedRidge
            Itself.

        Raises
        ------
        InputError
            Where shapes do not fit, values are not finite, or bands do not share out the features.
        """
        x = check_inputs(self, X, check_dtype(self.dtype), reset=True)
        columns = resolve_bands(self.bands, x.shape[1])
        mean = x.mean(axis=0, dtype=np.float64) if self.fit_intercept else np.zeros(x.shape[1])
        kernels = linear_kernels(x, x, list(columns.values()), mean)
        self._fit(kernels, y, groups, list(columns))
        self.band_columns_ = list(columns.values())
        self.x_mean_, self.X_fit_ = mean, x
        return self

    def fit_kernels(
        self, kernels: ArrayLike | Mapping[str, ArrayLike], y: Any, groups: ArrayLike | None = None
    ) -> BandedRidge:
        """Fit the model to kernels computed elsewhere, e.g. of features too wide for memory.

        Parameters
        ----------
        kernels : array, shape (band, sample, sample), or dict of str to array, shape (sample, sample)
            Raw kernels ``X X'`` of each band, neither centered nor scaled. Without a dict, bands are named
            by the keys of the parameter `bands` where it is a dict of as many, else ``band0``, ``band1`` ...
        y : array, shape (sample, target) or (sample,)
            Responses.
        groups : array, shape (sample,), optional
            As for :meth:`fit`.

        Returns
        -------
        BandedRidge
            Itself. Predict with :meth:`predict_kernels`.
        """
        names, stacked = as_mapping(kernels)
        array = check_kernels(stacked)
        if names is None and isinstance(self.bands, Mapping) and len(self.bands) == len(array):
            names = [str(name) for name in self.bands]
        for attribute in ("X_fit_", "x_mean_", "band_columns_", "n_features_in_", "feature_names_in_"):
            self.__dict__.pop(attribute, None)
        return self._fit(array, y, groups, names or [f"band{number}" for number in range(len(array))])

    def _fit(self, kernels: NDArray, y: Any, groups: ArrayLike | None, names: list[str]) -> BandedRidge:
        dtype = check_dtype(self.dtype)
        check_device(self.device)
        targets = Targets(y, dtype)
        if targets.n_samples != kernels.shape[1]:
            raise InputError(
                "features and responses have different numbers of samples (inconsistent lengths)",
                given=f"X {kernels.shape[1]}, y {targets.n_samples}",
                expected="one row of responses for each sample",
            )
        alphas = np.atleast_1d(check_alphas(self.alphas))
        if alphas.min() <= 0:
            raise InputError("regularization strengths of banded ridge are above 0", given=repr(self.alphas))
        folds = group_folds(targets.n_samples, groups, self.cv)
        mixtures = self._mixtures(len(kernels))
        scaling = KernelScaling.fit(kernels, bool(self.fit_intercept))
        scaled = scaling.apply(kernels, dtype)
        found = MixtureSearch(
            scaled, mixtures, alphas, folds, bool(self.fit_intercept), self.device, self.n_targets_batch
        )
        found.run(targets)
        self.band_names_, self.target_shape_ = names, targets.shape
        self.kernel_rows_, self.kernel_means_ = scaling.rows, scaling.means
        self.kernel_scales_ = scaling.scales
        self.mixtures_, self.alphas_, self.cv_scores_ = found.mixtures, found.alphas, found.scores
        self.band_weights_ = self.mixtures_ / self.alphas_
        self.dual_coef_, self.intercept_ = found.dual, found.intercept
        return self

    def _mixtures(self, n_bands: int) -> NDArray[np.float64]:
        if self.n_iter is None or np.ndim(self.n_iter) == 0:
            return candidate_mixtures(n_bands, self.n_iter, self.random_state)
        mixtures = np.asarray(self.n_iter, dtype=np.float64)
        if mixtures.ndim != 2 or mixtures.shape[1] != n_bands or (mixtures < 0).any() or (mixtures.sum(1) <= 0).any():
            raise InputError(
                "these mixtures of bands cannot be tried",
                given=f"shape {mixtures.shape}",
                expected=f"shape (mixture, {n_bands}), entries of 0 or more, no row of zeros",
            )
        return mixtures

    def predict(self, X: ArrayLike, split: bool = False) -> NDArray:
        """Predict responses.

        Parameters
        ----------
        X : array, shape (sample, feature)
            Features.
        split : bool
            Return what each band contributes: deviations from ``intercept_``, which belongs to no band.
            ``predict(X) == predict(X, split=True).sum(0) + intercept_``.

        Returns
        -------
        y : array, shape (sample, target) or (band, sample, target)
            Predicted responses, or contributions.
        """
        check_is_fitted(self)
        self._require_features("predict_kernels(kernels)")
        x = check_inputs(self, X, self.dtype, reset=False)
        kernels = linear_kernels(x, self.X_fit_, self.band_columns_, self.x_mean_)
        return self.predict_kernels(kernels, split)

    def predict_kernels(self, kernels: ArrayLike | Mapping[str, ArrayLike], split: bool = False) -> NDArray:
        """Predict responses from kernels between new and training samples.

        Parameters
        ----------
        kernels : array, shape (band, sample, train), or dict of str to array, shape (sample, train)
            Raw kernels, computed as those that were fitted.
        split : bool
            Return what each band contributes, without the intercept.

        Returns
        -------
        y : array, shape (sample, target) or (band, sample, target)
            Predicted responses, or contributions.
        """
        check_is_fitted(self)
        names, stacked = as_mapping(kernels)
        if names is not None and names != self.band_names_:
            raise InputError("these are not the bands that were fitted", given=names, expected=self.band_names_)
        array = check_kernels(stacked, len(self.dual_coef_), len(self.band_names_))
        scaling = KernelScaling(self.kernel_rows_, self.kernel_means_, self.kernel_scales_)
        scaled = scaling.apply(array, self.dtype)
        weights = self.band_weights_.astype(self.dtype)
        if split:
            pairs = zip(scaled, weights, strict=True)
            parts = np.stack([(kernel @ self.dual_coef_) * row for kernel, row in pairs])
            return parts.reshape((*parts.shape[:2], *self.target_shape_))
        predicted = np.zeros((scaled.shape[1], self.dual_coef_.shape[1]), dtype=self.dtype)
        for kernel, row in zip(scaled, weights, strict=True):
            predicted += (kernel @ self.dual_coef_) * row
        predicted += self.intercept_.astype(self.dtype)
        return predicted.reshape((len(predicted), *self.target_shape_))

    def score(self, X: ArrayLike, y: ArrayLike, split: bool = False) -> NDArray[np.float64]:
        """Return R2 of each target.

        Parameters
        ----------
        X : array, shape (sample, feature)
            Features of held-out samples.
        y : array, shape (sample, target)
            Their responses.
        split : bool
            Return the share of each band (product measure,
            :func:`neurorecon.decoders.scores.r2_score_split`). Shares sum to the joint R2 where the held-out
            responses have the training mean, e.g. where both were centered run by run; otherwise to the
            joint R2 of the responses less their mean.

        Returns
        -------
        r2 : array, shape (target,) or (band, target)
            NaN for targets that do not vary.
        """
        predicted = self.predict(X, split)
        return self._score(predicted, y, split)

    def score_kernels(
        self, kernels: ArrayLike | Mapping[str, ArrayLike], y: ArrayLike, split: bool = False
    ) -> NDArray[np.float64]:
        """Return R2 of each target as :meth:`score` does, from kernels as for :meth:`predict_kernels`."""
        return self._score(self.predict_kernels(kernels, split), y, split)

    def _score(self, predicted: NDArray, y: ArrayLike, split: bool) -> NDArray[np.float64]:
        measured = np.asarray(y)
        measured = measured.reshape(len(measured), -1)
        if split:
            return r2_score_split(measured, predicted.reshape(*predicted.shape[:2], -1))
        return r2_score(measured, predicted.reshape(len(predicted), -1))

    def coef(self, band: str) -> NDArray:
        """Return the weights of one band's features, shape (feature of the band, target).

        They answer to features less their training mean; computed at each call.

        Parameters
        ----------
        band : str
            Its name.
        """
        check_is_fitted(self)
        self._require_features("weights of the samples (dual_coef_)")
        if band not in self.band_names_:
            raise UnknownNameError("band", band, self.band_names_)
        number = self.band_names_.index(band)
        columns = self.band_columns_[number]
        centered = self.X_fit_[:, columns].astype(np.float64) - self.x_mean_[columns]
        weights = self.band_weights_[number] / self.kernel_scales_[number]
        return ((centered.T @ self.dual_coef_) * weights).astype(self.dtype)

    @property
    def coef_(self) -> NDArray:
        """Weights of all features, (target, feature), or (feature,) for responses given as a vector."""
        weights = np.empty((self.n_features_in_, self.dual_coef_.shape[1]), dtype=self.dtype)
        for name, columns in zip(self.band_names_, self.band_columns_, strict=True):
            weights[columns] = self.coef(name)
        return weights.T.reshape((*self.target_shape_, -1))

    def best_band(self, split_r2: ArrayLike | None = None) -> NDArray[np.str_]:
        """Return the winning band of each target.

        Parameters
        ----------
        split_r2 : array, shape (band, target), optional
            ``score(X, y, split=True)`` on held-out samples: the band with the largest share wins. Without
            it, the band with the largest weight in the fitted kernel does, which says what was used, not
            what was predicted.

        Returns
        -------
        names : str array, shape (target,)
            Empty where all shares are NaN.
        """
        check_is_fitted(self)
        shares = self.mixtures_ if split_r2 is None else np.asarray(split_r2, dtype=np.float64)
        if shares.ndim != 2 or len(shares) != len(self.band_names_):
            raise InputError(
                "the shares do not fit the bands", given=f"shape {shares.shape}", expected="(band, target)"
            )
        known = ~np.isnan(shares).all(axis=0)
        winners = np.where(np.isnan(shares), -np.inf, shares).argmax(axis=0)
        return np.where(known, np.asarray(self.band_names_)[winners], "")

    def _require_features(self, instead: str) -> None:
        if not hasattr(self, "X_fit_"):
            raise InputError("this model was fitted to kernels and does not know the features", todo=f"use {instead}")
