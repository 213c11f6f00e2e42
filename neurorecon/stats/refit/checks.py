"""What a refit test is given: bands, mixtures, folds and responses, checked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurorecon.errors import InputError, UnknownNameError
from neurorecon.stats.refit.factors import Rows, Source


def band_columns(bands: Any, n_features: int) -> list[NDArray[np.int64]]:
    """Return the features of each band, all of them where there are no bands."""
    everything = np.arange(n_features)
    if bands is None:
        return [everything]
    columns = [everything[part if isinstance(part, slice) else np.asarray(part)] for part in bands.values()]
    used = np.bincount(np.concatenate(columns), minlength=n_features)
    if (used != 1).any():
        raise InputError(
            "each feature has to be in one band",
            given=f"{int((used > 1).sum())} features in several bands, {int((used == 0).sum())} in none",
            expected=f"bands that share out {n_features} features",
        )
    return columns


def mixture_groups(
    mixtures: ArrayLike | None, source: Source, n_voxels: int
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.int64]]]:
    """Yield the weights of the bands' kernels, (band,), and the voxels that have them."""
    n_bands = source.n_bands
    if mixtures is None:
        if n_bands > 1:
            raise InputError(
                "several bands need to be weighted",
                given=f"{n_bands} bands and no mixtures",
                expected="mixtures of shape (band, voxel)",
                todo="fit BandedRidge first and pass mixtures=model.mixtures_, or pass ones for equal weights",
            )
        yield np.ones(1), np.arange(n_voxels)
        return
    given = np.asarray(mixtures, dtype=np.float64)
    if given.shape != (n_bands, n_voxels) or not np.isfinite(given).all() or given.min() < 0:
        raise InputError(
            "the mixtures do not fit the bands and voxels",
            given=f"shape {given.shape}",
            expected=f"({n_bands}, {n_voxels}), finite and not below 0",
        )
    scales = source.scales()
    # Weights that differ by rounding errors are the same candidate of a search.
    unique, member = np.unique(np.round(given.T, 6), axis=0, return_inverse=True)
    for number in range(len(unique)):
        voxels = np.flatnonzero(member.ravel() == number)
        yield given[:, voxels[0]] / scales, voxels


def unit_folds(cv: Any, labels: NDArray[np.int64], grouped: bool) -> list[tuple[Rows, Rows]]:
    """Return folds that keep units together."""
    if isinstance(cv, str):
        raise UnknownNameError("way to choose alpha", cv, ("gcv", "a number of folds", "folds"))
    if isinstance(cv, int | np.integer):
        from sklearn.model_selection import GroupKFold
        from sklearn.model_selection import KFold as Contiguous

        if cv < 2 or cv > len(np.unique(labels)):
            raise InputError("these folds cannot be made", given=f"cv={cv}, {len(np.unique(labels))} units")
        splitter = GroupKFold(int(cv)) if grouped else Contiguous(int(cv))
        cv = splitter.split(labels, groups=labels)
    folds = [(np.asarray(train), np.asarray(held_out)) for train, held_out in cv]
    if any(np.isin(labels[held_out], labels[train]).any() for train, held_out in folds):
        raise InputError(
            "a fold puts samples of one unit on both sides",
            expected="folds that keep repeats of a stimulus (or a run) together",
        )
    return folds


def check_responses(measured: Any, held_out: Any, source: Source) -> None:
    """Refuse responses that do not fit the features."""
    n_train, n_test = source.n_samples, source.n_test
    fits = len(measured.shape) == 2 == len(held_out.shape) and measured.shape[1] == held_out.shape[1]
    if not fits or measured.shape[0] != n_train or held_out.shape[0] != n_test or 0 in (*measured.shape, n_test):
        raise InputError(
            "the responses do not fit the features",
            given=f"training responses {measured.shape}, test responses {held_out.shape}",
            expected=f"({n_train}, voxel) and ({n_test}, voxel)",
        )


def require_finite(**arrays: NDArray) -> None:
    """Refuse arrays, given by name, with NaN or infinite values."""
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise InputError(f"`{name}` has NaN or infinite values", given=f"{int((~np.isfinite(array)).sum())} such")
