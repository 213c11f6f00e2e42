"""A fitted banded ridge regression: predictions, scores and weights of each band."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from neurorecon.decoders.banded.kernels import KernelScaling, check_kernels, kernel_names, linear_kernels
from neurorecon.decoders.scores import correlation_score, correlation_score_split, r2_score, r2_score_split
from neurorecon.decoders.validation import check_inputs
from neurorecon.errors import InputError, UnknownNameError


class FittedBands:
    """What :class:`neurorecon.decoders.BandedRidge` does once it is fitted; see there for the attributes."""

    dtype: str
    band_names_: list[str]
    band_columns_: list[NDArray[np.int64]]
    band_weights_: NDArray[np.float64]
    mixtures_: NDArray[np.float64]
    kernel_rows_: NDArray[np.float64]
    kernel_means_: NDArray[np.float64]
    kernel_scales_: NDArray[np.float64]
    dual_coef_: NDArray
    primal_coef_: NDArray
    intercept_: NDArray[np.float64]
    target_shape_: tuple[int, ...]
    x_mean_: NDArray[np.float64]
    X_fit_: NDArray
    n_features_in_: int

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
        if hasattr(self, "primal_coef_"):
            return self._predict_features(x, split)
        kernels = linear_kernels(x, self.X_fit_, self.band_columns_, self.x_mean_)
        return self.predict_kernels(kernels, split)

    def _predict_features(self, x: NDArray, split: bool) -> NDArray:
        x = (x - self.x_mean_).astype(self.dtype)
        if split:
            parts = np.stack([x[:, columns] @ self.primal_coef_[columns] for columns in self.band_columns_])
            return parts.reshape((*parts.shape[:2], *self.target_shape_))
        predicted = x @ self.primal_coef_
        predicted += self.intercept_.astype(self.dtype)
        return predicted.reshape((len(predicted), *self.target_shape_))

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
        if hasattr(self, "primal_coef_"):
            raise InputError(
                "this model has weights of features, and cannot predict from kernels",
                given="a model fitted by the solver 'group_ridge'",
                todo="use predict(X), or fit with solver='random_search'",
            )
        names = kernel_names(kernels)
        if names is not None and names != self.band_names_:
            raise InputError("these are not the bands that were fitted", given=names, expected=self.band_names_)
        parts_of_bands = check_kernels(kernels, len(self.dual_coef_), len(self.band_names_))
        scaling = KernelScaling(self.kernel_rows_, self.kernel_means_, self.kernel_scales_)
        scaled = scaling.apply(parts_of_bands, self.dtype)
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

    def score(self, X: ArrayLike, y: ArrayLike, split: bool = False, metric: str = "r2") -> NDArray[np.float64]:
        """Return R2, or the correlation, of each target.

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
        metric : {"r2", "correlation"}
            Which score; see :func:`neurorecon.decoders.scores.correlation_score_split` for shares of the correlation.

        Returns
        -------
        score : array, shape (target,) or (band, target)
            NaN for targets that do not vary.
        """
        return self._score(self.predict(X, split), y, split, metric)

    def score_kernels(
        self, kernels: ArrayLike | Mapping[str, ArrayLike], y: ArrayLike, split: bool = False, metric: str = "r2"
    ) -> NDArray[np.float64]:
        """Return scores as :meth:`score` does, from kernels as for :meth:`predict_kernels`."""
        return self._score(self.predict_kernels(kernels, split), y, split, metric)

    def _score(self, predicted: NDArray, y: ArrayLike, split: bool, metric: str) -> NDArray[np.float64]:
        scores: dict[str, Any] = {
            "r2": (r2_score, r2_score_split),
            "correlation": (correlation_score, correlation_score_split),
        }
        if metric not in scores:
            raise UnknownNameError("score", metric, scores)
        measured = np.asarray(y)
        measured = measured.reshape(len(measured), -1)
        return scores[metric][split](measured, predicted.reshape(*predicted.shape[: 1 + split], -1))

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
        if hasattr(self, "primal_coef_"):
            return self.primal_coef_[columns]
        centered = self.X_fit_[:, columns].astype(np.float64) - self.x_mean_[columns]
        weights = self.band_weights_[number] / self.kernel_scales_[number]
        return ((centered.T @ self.dual_coef_) * weights).astype(self.dtype)

    @property
    def coef_(self) -> NDArray:
        """Weights of all features, (target, feature), or (feature,) for responses given as a vector."""
        weights = np.empty((self.n_features_in_, len(self.intercept_)), dtype=self.dtype)
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
        if not hasattr(self, "band_columns_"):
            raise InputError("this model was fitted to kernels and does not know the features", todo=f"use {instead}")
