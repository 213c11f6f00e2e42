"""Cross-validation folds that never split the repeats of a stimulus."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurorecon.errors import InputError

#: One fold for each group, e.g. each run.
LEAVE_ONE_GROUP_OUT = "leave-one-group-out"

#: Indices of the samples to fit on and of those to score.
Fold = tuple[NDArray[np.int64], NDArray[np.int64]]


def group_folds(n_samples: int, groups: ArrayLike | None = None, cv: Any = 5) -> list[Fold]:
    """Return folds in which all samples of a group are on the same side.

    Parameters
    ----------
    n_samples : int
        Number of samples.
    groups : array, shape (sample,), optional
        Labels, e.g. stimulus ids, so that repeats never straddle a fold, or runs of a time series. With them
        ``cv=k`` means :class:`sklearn.model_selection.GroupKFold`, without them contiguous
        :class:`sklearn.model_selection.KFold`; neither draws random numbers.
    cv : int, "leave-one-group-out", scikit-learn splitter or iterable of (train, test)
        Number of folds (fewer where there are fewer groups), one fold for each group (each run, where groups
        are runs), or the folds themselves.

    Returns
    -------
    list of (train, test)
        Index arrays.

    Raises
    ------
    InputError
        Where there are fewer than two groups, or a given fold separates samples of a group.
    """
    from sklearn.model_selection import GroupKFold, KFold, LeaveOneGroupOut, check_cv

    labels = None if groups is None else np.asarray(groups)
    if labels is not None and labels.shape != (n_samples,):
        raise InputError(
            "`groups` needs one label for each sample",
            given=f"shape {labels.shape}",
            expected=f"({n_samples},)",
        )
    if isinstance(cv, int | np.integer) and not isinstance(cv, bool):
        n_groups = n_samples if labels is None else len(np.unique(labels))
        if cv < 2 or n_groups < 2:
            raise InputError(
                "cross-validation needs at least two folds of at least one group each",
                given=f"cv={cv}, {n_groups} {'samples' if labels is None else 'groups'}",
                expected="cv of 2 or more, and two groups or more",
                todo="give alpha as one number to fit without cross-validation",
            )
        n_splits = min(int(cv), n_groups)
        splitter = KFold(n_splits) if labels is None else GroupKFold(n_splits)
    elif isinstance(cv, str):
        splitter = LeaveOneGroupOut()
        if cv != LEAVE_ONE_GROUP_OUT or labels is None or len(np.unique(labels)) < 2:
            raise InputError(
                "cross-validation cannot be done in this way",
                given=f"cv={cv!r}, {'no groups' if labels is None else f'{len(np.unique(labels))} group(s)'}",
                expected=f"a number of folds, or {LEAVE_ONE_GROUP_OUT!r} with two groups (runs) or more",
            )
    else:
        splitter = check_cv(cv)
    with warnings.catch_warnings():
        # Splitters that know no groups say so; whether they keep groups together is checked below.
        warnings.filterwarnings("ignore", message="The groups parameter is ignored")
        splits = list(splitter.split(np.zeros((n_samples, 1)), np.zeros(n_samples), labels))
    folds = [(np.asarray(train), np.asarray(test)) for train, test in splits]
    for train, test in folds:
        if not len(train) or not len(test):
            raise InputError("a fold has no samples to fit on, or none to score", given=f"cv={cv!r}")
        if labels is not None and np.isin(labels[test], labels[train]).any():
            raise InputError(
                "a fold puts samples of one group (repeats of one stimulus) on both sides",
                given=f"cv={cv!r}",
                expected="folds that keep groups together",
                todo="use cv=<number of folds> or a grouped splitter such as GroupKFold",
            )
    return folds
