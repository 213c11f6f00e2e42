"""Checks that all regressions share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurorecon.errors import InputError, UnknownNameError


def check_dtype(dtype: str) -> str:
    """Return the name of the precision."""
    if str(dtype) not in ("float32", "float64"):
        raise UnknownNameError("precision", dtype, ("float32", "float64"))
    return str(dtype)


def check_solver(solver: str) -> None:
    """Refuse a way to factorize that is not known."""
    if solver not in ("auto", "dual", "primal"):
        raise UnknownNameError("solver", solver, ("auto", "dual", "primal"))


def check_inputs(estimator: Any, x: ArrayLike, dtype: str, *, reset: bool) -> NDArray:
    """Return inputs of shape (sample, feature), checked by scikit-learn's rules.

    Sets or compares ``n_features_in_`` and ``feature_names_in_``.
    """
    from sklearn.utils.validation import validate_data

    try:
        least = 2 if reset else 1
        return validate_data(estimator, x, reset=reset, dtype=dtype, order="C", ensure_min_samples=least)
    except ValueError as error:
        raise InputError(str(error), todo="give finite numbers of shape (sample, feature)") from error


def check_weights(weights: ArrayLike | None, n_samples: int) -> NDArray | None:
    """Return sample weights, or None where there are none."""
    if weights is None:
        return None
    values = np.asarray(weights, dtype=np.float64)
    if values.ndim == 0:
        values = np.full(n_samples, float(values))
    usable = values.shape == (n_samples,) and np.isfinite(values).all() and values.min() >= 0 and values.any()
    if not usable:
        raise InputError(
            "sample weights have to be finite, none below zero and not all zero",
            given=f"shape {values.shape}, from {values.min(initial=np.inf):g} to {values.max(initial=0):g}",
            expected=f"shape ({n_samples},)",
        )
    return values


def check_alphas(alphas: Any) -> NDArray[np.float64]:
    """Return alphas as float64, shape () or (alpha,)."""
    values = np.asarray(alphas, dtype=np.float64)
    if values.ndim > 1 or not values.size or not np.isfinite(values).all() or (values < 0).any():
        raise InputError(
            "alpha is not a regularization strength",
            given=repr(alphas),
            expected="a number of 0 or more, or a sequence of candidates",
        )
    return values
