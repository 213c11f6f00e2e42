"""Nested cross-validation of banded ridge, and fits in blocks of voxels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from neurorecon.decoders.alphas import alphas_at_edges, quiet_edges
from neurorecon.decoders.banded import BandedRidge
from neurorecon.decoders.kernels import check_kernels, kernel_names, linear_kernels, resolve_bands
from neurorecon.decoders.targets import Targets
from neurorecon.decoders.validation import (
    Fold,
    as_labels,
    check_dtype,
    correlation_score,
    correlation_score_split,
    group_folds,
    r2_score,
    r2_score_split,
)
from neurorecon.errors import InputError


@dataclass(frozen=True)
class NestedScores:
    """Result of :func:`nested_cross_validation`.

    Parameters
    ----------
    bands : list of str
        Names of the bands.
    folds : list of (train, test)
        Outer folds.
    r2, correlation : array, shape (target,)
        Scores of the predictions of all held-out samples together.
    split_r2, split_correlation : array, shape (band, target)
        Shares of the bands, for responses minus the intercept of each fold.
    fold_r2 : array, shape (fold, target)
        R2 on the held-out samples of each fold.
    mixtures : array, shape (fold, band, target)
        Mixtures chosen in each fold.
    alphas : array, shape (fold, target)
        Alphas chosen in each fold.
    predictions : array, shape (sample, target), or None
        Predictions of held-out samples; NaN for samples that are in no test set.
    """

    bands: list[str]
    folds: list[Fold]
    r2: NDArray[np.float64]
    correlation: NDArray[np.float64]
    split_r2: NDArray[np.float64]
    split_correlation: NDArray[np.float64]
    fold_r2: NDArray[np.float64]
    mixtures: NDArray[np.float64]
    alphas: NDArray[np.float64]
    predictions: NDArray | None


def nested_cross_validation(
    model: BandedRidge,
    X: ArrayLike | None = None,
    y: Any = None,
    groups: ArrayLike | None = None,
    *,
    kernels: ArrayLike | Mapping[str, ArrayLike] | None = None,
    outer: Any = 5,
    voxel_block: int | None = None,
    return_predictions: bool = True,
    inspect: Callable[[BandedRidge, NDArray, NDArray], None] | None = None,
) -> NestedScores:
    """Score a banded ridge model by nested cross-validation.

    In each outer fold, mixtures and alphas are chosen by inner cross-validation, and the held-out samples are
    predicted. Groups are kept together in outer and inner folds. With a single fold, ``outer=[(train, test)]``, this
    scores the model on a test set in blocks of voxels.

    Parameters
    ----------
    model : BandedRidge
        Model; it is cloned and not modified. Its `cv` must be a number of folds or a splitter. The search always runs
        on kernels, so the solver ``"group_ridge"`` raises an error.
    X : array, shape (sample, feature), optional
        Features. Pass either `X` or `kernels`.
    y : array, shape (sample, target)
        Responses. Lazy arrays are read in blocks.
    groups : array, shape (sample,), optional
        Group of each sample, usually its stimulus id, or its run for time series.
    kernels : array, shape (band, sample, sample), or dict of str to array, shape (sample, sample), optional
        Raw kernels between all samples, e.g. from :func:`neurorecon.decoders.kernels_by_block`.
    outer : int, scikit-learn splitter or iterable of (train, test)
        Outer folds; see :func:`neurorecon.decoders.group_folds`.
    voxel_block : int, optional
        Number of targets in memory at once; by default that of the model.
    return_predictions : bool
        Whether to return the predictions, which are as large as `y`.
    inspect : callable, optional
        Called with each fitted model and the training and held-out samples of its fold. Blocks of voxels are visited in
        order, and within each block the folds in their order.

    Returns
    -------
    NestedScores

    Raises
    ------
    InputError
        If shapes do not match, a group is split across a fold, or a sample is held out twice.
    """
    names, parts = _kernels_of(model, X, kernels)
    n_samples, dtype = len(parts[0]), check_dtype(model.dtype)
    targets = Targets(y, dtype, voxel_block or model._block_size(n_samples))
    if targets.n_samples != n_samples:
        raise InputError(
            "features and responses have different numbers of samples (inconsistent lengths)",
            given=f"X {n_samples}, y {targets.n_samples}",
        )
    labels = None if groups is None else as_labels(groups, n_samples)
    folds = _outer_folds(n_samples, labels, outer, model.cv)
    shapes = {
        "r2": (),
        "correlation": (),
        "split_r2": (len(names),),
        "split_correlation": (len(names),),
        "fold_r2": (len(folds),),
        "mixtures": (len(folds), len(names)),
        "alphas": (len(folds),),
    }
    found = {name: np.full((*shape, targets.n_targets), np.nan) for name, shape in shapes.items()}
    kept = np.full((n_samples, targets.n_targets), np.nan, dtype=dtype) if return_predictions else None
    held_out = np.sort(np.concatenate([test for _, test in folds]))
    for block, values in targets.blocks():
        predicted = np.full((len(names), n_samples, values.shape[1]), np.nan, dtype=dtype)
        intercepts = np.zeros((n_samples, values.shape[1]))
        for number, (train, test) in enumerate(folds):
            with quiet_edges():
                fitted = _fit(model, names, parts, values, labels, train)
            across = {name: part[np.ix_(test, train)] for name, part in zip(names, parts, strict=True)}
            predicted[:, test] = fitted.predict_kernels(across, split=True)
            intercepts[test] = fitted.intercept_
            found["mixtures"][number][:, block], found["alphas"][number, block] = fitted.mixtures_, fitted.alphas_
            if inspect is not None:
                inspect(fitted, train, test)
        joint = predicted.sum(axis=0) + intercepts
        measured = values[held_out].astype(np.float64)
        found["r2"][block] = r2_score(measured, joint[held_out])
        found["correlation"][block] = correlation_score(measured, joint[held_out])
        for number, (_, test) in enumerate(folds):
            found["fold_r2"][number, block] = r2_score(values[test], joint[test])
        # The intercept of each fold does not belong to any band.
        measured -= intercepts[held_out] - intercepts[held_out].mean(axis=0)
        found["split_r2"][:, block] = r2_score_split(measured, predicted[:, held_out])
        found["split_correlation"][:, block] = correlation_score_split(measured, predicted[:, held_out])
        if kept is not None:
            kept[:, block] = joint
    if model.solver != "gradient":  # held-out R2 above 0: the mean is not what predicts best
        alphas_at_edges(found["alphas"].ravel(), model.alphas, predicts=np.tile(found["r2"] > 0, len(folds))).warn()
    return NestedScores(bands=names, folds=folds, predictions=kept, **found)


def _fit(
    model: BandedRidge, names: list[str], parts: list[NDArray], y: NDArray, labels: NDArray | None, train: NDArray
) -> BandedRidge:
    within = {name: part[np.ix_(train, train)] for name, part in zip(names, parts, strict=True)}
    return clone(model).fit_kernels(within, y[train], None if labels is None else labels[train])


def _kernels_of(model: BandedRidge, x: ArrayLike | None, kernels: Any) -> tuple[list[str], list[NDArray]]:
    if (x is None) == (kernels is None):
        raise InputError(
            "nested cross-validation needs either features or kernels",
            given="both" if x is not None else "neither",
        )
    if kernels is not None:
        parts = check_kernels(kernels)
        return kernel_names(kernels) or [f"band{number}" for number in range(len(parts))], parts
    features = np.asarray(x)
    if features.ndim != 2 or not np.isfinite(features).all():
        raise InputError(
            "features must be a two-dimensional array of finite numbers",
            given=f"shape {features.shape}",
            expected="finite numbers of shape (sample, feature)",
        )
    columns = resolve_bands(model.bands, features.shape[1])
    # Any mean is correct here, as each fold subtracts its own.
    mean = features.mean(axis=0, dtype=np.float64) if model.fit_intercept else np.zeros(features.shape[1])
    return list(columns), list(linear_kernels(features, features, list(columns.values()), mean))


def _outer_folds(n_samples: int, labels: NDArray | None, outer: Any, inner: Any) -> list[Fold]:
    if not isinstance(inner, int | np.integer) and not hasattr(inner, "split"):
        raise InputError(
            "nested cross-validation needs inner folds that apply to any set of samples",
            given="a model whose cv is a list of (train, test)",
            expected="cv as a number of folds or a splitter",
        )
    folds = group_folds(n_samples, labels, outer)
    counts = np.bincount(np.concatenate([test for _, test in folds]), minlength=n_samples)
    if counts.max() > 1:
        raise InputError("outer folds hold out samples more than once", given=f"{int((counts > 1).sum())} samples")
    return folds


def fit_by_voxel_block(
    model: BandedRidge,
    kernels: ArrayLike | Mapping[str, ArrayLike],
    y: Any,
    groups: ArrayLike | None = None,
    *,
    voxel_block: int | None = None,
) -> Iterator[tuple[slice, BandedRidge]]:
    """Fit a model in blocks of voxels, so that responses and weights need not fit in memory.

    Parameters
    ----------
    model : BandedRidge
        Model; it is cloned for each block.
    kernels : array, shape (band, sample, sample), or dict of str to array, shape (sample, sample)
        Raw kernels; see :meth:`neurorecon.decoders.BandedRidge.fit_kernels`.
    y : array, shape (sample, target)
        Responses. Lazy arrays are read in blocks.
    groups : array, shape (sample,), optional
        Group of each sample.
    voxel_block : int, optional
        Number of targets in a block; by default that of the model.

    Yields
    ------
    block : slice
        Indices of the flattened targets.
    fitted : BandedRidge
        Model fitted to these targets.
    """
    n_samples = len(next(iter(kernels.values()))) if isinstance(kernels, Mapping) else np.shape(kernels)[-1]  # type: ignore[arg-type]
    for block, values in Targets(y, check_dtype(model.dtype), voxel_block or model._block_size(n_samples)).blocks():
        yield block, clone(model).fit_kernels(kernels, values, groups)
