"""Scores of predictions, grouped folds, and checks of input."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurorecon.errors import InputError, UnknownNameError


def _check(y_true: ArrayLike, y_pred: ArrayLike, n_dimensions: tuple[int, ...]) -> tuple[NDArray, NDArray]:
    true, predicted = np.asarray(y_true, dtype=np.float64), np.asarray(y_pred, dtype=np.float64)
    if predicted.ndim not in n_dimensions or true.shape != predicted.shape[-true.ndim :] or true.ndim != 2:
        raise InputError(
            "the predictions do not match the measured values",
            given=f"measured {true.shape}, predicted {predicted.shape}",
            expected="measured (sample, target), and predicted ([band,] sample, target)",
        )
    return true, predicted


def _deviations(true: NDArray) -> tuple[NDArray, NDArray]:
    """Return centered targets and their sums of squares, NaN for targets that do not vary."""
    centered = true - true.mean(axis=0)
    total = (centered**2).sum(axis=0)
    rounding = len(true) * (10 * np.finfo(np.float64).eps * np.abs(true).max(axis=0, initial=0)) ** 2
    return centered, np.where(total > rounding, total, np.nan)


def r2_score(y_true: ArrayLike, y_pred: ArrayLike) -> NDArray[np.float64]:
    """Return the coefficient of determination of each target.

    Parameters
    ----------
    y_true, y_pred : array, shape (sample, target)
        Measured and predicted targets.

    Returns
    -------
    r2 : array, shape (target,)
        ``1 - sum((y - p) ** 2) / sum((y - mean(y)) ** 2)``; NaN for targets that do not vary.

    Examples
    --------
    >>> from neurorecon.decoders import r2_score
    >>> r2_score([[1.0], [2.0], [3.0]], [[2.0], [2.0], [2.0]]).tolist()  # predicts the mean
    [0.0]
    """
    true, predicted = _check(y_true, y_pred, (2,))
    _, total = _deviations(true)
    return 1 - ((true - predicted) ** 2).sum(axis=0) / total


def correlation_score(y_true: ArrayLike, y_pred: ArrayLike) -> NDArray[np.float64]:
    """Return the Pearson correlation of each target.

    Parameters
    ----------
    y_true, y_pred : array, shape (sample, target)
        Measured and predicted targets.

    Returns
    -------
    r : array, shape (target,)
        0 for constant predictions, NaN for targets that do not vary.

    Examples
    --------
    >>> from neurorecon.decoders import correlation_score
    >>> correlation_score([[1.0], [2.0], [3.0]], [[0.1], [0.2], [0.3]]).round(3).tolist()
    [1.0]
    """
    true, predicted = _check(y_true, y_pred, (2,))
    centered, total = _deviations(true)
    deviations, power = _deviations(predicted)
    r = (centered * deviations).sum(axis=0) / np.sqrt(total * power)
    return np.where(np.isnan(power) & ~np.isnan(total), 0.0, r)


def r2_score_split(y_true: ArrayLike, contributions: ArrayLike) -> NDArray[np.float64]:
    """Return the share of each band in the joint R2, by the product measure.

    The share of band b is ``sum((2 y - p) * p_b) / sum(y ** 2)``, where y are the centered targets, p_b is the
    contribution of the band, and p is the sum of all contributions. The shares of all bands sum to
    ``r2_score(y, p)``. A share is negative if the band makes the joint prediction worse.

    Parameters
    ----------
    y_true : array, shape (sample, target)
        Measured targets. Their mean is subtracted, as the intercept does not belong to any band.
    contributions : array, shape (band, sample, target)
        Contribution of each band to the prediction, without the intercept.

    Returns
    -------
    r2 : array, shape (band, target)
        Shares; NaN for targets that do not vary.

    References
    ----------
    Dupre la Tour, Eickenberg, Nunez-Elizalde & Gallant (2022). Feature-space selection with banded ridge
    regression. NeuroImage 264, 119728 (product measure; reference implementation:
    `himalaya.scoring.r2_score_split`).
    """
    true, predicted = _check(y_true, contributions, (3,))
    centered, total = _deviations(true)
    remainder = 2 * centered - predicted.sum(axis=0)
    return np.stack([(remainder * band).sum(axis=0) for band in predicted]) / total


def correlation_score_split(y_true: ArrayLike, contributions: ArrayLike) -> NDArray[np.float64]:
    """Return the share of each band in the correlation of the joint prediction.

    The share of band b is ``cov(y, p_b) / (std(y) * std(p))``, where p is the sum of all contributions. The shares of
    all bands sum to ``correlation_score(y, p)``. Contributions can have any mean.

    Parameters
    ----------
    y_true : array, shape (sample, target)
        Measured targets.
    contributions : array, shape (band, sample, target)
        Contribution of each band to the prediction.

    Returns
    -------
    r : array, shape (band, target)
        Shares; 0 if the joint prediction is constant, NaN for targets that do not vary.

    References
    ----------
    Dupre la Tour, Eickenberg, Nunez-Elizalde & Gallant (2022). Feature-space selection with banded ridge
    regression. NeuroImage 264, 119728 (`himalaya.scoring.correlation_score_split`).
    """
    true, predicted = _check(y_true, contributions, (3,))
    centered, total = _deviations(true)
    _, power = _deviations(predicted.sum(axis=0))
    shares = np.stack([(centered * band).sum(axis=0) for band in predicted]) / np.sqrt(total * power)
    return np.where(np.isnan(power) & ~np.isnan(total), 0.0, shares)


class TargetScores:
    """Mixin with scores for estimators that have ``predict`` and ``target_shape_``."""

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
            Mean R2. Use :meth:`score_targets` for the R2 of each target.
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


#: Name of leave-one-group-out cross-validation, e.g. with one fold per run.
LEAVE_ONE_GROUP_OUT = "leave-one-group-out"

#: Indices of training and test samples.
Fold = tuple[NDArray[np.int64], NDArray[np.int64]]


def as_labels(groups: Any, n_samples: int, what: str = "`groups`") -> NDArray:
    """Return the label of each sample, e.g. its stimulus or its run.

    Parameters
    ----------
    groups : array, shape (sample,)
        Labels of any type; text and numbers may be mixed.
    n_samples : int
        Number of samples.
    what : str
        What the message calls them.

    Returns
    -------
    array, shape (sample,)

    Raises
    ------
    InputError
        If there is not one label for each sample, or a label is missing: samples without one would count as a group,
        and repeats of a stimulus could straddle folds.
    """
    from neurorecon.io.tables import is_missing

    labels = np.asarray(groups)
    if labels.shape != (n_samples,):
        raise InputError(
            f"{what} needs one label for each sample",
            given=f"shape {labels.shape}",
            expected=f"({n_samples},)",
        )
    # NumPy turns NaN in a list of text into the text "nan".
    given = labels if hasattr(groups, "dtype") else np.array([*groups, None], dtype=object)[:-1]
    without = np.isnan(given) if given.dtype.kind == "f" else np.zeros(n_samples, dtype=bool)
    if given.dtype.kind in "OUS":
        without = np.array([is_missing(label) for label in given], dtype=bool)
    if without.any():
        raise InputError(
            f"{what} has samples without a label",
            given=f"{given[without.argmax()]!r} for sample {int(without.argmax()) + 1}; {int(without.sum())} of "
            f"{n_samples} samples",
            expected="one label for each sample",
            todo="give each a label of its own, or leave these samples out",
        )
    mixed = given.dtype.kind == "O" and len({isinstance(label, str) for label in given}) > 1
    return labels.astype(str) if mixed else labels


def group_folds(n_samples: int, groups: ArrayLike | None = None, cv: Any = 5) -> list[Fold]:
    """Return folds that never split a group.

    Parameters
    ----------
    n_samples : int
        Number of samples.
    groups : array, shape (sample,), optional
        Group of each sample, e.g. its stimulus id (to keep repeats together) or its run. With groups, a number of
        folds uses :class:`sklearn.model_selection.GroupKFold`, otherwise contiguous
        :class:`sklearn.model_selection.KFold`. Neither is random.
    cv : int, "leave-one-group-out", scikit-learn splitter or iterable of (train, test)
        Number of folds (at most one per group), one fold per group, or a splitter, or the folds themselves.

    Returns
    -------
    list of (train, test)
        Index arrays of training and test samples.

    Raises
    ------
    InputError
        If there are fewer than two groups, a fold is empty, or a given fold splits a group.

    Examples
    --------
    >>> from neurorecon.decoders import group_folds
    >>> folds = group_folds(4, groups=["a", "a", "b", "b"], cv=2)
    >>> sorted(test.tolist() for _, test in folds)
    [[0, 1], [2, 3]]
    """
    from sklearn.model_selection import GroupKFold, KFold, LeaveOneGroupOut, check_cv

    labels = None if groups is None else as_labels(groups, n_samples)
    if isinstance(cv, int | np.integer) and not isinstance(cv, bool):
        n_groups = n_samples if labels is None else len(np.unique(labels))
        if cv < 2 or n_groups < 2:
            raise InputError(
                "cross-validation needs at least two folds and two groups",
                given=f"cv={cv}, {n_groups} {'samples' if labels is None else 'groups'}",
                expected="cv of 2 or more, and two groups or more",
                todo="pass a single alpha to fit without cross-validation",
            )
        n_splits = min(int(cv), n_groups)
        splitter = KFold(n_splits) if labels is None else GroupKFold(n_splits)
    elif isinstance(cv, str):
        splitter = LeaveOneGroupOut()
        if cv != LEAVE_ONE_GROUP_OUT or labels is None or len(np.unique(labels)) < 2:
            raise InputError(
                "this cross-validation is not possible",
                given=f"cv={cv!r}, {'no groups' if labels is None else f'{len(np.unique(labels))} group(s)'}",
                expected=f"a number of folds, or {LEAVE_ONE_GROUP_OUT!r} with at least two groups (e.g. runs)",
            )
    else:
        splitter = check_cv(cv)
    with warnings.catch_warnings():
        # Some splitters warn that they ignore groups; whether groups are kept together is checked below.
        warnings.filterwarnings("ignore", message="The groups parameter is ignored")
        splits = list(splitter.split(np.zeros((n_samples, 1)), np.zeros(n_samples), labels))
    folds = [(np.asarray(train), np.asarray(test)) for train, test in splits]
    for train, test in folds:
        if not len(train) or not len(test):
            raise InputError(
                "a fold has no training or no test samples",
                given=f"cv={cv!r}",
                expected="at least one of each",
                todo="change the folds",
            )
        if labels is not None and np.isin(labels[test], labels[train]).any():
            raise InputError(
                "a fold has samples of one group (e.g. repeats of a stimulus) on both sides",
                given=f"cv={cv!r}",
                expected="folds that keep groups together",
                todo="use cv=<number of folds> or a grouped splitter such as GroupKFold",
            )
    return folds


def check_dtype(dtype: str) -> str:
    """Return the name of the precision."""
    if str(dtype) not in ("float32", "float64"):
        raise UnknownNameError("precision", dtype, ("float32", "float64"))
    return str(dtype)


def check_solver(solver: str) -> None:
    """Raise an error for an unknown solver."""
    if solver not in ("auto", "dual", "primal"):
        raise UnknownNameError("solver", solver, ("auto", "dual", "primal"))


def check_inputs(estimator: Any, x: ArrayLike, dtype: str, *, reset: bool) -> NDArray:
    """Return inputs of shape (sample, feature), validated by scikit-learn.

    This sets (`reset`) or checks ``n_features_in_`` and ``feature_names_in_``.
    """
    from sklearn.utils.validation import validate_data

    try:
        least = 2 if reset else 1
        return validate_data(estimator, x, reset=reset, dtype=dtype, order="C", ensure_min_samples=least)
    except ValueError as error:
        raise InputError(str(error), todo="pass finite numbers of shape (sample, feature)") from error


def check_weights(weights: ArrayLike | None, n_samples: int) -> NDArray | None:
    """Return sample weights, or None if there are none."""
    if weights is None:
        return None
    values = np.asarray(weights, dtype=np.float64)
    if values.ndim == 0:
        values = np.full(n_samples, float(values))
    usable = values.shape == (n_samples,) and np.isfinite(values).all() and values.min() >= 0 and values.any()
    if not usable:
        raise InputError(
            "sample weights must be finite and non-negative, and not all zero",
            given=f"shape {values.shape}, from {values.min(initial=np.inf):g} to {values.max(initial=0):g}",
            expected=f"shape ({n_samples},)",
        )
    return values


def check_alphas(alphas: Any) -> NDArray[np.float64]:
    """Return alphas as float64, shape () or (alpha,)."""
    try:
        values = np.asarray(alphas, dtype=np.float64)
    except (TypeError, ValueError):  # text, or sequences of different lengths
        values = np.empty(0)
    if values.ndim > 1 or not values.size or not np.isfinite(values).all() or (values < 0).any():
        raise InputError(
            "alpha must be a non-negative number, or a sequence of candidates",
            given=repr(alphas),
            expected="e.g. 1e4, or np.logspace(0, 6, 7)",
        )
    return values
