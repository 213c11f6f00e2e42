"""A fitted ridge regression: predictions, weights and patterns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from neurorecon.decoders.backend import Backend
from neurorecon.decoders.products import subtract
from neurorecon.decoders.ridge.renormalization import Moments
from neurorecon.decoders.target_scores import TargetScores
from neurorecon.decoders.targets import output_columns, release_pages
from neurorecon.decoders.validation import check_inputs

#: Attributes that hold the moments of renormalization.
MOMENTS = ("target_mean_", "target_deviation_", "predicted_mean_", "predicted_deviation_")


class FittedRidge(TargetScores):
    """What :class:`neurorecon.decoders.RidgeDecoder` does once it is fitted; see there for the attributes."""

    device: str
    dtype: str
    target_block: int | None
    coordinates_: NDArray
    intercept_: NDArray[np.float64]
    n_features_in_: int
    sample_vectors_: NDArray
    selected_voxels_: NDArray[np.int64]
    singular_values_: NDArray[np.float64]
    target_deviation_: NDArray[np.float64]
    target_mean_: NDArray[np.float64]
    voxel_vectors_: NDArray
    x_mean_: NDArray[np.float64]
    _sample_roots_: NDArray[np.float64] | None

    def predict(self, X: ArrayLike, out: Any = None) -> Any:
        """Predict targets.

        Parameters
        ----------
        X : array, shape (sample, voxel)
            Responses.
        out : array, shape (sample, ...), optional
            Where predictions are written block by block: a NumPy array, memory map or Zarr array, flattened or
            in the shape of the targets.

        Returns
        -------
        array, shape (sample, ...)
            Predicted targets, in the shape of those fitted: `out`, or a new array.

        Raises
        ------
        InputError
            Where responses do not fit the decoder, or predictions do not fit into `out`.
        """
        check_is_fitted(self, "coordinates_")
        inputs = self._inputs(X)
        out, written = output_columns(out, len(inputs), self.target_shape_, self.dtype)
        step = self.target_block or max(1, 2**25 // max(1, len(self.coordinates_)))
        for columns in written.blocks(step):
            written[columns] = self._predict_columns(inputs, columns)
        return out

    def predict_blocks(self, X: ArrayLike) -> Iterator[tuple[slice, NDArray]]:
        """Yield ``(columns, predictions)``, predictions of some of the flattened targets, (sample, target).

        Parameters
        ----------
        X : array, shape (sample, voxel)
            Responses.
        """
        check_is_fitted(self, "coordinates_")
        inputs = self._inputs(X)
        step = self.target_block or max(1, 2**25 // max(1, len(self.coordinates_)))
        for start in range(0, self.coordinates_.shape[1], step):
            columns = slice(start, min(start + step, self.coordinates_.shape[1]))
            yield columns, self._predict_columns(inputs, columns)

    def _inputs(self, X: ArrayLike) -> Any:
        """Return responses along the right singular vectors, (sample, component), on the device."""
        backend = Backend(self.device)
        x = check_inputs(self, X, self.dtype, reset=False)
        x = x[:, self.selected_voxels_] if hasattr(self, "selected_voxels_") else x
        centered = backend.asarray(subtract(x, self.x_mean_, self.dtype), self.dtype)
        return centered @ backend.asarray(self.voxel_vectors_, self.dtype)

    def _predict_columns(self, inputs: Any, columns: slice) -> NDArray:
        backend = Backend(self.device)
        part = backend.to_numpy(inputs @ backend.asarray(self.coordinates_[:, columns], self.dtype))
        release_pages(self.coordinates_)
        predicted = part + self.intercept_[columns].astype(self.dtype)
        if not hasattr(self, "target_deviation_"):
            return predicted
        left_out = [getattr(self, name, None) for name in MOMENTS[2:]]
        return Moments(self.target_mean_, self.target_deviation_, *left_out).apply(predicted, columns)

    @property
    def coef_(self) -> NDArray:
        """Weights, shape (*target_shape, voxel) as in scikit-learn, computed at each access.

        They answer to responses less their means, and give predictions before `renorm`. Voxels that were not
        selected have a weight of zero. Weights are no map of where information is: see :meth:`haufe_patterns`.
        """
        check_is_fitted(self, "coordinates_")
        return self._all_voxels((self.voxel_vectors_ @ self.coordinates_).T, 0.0).reshape((*self.target_shape_, -1))

    @property
    def dual_coef_(self) -> NDArray:
        """Weights of the samples, (sample, target): ``coef_.T = (X - x_mean_).T @ dual_coef_``."""
        check_is_fitted(self, "coordinates_")
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
            in units of voxel times target; NaN for voxels that were not selected.

        References
        ----------
        Haufe et al. (2014). On the interpretation of weight vectors of linear models in multivariate
        neuroimaging. NeuroImage 87, 96-110.
        """
        check_is_fitted(self, "coordinates_")
        chosen = self.coordinates_ if targets is None else self.coordinates_[:, targets]
        variances = (self.singular_values_**2 / max(1, len(self.sample_vectors_) - 1)).astype(self.dtype)
        return self._all_voxels((self.voxel_vectors_ @ (variances[:, None] * chosen)).T, np.nan)

    def _all_voxels(self, values: NDArray, missing: float) -> NDArray:
        """Return values of the selected voxels, (target, voxel), among those of all voxels."""
        if not hasattr(self, "selected_voxels_"):
            return values
        found = np.full((len(values), self.n_features_in_), missing, dtype=values.dtype)
        found[:, self.selected_voxels_] = values
        return found
