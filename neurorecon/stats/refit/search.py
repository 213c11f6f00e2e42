"""What each permutation repeats: choosing alpha for each voxel, and scoring the predictions for test samples.

Arrays are NumPy's or torch's: everything here is written in operators that both have.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from neurorecon.errors import InputError, UnknownNameError
from neurorecon.stats.refit.factors import Factors, Rows


class Place:
    """Where arrays are, and in which precision.

    Parameters
    ----------
    device : str
        ``"cpu"`` computes with NumPy; ``"torch"`` with torch on the processor; ``"cuda"`` with torch on a graphics
        card.
    dtype : {"float32", "float64"}
        Precision.
    """

    def __init__(self, device: str = "cpu", dtype: str = "float32") -> None:
        if str(dtype) not in ("float32", "float64"):
            raise UnknownNameError("precision", str(dtype), ("float32", "float64"))
        if device.split(":")[0] not in ("cpu", "torch", "cuda"):
            raise UnknownNameError("device", device, ("cpu", "torch", "cuda"))
        self.device, self.dtype = device, str(dtype)

    def put(self, array: NDArray, dtype: str | None = None) -> Any:
        """Return an array in this place."""
        values = np.ascontiguousarray(array, dtype=dtype or self.dtype)
        if self.device == "cpu":
            return values
        import torch

        # A copy where the array cannot be written to: torch warns about those.
        return torch.from_numpy(values if values.flags.writeable else values.copy()).to(
            "cpu" if self.device == "torch" else self.device
        )

    def get(self, array: Any) -> NDArray:
        """Return an array of NumPy."""
        return array if isinstance(array, np.ndarray) else array.cpu().numpy()


class GeneralizedCrossValidation:
    """Alpha of each voxel by generalized cross-validation, from ``U'Y`` alone.

    The criterion is ``sum((y - Hy) ** 2) / trace(I - H) ** 2`` with ``H`` the smoother that includes the intercept.

    References
    ----------
    Golub, Heath & Wahba (1979). Generalized cross-validation as a method for choosing a good ridge parameter.
    Technometrics 21(2), 215-223.
    """

    def __init__(self, factors: Factors, alphas: NDArray[np.float64], place: Place) -> None:
        n_samples, n_components = factors.u.shape
        squared = factors.singular_values[:, None] ** 2
        left = alphas / (squared + alphas)
        self._outside = n_samples - 1 > n_components
        trace = n_samples - 1 - n_components + left.sum(axis=0)
        # Sums of what is left, not differences from what was there: nothing cancels where alpha is small.
        self._left = place.put((left**2 / trace**2).T)
        self._trace = place.put(1 / trace[:, None] ** 2)

    def choose(self, rows: Rows | None, y: Any, projected: Any, total: Any) -> Any:
        """Return the index of the best alpha of each voxel, (voxel,).

        Parameters
        ----------
        rows : int array, shape (sample,), optional
            Which sample of `y` comes to each place; None for the order shown.
        y : array, shape (sample, voxel)
            Centered responses in the order shown.
        projected : array, shape (component, voxel)
            ``U'Y`` of the permuted responses.
        total : array, shape (voxel,)
            Their sums of squares.
        """
        squared = projected * projected
        losses = self._left @ squared
        if self._outside:
            losses = losses + self._trace * (total - squared.sum(0)).clip(0)
        return losses.argmin(0)


class KFold:
    """Alpha of each voxel by the mean squared error on held-out samples, averaged over folds."""

    def __init__(
        self, folds: Sequence[tuple[Rows, Rows]], factors: Sequence[Factors], alphas: NDArray[np.float64], place: Place
    ) -> None:
        self._folds = [(place.put(train, "int64"), place.put(held_out, "int64")) for train, held_out in folds]
        self._u = [place.put(part.u) for part in factors]
        self._test = [place.put(part.test.sum(axis=0)) for part in factors]
        self._shrinkage = [place.put(part.shrinkage(alphas)) for part in factors]
        self._n_alphas, self._place = len(alphas), place

    def choose(self, rows: Rows | None, y: Any, projected: Any, total: Any) -> Any:
        """Return the index of the best alpha of each voxel; see :meth:`GeneralizedCrossValidation.choose`."""
        permuted = y if rows is None else y[self._place.put(rows, "int64")]
        errors: list[Any] = [0.0] * self._n_alphas
        for (train, held_out), u, test, shrinkage in zip(
            self._folds, self._u, self._test, self._shrinkage, strict=True
        ):
            measured = permuted[train]
            mean = measured.mean(0)
            coordinates = u.T @ measured
            true = permuted[held_out] - mean
            for number in range(self._n_alphas):
                residual = true - test @ (shrinkage[:, number : number + 1] * coordinates)
                errors[number] = errors[number] + (residual * residual).mean(0)
        stacked = self._place.get(errors[0])[None] if self._n_alphas == 1 else None
        if stacked is None:
            stacked = np.stack([self._place.get(error) for error in errors])
        return self._place.put(stacked.argmin(0), "int64")


class HeldOutScore:
    """Scores of predictions ``T W`` for the test samples, from the coordinates of the regression alone.

    Parameters
    ----------
    test : array, shape (band, test_sample, component)
        Coordinates T.
    measured : array, shape (test_sample, voxel)
        Test responses.
    intercept : array, shape (voxel,)
        What is predicted besides: the mean of the training responses.
    statistic : {"r2", "correlation"}
        R2 about the mean of the test responses, or Pearson's correlation.
    place : Place
        Where to compute.
    """

    def __init__(
        self,
        test: NDArray[np.float64],
        measured: NDArray[np.float64],
        intercept: NDArray[np.float64],
        statistic: Literal["r2", "correlation"],
        place: Place,
    ) -> None:
        deviations = measured - measured.mean(axis=0)
        total = np.where(varies(measured), (deviations**2).sum(axis=0), np.nan)
        self._statistic = statistic
        if statistic == "r2":
            from_train = measured - intercept
            true = np.where(np.isnan(total), 0, from_train)
            self._constant = 1 - (true**2).sum(axis=0) / total
        else:
            test = test - test.mean(axis=1, keepdims=True)
            true = np.where(np.isnan(total), 0, deviations / np.sqrt(total))
            self._constant = np.zeros(len(total))
        # Rounding errors of a prediction that does not vary are this small.
        self._smallest = np.finfo(place.dtype).tiny ** 0.5
        self._total, self._place = total, place
        basis, reduced = _reduce(test)
        self._test = [place.put(part) for part in reduced]
        self._true = place.put(true if basis is None else basis.T @ true)

    def __call__(self, weights: Any) -> NDArray:
        """Return the joint score and, with several bands, the share of each by the product measure: (score, voxel)."""
        parts = [part @ weights for part in self._test]
        joint = sum(parts[1:], parts[0])
        against = 2 * self._true - joint if self._statistic == "r2" else self._true
        shares = np.stack([self._place.get((part * against).sum(0)) for part in parts]).astype(np.float64)
        if self._statistic == "r2":
            shares = shares / self._total
        else:
            norm = np.sqrt(self._place.get((joint * joint).sum(0)).astype(np.float64))
            shares = np.where(norm > self._smallest, shares / np.where(norm > self._smallest, norm, 1), 0)
            shares = np.where(np.isnan(self._total), np.nan, shares)
        scores = shares.sum(axis=0, keepdims=True) + self._constant
        return (scores if len(parts) == 1 else np.concatenate([scores, shares])).astype(self._place.dtype)


def _reduce(test: NDArray[np.float64]) -> tuple[NDArray[np.float64] | None, NDArray[np.float64]]:
    """Return an orthonormal basis of the predictions, and the coordinates in it, where that saves products.

    Predictions for many samples lie in a space of as many dimensions as there are components; sums of their products
    need only coordinates in that space.
    """
    n_bands, n_samples, n_components = test.shape
    if n_samples <= n_bands * n_components or not n_components:
        return None, test
    basis, triangle = np.linalg.qr(np.concatenate(list(test), axis=1))
    return basis, np.stack(np.split(triangle, n_bands, axis=1))


def varies(responses: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return where responses vary by more than the rounding errors of their mean, (voxel,)."""
    rounding = 10 * np.finfo(np.float64).eps * np.abs(responses).max(axis=0, initial=0)
    return np.ptp(responses, axis=0) > rounding


def check_alphas(alphas: Any) -> NDArray[np.float64]:
    """Return candidates as an array, (alpha,)."""
    values = np.atleast_1d(np.asarray(alphas, dtype=np.float64))
    if values.ndim != 1 or not values.size or not np.isfinite(values).all() or values.min() <= 0:
        raise InputError(
            "these regularization strengths cannot be tried",
            given=repr(alphas),
            expected="one or more numbers above 0",
        )
    return values
